"""What the sinks that write files share: private directories, locks, directories on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

__all__ = ["lock", "make_private", "sync_directory"]


def lock(fd: int, timeout_seconds: float, path: str, *, shared: bool = False) -> None:
    """Takes the lock of an open file, which ends with the file or ``LOCK_UN``.

    Raises:
        TimeoutError: Another process held it for too long.
    """
    deadline = time.monotonic() + timeout_seconds
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        try:
            return fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another writer holds the lock", path) from None
        time.sleep(0.001)


def make_private(directory: str) -> None:
    """Makes a directory and those above it that are missing, each with mode 0700."""
    # Not `os.makedirs`: its mode is for the last directory only.
    if not os.path.isdir(directory):
        make_private(os.path.dirname(directory))
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)


def sync_directory(path: str) -> None:
    """Asks for a directory's entries to reach the disk.

    Raises:
        OSError: The disk refused.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
