"""What is asked of an SQLite file before it is opened: nobody else may have had a hand in it."""

from __future__ import annotations

import contextlib
import os
import stat

from omnibase.core.registry.store import FindingCode, Tampered

__all__ = ["check_directory", "check_file", "create_file"]

_BESIDE = ("", "-wal", "-shm", "-journal")


def check_file(path: str) -> None:
    """Refuses a database that others may write, or that is not a plain file.

    It and what SQLite keeps beside it must be regular, have one name, and belong to
    root or the caller, and so must the directory: in one like ``/tmp`` another user
    may put a journal beside it.

    Raises:
        Tampered: One of these does not hold.
    """
    check_directory(path)
    for suffix in _BESIDE:
        name = os.path.basename(path) + suffix
        try:
            status = os.lstat(path + suffix)
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(status.st_mode):
            raise Tampered(name, FindingCode.LINK, "it is a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise Tampered(name, FindingCode.NOT_REGULAR, "it is not a regular file")
        if status.st_nlink > 1:
            raise Tampered(name, FindingCode.LINK, "it has a second name (a hard link)")
        _check_owner(name, status)


def check_directory(path: str) -> None:
    """Refuses a database in a directory that others may write; see `check_file`."""
    directory = os.path.dirname(path)
    _check_owner(directory, os.lstat(directory))


def _check_owner(name: str, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        message = f"it belongs to user {status.st_uid}, neither root nor the caller"
        raise Tampered(name, FindingCode.PERMISSIONS, message)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"others may write it (mode {stat.S_IMODE(status.st_mode):04o})"
        raise Tampered(name, FindingCode.PERMISSIONS, message)


def create_file(path: str) -> None:
    """Makes an empty database that only its owner may write, whatever the umask says."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(fd, 0o644)  # what SQLite puts beside it gets the same
        finally:
            os.close(fd)
