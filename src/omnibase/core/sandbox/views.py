"""A tree that is only read, with parts left out: a view of it, made of mounts.

A mask that merely covers a path does not hold: when the host renames something
over a mount point, kernels (the host's, and the Sentry) drop the mount, and what
took its place shows. So each directory above a mask is made anew, in memory, and
everything in it but the mask is mounted there, as it was when the run began.
Nothing that happens on the host brings what is left out into the view.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from omnibase.core.sandbox import _sys
from omnibase.errors import CapabilityError

__all__ = ["MAX_VIEW_ENTRIES", "make_view"]

MAX_VIEW_ENTRIES: Final = 4096
"""Entries, of all directories above masks together, that one view may have."""

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SAFE: Final = _sys.MS_NOSUID | _sys.MS_NODEV | _sys.MS_NOEXEC
_FREEZE: Final = _sys.MS_REMOUNT | _sys.MS_BIND | _sys.MS_RDONLY | _SAFE


class _View:
    def __init__(
        self,
        path: str,
        capability: str,
        mount: Callable[[int, str], None],
        shown: Callable[[os.stat_result], tuple[int, int]],
    ) -> None:
        self._path = path
        self._capability = capability
        self._mount = mount
        self._shown = shown
        self._left = MAX_VIEW_ENTRIES

    def fill(self, fd: int, place: str, masks: list[list[str]]) -> None:
        """Shows a directory at a place, without the masks, each given by its names below it."""
        listing = os.open(".", _LIST, dir_fd=fd)
        try:
            names = os.listdir(listing)
        finally:
            os.close(listing)
        self._left -= len(names)
        if self._left < 0:
            raise CapabilityError(
                f"the directories above the masks in `{self._path}` hold more than "
                f"{MAX_VIEW_ENTRIES} entries",
                details={"capability": self._capability},
                hint="request the parts of the tree that are permitted, one by one",
            )
        for name in names:
            below = [mask[1:] for mask in masks if mask[0] == name]
            try:
                inner = os.open(name, _ENTRY, dir_fd=fd)
            except FileNotFoundError:
                continue  # removed in between
            try:
                self._show(inner, f"{place}/{name}", below)
            finally:
                os.close(inner)
        status = os.stat(fd)
        os.chown(place, *self._shown(status))
        os.chmod(place, stat.S_IMODE(status.st_mode))
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _show(self, fd: int, place: str, masks: list[list[str]]) -> None:
        mode = os.stat(fd).st_mode
        left_out = [] in masks
        if stat.S_ISDIR(mode):
            os.mkdir(place, 0o555)
            if masks and not left_out:
                self.fill(fd, place, masks)
                return
        elif stat.S_ISLNK(mode) and not left_out:
            os.symlink(os.readlink("", dir_fd=fd), place)
            return
        else:
            # Without a mode bit: an attempt to open what is left out is refused.
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0))
        if not left_out:
            self._mount(fd, place)


def make_view(
    fd: int,
    place: str,
    masks: list[str],
    *,
    path: str,
    capability: str,
    mount: Callable[[int, str], None],
    shown: Callable[[os.stat_result], tuple[int, int]],
) -> None:
    """Shows a directory, parts of it left out, at an empty directory.

    To be called in a run's own mount namespace.

    Args:
        fd: The directory, ``O_PATH``.
        place: Where to show it.
        masks: What to leave out: paths below the directory, relative to it.
        path: The directory's path, for errors.
        capability: The grant, for errors.
        mount: Mounts what a descriptor refers to at a place, read-only.
        shown: The user and group that a file is to be shown with.

    Raises:
        CapabilityError: There are too many entries beside the masks.
        OSError: The kernel refused something.
    """
    _sys.mount("view", place, "tmpfs", _SAFE, "mode=755,size=16m,nr_inodes=16384")
    view = _View(path, capability, mount, shown)
    view.fill(fd, place, [mask.split("/") for mask in masks])
    _sys.mount(None, place, None, _FREEZE)
