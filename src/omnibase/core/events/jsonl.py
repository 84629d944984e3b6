"""The JSONL sink: one file, one line per event, appended and never rewritten."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from typing import Literal, TypeAlias

from omnibase.core.events.files import lock, make_private, sync_directory
from omnibase.core.events.model import Event

Fsync: TypeAlias = Literal["never", "close", "always"]

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY


class JsonlSink:
    """Appends events to a file, which several sinks and processes may share.

    Each event is one ``write`` under the file's lock, so lines never mix. A
    process that dies while it writes can leave one torn line; the next event, from
    whatever process, starts on a line of its own. A reader skips a line that
    `Event.from_json` refuses.

    Args:
        path: The file; it is created with mode 0600, and missing directories with
            mode 0700. A symbolic link in its place is refused.
        fsync: ``never`` leaves it to the kernel when data reaches the disk,
            ``close`` asks for it in `flush` and `close`, ``always`` in each `emit`.
        lock_timeout_seconds: How long `emit` waits for another writer.

    Raises:
        ValueError: ``fsync`` is none of the three words.
        OSError: The file cannot be opened, or is not a regular file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: Fsync = "close",
        lock_timeout_seconds: float = 2.0,
    ) -> None:
        if fsync not in ("never", "close", "always"):
            raise ValueError(f"`fsync={fsync}` is none of `never`, `close`, `always`")
        self.path = os.path.abspath(path)
        self._fsync = fsync
        self._lock_timeout = lock_timeout_seconds
        self._lock = threading.Lock()
        self._closed = False
        self._fd = self._open()
        self._pid = os.getpid()

    def emit(self, event: Event, /) -> None:
        """Appends the event as one line.

        Raises:
            RuntimeError: The sink is closed.
            TimeoutError: Another writer kept the file locked for too long.
            OSError: The line could not be written whole, or not synchronised.
        """
        line = event.to_json().encode("ascii") + b"\n"
        self._after_fork()
        with self._lock:
            if self._closed:
                raise RuntimeError("the sink is closed")
            lock(self._fd, self._lock_timeout, self.path)
            try:
                self._append(line)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            if self._fsync == "always":
                os.fdatasync(self._fd)

    def flush(self, timeout_seconds: float, /) -> bool:
        """Synchronises the file with the disk, unless ``fsync="never"``.

        The kernel takes no deadline for that, so the timeout has no effect.

        Raises:
            OSError: The disk refused; what was emitted may not be on it.
        """
        self._after_fork()
        with self._lock:
            if not self._closed and self._fsync == "close":
                os.fdatasync(self._fd)
        return True

    def close(self) -> None:
        """Synchronises as `flush` does and closes the file; may be called twice."""
        self._after_fork()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._fsync == "close":
                    os.fdatasync(self._fd)
            finally:
                os.close(self._fd)

    def _open(self) -> int:
        make_private(os.path.dirname(self.path))
        fd = os.open(self.path, _FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", self.path)
            if self._fsync != "never":
                # A new file is on the disk only once its directory entry is.
                sync_directory(os.path.dirname(self.path))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _after_fork(self) -> None:
        """Gives a forked child its own file description, since ``flock`` locks that."""
        if self._pid == os.getpid():
            return
        # Whoever held the lock when the process forked does not exist here.
        self._lock = threading.Lock()
        if not self._closed:
            fd = self._open()
            os.close(self._fd)
            self._fd = fd
        self._pid = os.getpid()

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        left = memoryview(line)
        while left:  # a second round only after a short write, e.g. on a full disk
            left = left[os.write(self._fd, left) :]
