"""System calls that Python 3.11's standard library does not offer."""

from __future__ import annotations

import ctypes
import os
from typing import Final

__all__ = [
    "CLONE_NEWNS", "CLONE_NEWPID", "MOUNT_ATTR_IDMAP", "MOUNT_ATTR_NODEV", "MOUNT_ATTR_NOSUID",
    "MOUNT_ATTR_NOSYMFOLLOW", "MOUNT_ATTR_RDONLY", "MS_BIND", "MS_NODEV", "MS_NOEXEC",
    "MS_NOSUID", "MS_PRIVATE", "MS_RDONLY", "MS_REC", "MS_REMOUNT", "MS_SHARED", "MS_SLAVE",
    "mount", "mount_setattr", "move_mount", "open_tree_clone", "setns", "unmount", "unshare",
]  # fmt: skip

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWPID: Final = 0x2000_0000
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x4_0000
MS_SLAVE: Final = 0x8_0000
MS_SHARED: Final = 0x10_0000
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_IDMAP: Final = 0x10_0000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x20_0000

# Numbers are the same on every architecture that has the generic table (x86-64, arm64).
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_EMPTY_PATH, _AT_RECURSIVE, _AT_FDCWD = 0x1000, 0x8000, -100
_MNT_DETACH = 2
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    """Moves the calling thread (only) into new namespaces."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flag: int) -> None:
    """Moves the calling thread (only) into the namespace of a descriptor."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flag)), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    _checked(
        _libc.mount(
            _bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)
        ),
        f"mount {target}",
    )


def unmount(target: str) -> None:
    """umount2(2), lazily: what has it open keeps it."""
    _checked(_libc.umount2(_bytes(target), _MNT_DETACH), f"unmount {target}")


def open_tree_clone(fd: int) -> int:
    """Returns a detached copy of the mount at a descriptor, its submounts included."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
    return _checked(_libc.syscall(_OPEN_TREE, fd, b"", ctypes.c_uint(flags)), "open_tree")


def mount_setattr(fd: int, attributes: int, userns_fd: int = 0) -> None:
    """Sets attributes of a detached mount and everything below it."""
    attr = _MountAttr(attr_set=attributes, userns_fd=userns_fd)
    flags = ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE)
    _checked(
        _libc.syscall(_MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr)),
        "mount_setattr",
    )


def move_mount(fd: int, target: str) -> None:
    """Attaches a detached mount at a path."""
    _checked(
        _libc.syscall(
            _MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target),
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
        ),
        f"move_mount {target}",
    )  # fmt: skip
