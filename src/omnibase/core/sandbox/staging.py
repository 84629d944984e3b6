"""Mounting what file grants name, in a run's private mount namespace.

Each mount is made from a descriptor (``open_tree``), never from a path. Nothing is
to be unmounted afterwards, and a crash leaves no mount behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from typing import Final

from omnibase.core.sandbox import _runsc, _sys
from omnibase.core.sandbox.resolving import StagedMount
from omnibase.core.sandbox.views import make_view
from omnibase.errors import CapabilityError

__all__ = ["not_mounted", "stage"]

_NOBODY: Final = 65534
# Not noexec: the host's kernel would then refuse to map the code of a native module.
# That the script can start nothing from a grant is the guest's affair, where the
# agent mounts it noexec.
_SAFE: Final = _sys.MOUNT_ATTR_NOSUID | _sys.MOUNT_ATTR_NODEV


def stage(
    mounts: tuple[StagedMount, ...],
    directory: str,
    left_out: Mapping[str, tuple[str, ...]] | None = None,
    prefix: str = "",
) -> list[tuple[str, str, bool, bool]]:
    """Mounts each under ``directory/<prefix><n>`` in the current mount namespace.

    Args:
        mounts: What was resolved.
        directory: Where to mount it.
        left_out: Paths below a mount to leave out, by the mount's path.
        prefix: Keeps what is staged at different times apart.

    Returns:
        ``(guest source, guest target, is directory, writable)`` for the agent.

    Raises:
        CapabilityError: The kernel refused a mount, or the script's user could
            not use the file and its owner cannot be mapped.
    """
    rows = []
    for number, mount in enumerate(mounts):
        place = f"{directory}/{prefix}{number}"
        if mount.is_directory:
            os.mkdir(place, 0o755)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        try:
            below = (left_out or {}).get(mount.path)
            if below:
                _mount_view(mount, place, list(below))
            else:
                _mount_one(mount, place)
        except OSError as error:
            raise not_mounted(mount.path, error, mount.capability) from error
        rows.append((f"/grants/{prefix}{number}", mount.path, mount.is_directory, mount.writable))
    return rows


def not_mounted(path: str, error: OSError, capability: str) -> CapabilityError:
    """Returns what to raise if the kernel did not mount what is granted.

    It attaches nothing that has no name any more: whoever replaces a file between its
    check and its mount has it refused.
    """
    replaced = error.errno == errno.ENOENT
    return CapabilityError(
        f"`{path}` was replaced or removed while it was being mounted"
        if replaced
        else f"`{path}` cannot be mounted: {error}",
        details={"capability": capability},
        hint="run it again once nobody else changes it"
        if replaced
        else "OmniBase needs Linux 5.12 and CAP_SYS_ADMIN; see `omnibase doctor`",
    )


def _mount_view(mount: StagedMount, place: str, left_out: list[str]) -> None:
    top = os.stat(mount.fd)
    with contextlib.ExitStack() as stack:
        namespace = -1
        if (top.st_uid, top.st_gid) != (_NOBODY, _NOBODY):
            with contextlib.suppress(OSError):
                namespace = _runsc.hold_user_namespace(
                    _identity_but(top.st_uid), _identity_but(top.st_gid)
                )
                stack.callback(os.close, namespace)

        def mount_entry(fd: int, entry: str) -> None:
            tree = _sys.open_tree_clone(fd)
            try:
                if namespace >= 0:
                    # Where the filesystem cannot, its own mode bits decide.
                    with contextlib.suppress(OSError):
                        _sys.mount_setattr(tree, _sys.MOUNT_ATTR_IDMAP, namespace)
                _sys.mount_setattr(tree, _SAFE | _sys.MOUNT_ATTR_RDONLY)
                _sys.move_mount(tree, entry)
            finally:
                os.close(tree)

        def shown(status: os.stat_result) -> tuple[int, int]:
            user = _NOBODY if status.st_uid == top.st_uid else status.st_uid
            return user, _NOBODY if status.st_gid == top.st_gid else status.st_gid

        make_view(
            mount.fd,
            place,
            left_out,
            path=mount.path,
            capability=mount.capability,
            mount=mount_entry,
            shown=shown,
        )


def _mount_one(mount: StagedMount, place: str) -> None:
    attributes = _SAFE if mount.writable else _SAFE | _sys.MOUNT_ATTR_RDONLY
    status = os.stat(mount.fd)
    tree = _sys.open_tree_clone(mount.fd)
    try:
        if status.st_uid != _NOBODY or status.st_gid != _NOBODY:
            _map_owner(tree, status, mount)
        _sys.mount_setattr(tree, attributes)
        _sys.move_mount(tree, place)
    finally:
        os.close(tree)


def _map_owner(tree: int, status: os.stat_result, mount: StagedMount) -> None:
    """Shows the owner's files as nobody's, so that the grant opens what it names.

    New files belong to the owner on the host. Where the filesystem cannot do
    this, the mode bits for others decide, and if they refuse, so do we.
    """
    uids, gids = _identity_but(status.st_uid), _identity_but(status.st_gid)
    try:
        namespace = _runsc.hold_user_namespace(uids, gids)
        try:
            _sys.mount_setattr(tree, _sys.MOUNT_ATTR_IDMAP, namespace)
        finally:
            os.close(namespace)
        return
    except OSError:
        pass
    needed = stat.S_IROTH | (stat.S_IWOTH if mount.writable else 0)
    if mount.is_directory:
        needed |= stat.S_IXOTH
    if status.st_mode & needed != needed:
        raise CapabilityError(
            f"`{mount.path}` is granted, but its mode {stat.S_IMODE(status.st_mode):04o} keeps the "
            "script's user out, and this filesystem cannot map owners",
            details={"capability": mount.capability},
            hint=f"`chmod o+r{'w' if mount.writable else ''}{'x' if mount.is_directory else ''} "
            f"{mount.path}`",
        )


def _identity_but(owner: int) -> str:
    """A user-namespace map that is the identity, with the owner shown as nobody."""
    if owner == _NOBODY:
        return "0 0 4294967295"
    low, high = sorted((owner, _NOBODY))
    rows = [
        (0, 0, low),
        (low + 1, low + 1, high - low - 1),
        (high + 1, high + 1, 4294967294 - high),
    ]
    rows += [(owner, _NOBODY, 1), (_NOBODY, owner, 1)]
    return "\n".join(f"{a} {b} {n}" for a, b, n in rows if n > 0)
