"""Who may change where a path leads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final

__all__ = ["exposed"]

_MAX_LINKS: Final = 40  # as Linux follows


def exposed(path: str) -> str | None:
    """Returns the first directory or file on a path's way in which others than root may write.

    In a directory with the sticky bit each may replace what is theirs alone. The group of
    one that root owns is trusted: Debian gives `/usr/local` to `staff`.

    Args:
        path: Absolute; links in it are followed.

    Raises:
        OSError: It leads nowhere.
    """
    for step in _way(path):
        status = os.lstat(step)
        loose = 0
        if stat.S_ISREG(status.st_mode):
            loose = stat.S_IWGRP | stat.S_IWOTH
        elif stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_ISVTX:
            loose = stat.S_IWOTH
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & loose:
            return step
    return None


def _way(path: str) -> Iterator[str]:
    """Yields all that a path leads through, links and their targets included."""
    here, rest, links = "/", path.split("/"), 0
    yield here
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        step = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        yield step
        if os.path.islink(step):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(step)
            here, rest = "/" if target.startswith("/") else here, [*target.split("/"), *rest]
        else:
            here = step
