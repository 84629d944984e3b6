"""What directories that are built once and named by their content have in common."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "manifest_digest", "stamps_of"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock on a file, which is made if need be."""
    with open(path, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stamps_of(paths: Iterable[str]) -> list[tuple[str, int, int]]:
    """Returns what tells that a file has changed: ``(path, size, time in ns)``."""
    stamps = []
    for path in paths:
        status = os.stat(path)
        stamps.append((path, status.st_size, status.st_mtime_ns))
    return stamps


def manifest_digest(root: Path) -> str:
    """Returns the SHA-256 over path, mode and content of everything below a directory."""
    digest = hashlib.sha256()
    for directory, subdirs, files in os.walk(root):
        subdirs.sort()
        for name in subdirs:
            path = os.path.join(directory, name)
            digest.update(repr((os.path.relpath(path, root), os.lstat(path).st_mode)).encode())
        for name in sorted(files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                content = os.readlink(path).encode()
            else:
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            digest.update(repr((relative, status.st_mode, content)).encode())
    return digest.hexdigest()
