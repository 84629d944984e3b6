"""Files of a directory that may be hostile: nothing is followed, waited for or trusted.

Every path is a tuple of names below a root; each directory on the way is opened by
itself, so that no link is followed anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from omnibase.core.registry.store import FindingCode, Tampered
from omnibase.errors import RegistryError

__all__ = ["Tree"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID
_POLL_SECONDS = 0.002

Path = tuple[str, ...]


class Lock(NamedTuple):
    """What a caller has of the registry's lock.

    Attributes:
        held: Nobody else writes; else the caller may not take the lock.
        writable: The caller may write.
    """

    held: bool
    writable: bool


class Tree:
    """A directory, its files read with suspicion and written atomically.

    Args:
        root: The directory; made by the first write.
        durable: Whether a write is on the disk, not only with the kernel, when it
            returns.
    """

    def __init__(self, root: str, *, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self._uids = (0, os.geteuid())

    def read(self, path: Path, limit: int) -> bytes | None:
        """Returns a file's bytes, or ``None`` if it is not there."""
        with self._opened(path) as fd:
            if fd is None:
                return None
            size = self._checked(path, fd)
            if size > limit:
                self._too_large(path, limit)
            data = b""
            # One byte past the limit shows that the file has grown since.
            while chunk := os.read(fd, limit + 1 - len(data)):
                data += chunk
        if len(data) > limit:
            self._too_large(path, limit)
        return data

    def read_at(self, path: Path, offset: int, size: int) -> bytes | None:
        """Returns a part of a file; ``None`` without the file, less at its end."""
        with self._opened(path) as fd:
            if fd is None:
                return None
            self._checked(path, fd)
            return os.pread(fd, size, offset)

    def size(self, path: Path) -> int:
        """Returns a file's size, 0 if it is not there."""
        with self._opened(path) as fd:
            return 0 if fd is None else self._checked(path, fd)

    def size_unread(self, name: str) -> int:
        """Returns the size of a file of the root that the caller may not open."""
        try:
            return os.lstat(os.path.join(self.root, name)).st_size
        except FileNotFoundError:
            return 0

    def may_open(self, name: str) -> bool:
        """Says whether the caller may open a file of the root, or there is none."""
        path = os.path.join(self.root, name)
        return not os.path.lexists(path) or os.access(path, os.R_OK, effective_ids=True)

    def chunks(self, path: Path, size: int) -> Iterator[bytes]:
        """Yields a file in parts of a size; the last may be shorter."""
        with self._opened(path) as fd:
            if fd is None:
                return
            self._checked(path, fd)
            with open(fd, "rb", buffering=1 << 20, closefd=False) as file:
                while chunk := file.read(size):
                    yield chunk

    def exists(self, path: Path) -> bool:
        """Says whether there is anything of that name; in doubt there is."""
        try:
            os.lstat(os.path.join(self.root, *path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def names(self, path: Path) -> list[str]:
        """Returns what a directory holds, unsorted; nothing if it is not there."""
        with self._directory(path) as fd:
            if fd is None:
                return []
            try:
                return os.listdir(fd)
            except OSError as error:
                self._failed(path, error)

    def write(self, path: Path, data: bytes) -> None:
        """Puts a whole file in place of what was there, at once."""
        *folders, name = path
        draft = f".{name}.tmp"
        with self._made(tuple(folders)) as folder:
            # Never written through: whatever has that name is removed, then made anew.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
            fd = os.open(draft, _CREATE, 0o644, dir_fd=folder)
            try:
                _write_all(fd, data)
                self._sync(fd)
            finally:
                os.close(fd)
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._sync(folder)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Makes a file end with the data, from an offset on."""
        *folders, name = path
        with self._made(tuple(folders)) as folder:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(name, flags, 0o644, dir_fd=folder)
            try:
                self._checked(path, fd)
                os.ftruncate(fd, offset)
                os.lseek(fd, offset, os.SEEK_SET)
                _write_all(fd, data)
                self._sync(fd)
            finally:
                os.close(fd)
            if not offset:
                self._sync(folder)

    def remove(self, path: Path) -> None:
        """Removes a file, if it is there."""
        *folders, name = path
        with self._directory(tuple(folders)) as folder:
            if folder is None:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
                self._sync(folder)

    @contextlib.contextmanager
    def locked(self, name: str, seconds: float, *, make: bool) -> Iterator[Lock]:
        """Holds the lock on a file of the root, if the caller may; yields what it has.

        A lock whose holder dies is free again.

        Args:
            make: Whether to make the directory and the file; else a registry that
                may only be read is locked as far as that goes.

        Raises:
            RegistryError: The lock was not free in time, or cannot be used.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._directory((), make=make) as folder:
                if folder is None:
                    yield Lock(held=True, writable=False)  # there is nothing to lock
                    return
                fd, writable = self._open_lock(folder, name, make)
                if fd is None:
                    yield Lock(held=False, writable=False)
                    return
                try:
                    _wait(fd, writable, deadline, seconds)
                    # Somebody may have removed the file that this is the lock of.
                    if self._is_current(folder, name, fd):
                        yield Lock(held=True, writable=writable)
                        return
                finally:
                    os.close(fd)

    def _open_lock(self, folder: int, name: str, make: bool) -> tuple[int | None, bool]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            # Whoever can open it can hold up every change.
            fd = os.open(name, flags, 0o600, dir_fd=folder)
            if os.fstat(fd).st_mode & 0o077:
                with contextlib.suppress(OSError):
                    os.fchmod(fd, 0o600)
            return fd, True
        except OSError as error:
            if make or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                self._failed((name,), error)
        try:
            return os.open(name, _READ, dir_fd=folder), False
        except (FileNotFoundError, PermissionError):
            return None, False
        except OSError as error:
            self._failed((name,), error)

    def _is_current(self, folder: int, name: str, fd: int) -> bool:
        mine = os.fstat(fd)
        try:
            theirs = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if (mine.st_dev, mine.st_ino) != (theirs.st_dev, theirs.st_ino):
            return False
        self._checked((name,), fd)
        return True

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[int | None]:
        *folders, name = path
        with self._directory(tuple(folders)) as folder:
            if folder is None:
                yield None
                return
            try:
                fd = os.open(name, _READ, dir_fd=folder)
            except FileNotFoundError:
                yield None
                return
            except OSError as error:
                self._failed(path, error)
            try:
                yield fd
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _made(self, path: Path) -> Iterator[int]:
        with self._directory(path, make=True) as fd:
            if fd is None:
                # Somebody removed it at once; and no descriptor would mean the
                # working directory.
                raise FileNotFoundError(errno.ENOENT, "a directory has vanished")
            yield fd

    @contextlib.contextmanager
    def _directory(self, path: Path, *, make: bool = False) -> Iterator[int | None]:
        """Opens a directory; ``None`` if it is not there and not made."""
        fd = self._open_root(make)
        if fd is None:
            yield None
            return
        try:
            for depth, name in enumerate(path, 1):
                inner = self._open_folder(fd, path[:depth], name, make)
                os.close(fd)
                fd = -1
                if inner is None:
                    yield None
                    return
                fd = inner
            yield fd
        finally:
            if fd >= 0:
                os.close(fd)

    def _open_root(self, make: bool) -> int | None:
        try:
            if make:
                os.makedirs(self.root, 0o755, exist_ok=True)
            fd = os.open(self.root, _DIRECTORY)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed((), error)
        return self._checked_folder((), fd)

    def _open_folder(self, outer: int, path: Path, name: str, make: bool) -> int | None:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=outer)
                self._sync(outer)
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=outer)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(path, error)
        return self._checked_folder(path, fd)

    def _checked_folder(self, path: Path, fd: int) -> int:
        try:
            self._check_owner(path, os.fstat(fd))
        except Tampered:
            os.close(fd)
            raise
        return fd

    def _check_owner(self, path: Path, status: os.stat_result) -> None:
        shown = "/".join(path) or "."
        if status.st_uid not in self._uids:
            message = f"it belongs to user {status.st_uid}, neither root nor the caller"
            raise Tampered(shown, FindingCode.PERMISSIONS, message)
        # A directory's set-group-ID bit only hands its group down.
        refused = stat.S_IWGRP | stat.S_IWOTH if stat.S_ISDIR(status.st_mode) else _OTHERS_WRITE
        if status.st_mode & refused:
            message = f"others may write it (mode {stat.S_IMODE(status.st_mode):04o})"
            raise Tampered(shown, FindingCode.PERMISSIONS, message)

    def _checked(self, path: Path, fd: int) -> int:
        """Refuses what is not a regular file of the owner's alone; returns its size."""
        status = os.fstat(fd)
        shown = "/".join(path)
        if not stat.S_ISREG(status.st_mode):
            raise Tampered(shown, FindingCode.NOT_REGULAR, "it is not a regular file")
        # None: a file that has just been replaced under its reader.
        if status.st_nlink > 1:
            raise Tampered(shown, FindingCode.LINK, "it has a second name (a hard link)")
        self._check_owner(path, status)
        return status.st_size

    def _too_large(self, path: Path, limit: int) -> NoReturn:
        message = f"it is larger than {limit} bytes"
        raise Tampered("/".join(path), FindingCode.TOO_LARGE, message)

    def _failed(self, path: Path, error: OSError) -> NoReturn:
        """Raises what an attempt to open means."""
        shown = "/".join(path) or "."
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            if os.path.islink(os.path.join(self.root, *path)):
                raise Tampered(shown, FindingCode.LINK, "it is a symbolic link") from None
            raise Tampered(shown, FindingCode.NOT_REGULAR, "it is not what belongs there") from None
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC):
            raise RegistryError(
                f"the registry `{self.root}` cannot be used: {(error.strerror or '').lower()}",
                details={"reason": "unavailable"},
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RegistryError(
                f"`{shown}` of the registry `{self.root}` may not be opened: "
                f"{(error.strerror or '').lower()}",
                details={"reason": "unavailable", "file": shown},
                hint="run it as the registry's owner, or as root",
            ) from error
        message = f"it cannot be opened: {(error.strerror or str(error)).lower()}"
        raise Tampered(shown, FindingCode.UNREADABLE, message) from None

    def _sync(self, fd: int) -> None:
        if self.durable:
            os.fsync(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _wait(fd: int, exclusive: bool, deadline: float, seconds: float) -> None:
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RegistryError(
                    f"the registry has been locked for {seconds:g} seconds",
                    details={"reason": "busy"},
                    hint="another process is writing; try again",
                ) from None
        time.sleep(_POLL_SECONDS)
