"""The audit log: a sink that appends events to a chain of records, in segments."""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

from omnibase.core.audit.chain import Head
from omnibase.core.audit.places import reserve
from omnibase.core.audit.segments import LOCK
from omnibase.core.audit.writing import Writer
from omnibase.core.events.files import lock, make_private
from omnibase.core.events.model import Event

__all__ = ["AuditLog", "Fsync"]

Fsync: TypeAlias = Literal["never", "close", "batch", "always"]

BATCH_EVENTS: Final = 256
BATCH_SECONDS: Final = 1.0
CHECKPOINT_EVERY: Final = 1000
SEGMENT_BYTES: Final = 64 << 20


class AuditLog:
    """Appends events to a directory, which several logs and processes may share.

    Each record is one ``write`` under the log's lock and commits to the one before.
    What a killed process left of a record stays where it is, and the next record
    says so. What could not be written is counted, and the next record that can be
    written says that, too.

    `emit` returns within the time that the lock takes, at most
    ``lock_timeout_seconds``, and that the disk takes for what ``fsync`` asks of it,
    for which the kernel has no deadline. Every ``checkpoint_every`` records it signs
    all that came before.

    Args:
        directory: The log's own; it and what is missing above it are made, mode 0700.
        fsync: ``never`` leaves it to the kernel when data reaches the disk, ``close``
            asks for it in `flush` and `close`, ``batch`` also before 256 events or
            one second have passed, ``always`` in each `emit`.
        lock_timeout_seconds: How long `emit` waits for other writers.
        segment_bytes: A segment that has reached this is followed by a new one.
        checkpoint_every: Records between checkpoints; 0 for none. A key is made if
            there is none. Without the ``cryptography`` library there are none.

    Raises:
        ValueError: An argument is out of range.
        OSError: The directory cannot be used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        fsync: Fsync = "batch",
        lock_timeout_seconds: float = 2.0,
        segment_bytes: int = SEGMENT_BYTES,
        checkpoint_every: int = CHECKPOINT_EVERY,
    ) -> None:
        if fsync not in ("never", "close", "batch", "always"):
            raise ValueError(f"`fsync={fsync}` is none of `never`, `close`, `batch`, `always`")
        if segment_bytes < 1 or checkpoint_every < 0:
            raise ValueError("`segment_bytes` or `checkpoint_every` is out of range")
        self.directory = Path(os.path.abspath(directory))
        self._fsync = fsync
        self._lock_timeout = lock_timeout_seconds
        self._writer = Writer(
            self.directory,
            durable=fsync != "never",
            segment_bytes=segment_bytes,
            checkpoint_every=checkpoint_every,
        )
        self._lock = threading.Lock()
        self._closed = False
        self._unsynced = 0
        self._failed: OSError | None = None
        self._timer: _thread.LockType | None = None
        self._fd = self._open()
        self._pid = os.getpid()
        reserve(str(self.directory))

    def emit(self, event: Event, /) -> None:
        """Appends the event as one record.

        Raises:
            RuntimeError: The log is closed.
            TimeoutError: Other writers kept the lock for too long.
            OSError: The record could not be written, and nothing of it was kept; or,
                with ``fsync="always"``, it may not be on the disk.
        """
        body = event.to_json()
        self._after_fork()
        with self._lock:
            if self._closed:
                raise RuntimeError("the audit log is closed")
            self._append(body)
            self._unsynced += 1
            if self._fsync == "always":
                self._sync()
            elif self._fsync == "batch":
                if self._unsynced >= BATCH_EVENTS:
                    self._sync_later_errors()
                elif self._timer is None:
                    self._start_timer()

    @property
    def head(self) -> Head:
        """The record that this log wrote last."""
        return self._writer.head

    def key(self) -> str:
        """Returns the public key that signs, and makes one if there is none.

        Raises:
            OSError, ValueError: It cannot be made or used.
        """
        with self._lock, self._locked():
            return self._writer.key().id

    def checkpoint(self, *, rotate_key: bool = False) -> str | None:
        """Signs all that was recorded, now.

        Args:
            rotate_key: The signature names a new key, which signs from here on.

        Returns:
            The public key that signed; ``None`` if there is no ``cryptography`` library.

        Raises:
            RuntimeError, OSError: As `emit`.
            ValueError: The key cannot be used.
        """
        self._after_fork()
        with self._lock:
            if self._closed:
                raise RuntimeError("the audit log is closed")
            with self._locked():
                key = self._writer.checkpoint(rotate_key=rotate_key)
            if self._fsync != "never":
                self._sync()
        return key

    def flush(self, timeout_seconds: float, /) -> bool:
        """Synchronises with the disk, unless ``fsync="never"``.

        The kernel takes no deadline for that, so the timeout has no effect.

        Raises:
            OSError: The disk refused, now or since the last time; what was emitted
                before may not be on it.
        """
        self._after_fork()
        with self._lock:
            if not self._closed:
                self._settle()
        return True

    def close(self) -> None:
        """Synchronises as `flush` does and closes the log; may be called twice."""
        self._after_fork()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._settle()
            finally:
                if self._timer is not None:
                    self._timer.release()
                self._writer.close()
                os.close(self._fd)

    def _open(self) -> int:
        make_private(str(self.directory))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
        return os.open(self.directory / LOCK, flags, 0o600)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock(self._fd, self._lock_timeout, str(self.directory))
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _append(self, body: str) -> None:
        try:
            with self._locked():
                self._writer.append(body)
        except Exception as error:
            self._writer.lose(1, f"{type(error).__name__}: {error}")
            raise

    def _sync(self) -> None:
        self._unsynced = 0
        try:
            self._writer.sync()
        except OSError as error:
            # What the disk refused once it may drop in silence, so this is kept.
            self._writer.lose(0, f"not known to be on the disk: {error}")
            raise

    def _sync_later_errors(self) -> None:
        """Synchronises; an error is raised by the next `flush`, as this event is kept."""
        try:
            self._sync()
        except OSError as error:
            self._failed = error

    def _settle(self) -> None:
        if self._fsync in ("close", "batch") and self._unsynced:
            self._sync()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _start_timer(self) -> None:
        # Not `threading.Timer`, which takes longer to make than an event does to write.
        self._timer = _thread.allocate_lock()
        self._timer.acquire()
        try:
            _thread.start_new_thread(self._tick, (self._timer,))
        except RuntimeError:  # no more threads: then at once
            self._timer = None
            self._sync_later_errors()

    def _tick(self, cancelled: _thread.LockType) -> None:
        if cancelled.acquire(timeout=BATCH_SECONDS):
            return
        with self._lock:
            self._timer = None
            if not self._closed and self._unsynced:
                self._sync_later_errors()

    def _after_fork(self) -> None:
        """Gives a forked child its own file descriptions, since ``flock`` locks those."""
        if self._pid == os.getpid():
            return
        # Whoever held the lock when the process forked does not exist here.
        self._lock = threading.Lock()
        self._timer = None
        self._unsynced = 0
        if not self._closed:
            fd = self._open()
            os.close(self._fd)
            self._fd = fd
            self._writer.close()
        self._pid = os.getpid()
