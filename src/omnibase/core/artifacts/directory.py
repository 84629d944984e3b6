"""Objects as files of a directory: written beside, synced, and moved into place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from typing import Final

from omnibase.core.artifacts.objects import Readable
from omnibase.errors import ArtifactError

__all__ = ["DirectoryObjects"]

_CHUNK: Final = 1 << 20
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DRAFTS: Final = "drafts"
_LOCK: Final = "lock"
_PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02


class DirectoryObjects:
    """See `Objects`. The directory is its owner's alone, and made by the first write.

    Args:
        path: The directory.
    """

    def __init__(self, path: str) -> None:
        self._root = os.path.realpath(path)

    @property
    def location(self) -> str:
        """See `Objects`."""
        return self._root

    @property
    def areas(self) -> tuple[str, ...]:
        """See `Objects`."""
        return (self._root,)

    def put(self, key: str, source: Readable) -> None:
        """See `Objects`."""
        draft = self._draft(source)
        try:
            target = self._made(key)
            os.rename(draft, target)
        except BaseException:
            os.unlink(draft)
            raise
        _sync(os.path.dirname(target))

    def create(self, key: str, data: bytes) -> bool:
        """See `Objects`."""
        import io

        draft = self._draft(io.BytesIO(data))
        try:
            target = self._made(key)
            os.link(draft, target)
        except FileExistsError:
            return False
        finally:
            os.unlink(draft)
        _sync(os.path.dirname(target))
        return True

    def get(self, key: str) -> Iterator[bytes]:
        """See `Objects`."""
        self._check()
        with open(os.open(self._path(key), _READ), "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            while chunk := file.read(_CHUNK):
                yield chunk

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Objects`."""
        if not self._check():
            return
        top = self._path(prefix.rstrip("/"))
        for folder, _, names in os.walk(top, onerror=_raise):
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), self._root)

    def delete(self, key: str) -> None:
        """See `Objects`."""
        path = self._path(key)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            _sync(os.path.dirname(path))

    @contextlib.contextmanager
    def held(self, *, alone: bool) -> Iterator[None]:
        """See `Objects`; who holds it alone also clears what a crash has left."""
        self._make()
        fd = os.open(
            self._path(_LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            _wait(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            if alone:
                for key in list(self.keys(_DRAFTS)):
                    self.delete(key)
            yield
        finally:
            os.close(fd)

    def _draft(self, source: Readable) -> str:
        """Writes a file of its own, and returns its path once it is on the disk."""
        self._make()
        path = self._made(f"{_DRAFTS}/{secrets.token_hex(16)}")
        with open(os.open(path, _CREATE, 0o600), "wb", buffering=0) as file:
            try:
                while view := memoryview(source.read(_CHUNK)):
                    while view:
                        view = view[file.write(view) :]
                os.fsync(file.fileno())
            except BaseException:
                os.unlink(path)
                raise
        return path

    def _made(self, key: str) -> str:
        """Returns the path of a key, its directory made."""
        folder = self._root
        for name in key.split("/")[:-1]:
            above, folder = folder, os.path.join(folder, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                _sync(above)
        return self._path(key)

    def _path(self, key: str) -> str:
        return os.path.join(self._root, key)

    def _make(self) -> None:
        if not self._check():
            os.makedirs(self._root, 0o700, exist_ok=True)
            self._check()

    def _check(self) -> bool:
        """Returns whether the directory is there, and refuses one that others may write to."""
        try:
            status = os.lstat(self._root)
        except FileNotFoundError:
            return False
        safe = stat.S_ISDIR(status.st_mode) and status.st_uid in (0, os.geteuid())
        if not safe or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ArtifactError(
                f"`{self._root}` is not a directory that only you can write to",
                details={"reason": "unavailable", "directory": self._root},
                hint=f"`chmod go-w {self._root}`, or name another directory with `--artifacts`",
            )
        return True


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _wait(fd: int, operation: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ArtifactError(
                    "the store of artifacts is in use",
                    details={"reason": "busy"},
                    hint="try again later",
                ) from None
            time.sleep(_POLL_SECONDS)
