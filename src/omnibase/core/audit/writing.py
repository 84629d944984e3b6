"""What is done under the log's lock: finding the end, appending, rotating, signing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core.audit.chain import (
    FORMAT,
    GENESIS,
    Head,
    compact,
    seal,
)
from omnibase.core.audit.segments import (
    Tail,
    find_tail,
    header_of,
    numbers,
    open_segment,
    segment_name,
)
from omnibase.core.events._fields import bounded, new_id, utc
from omnibase.core.events.files import sync_directory

if TYPE_CHECKING:
    from omnibase.core.audit.keys import SigningKey

__all__ = ["Writer"]

_MAX_REASON: Final = 500


class Writer:
    """The end of a log, as one process knows it. Every method needs the log's lock.

    Args:
        directory: The log's.
        durable: A new segment is on the disk before anything is appended to it.
        segment_bytes: Size from which a segment is followed by a new one.
        checkpoint_every: Records between checkpoints; 0 for none.
    """

    def __init__(
        self, directory: Path, *, durable: bool, segment_bytes: int, checkpoint_every: int
    ) -> None:
        self._directory = directory
        self._durable = durable
        self._segment_bytes = segment_bytes
        self._checkpoint_every = checkpoint_every
        self._fd = -1
        self._number = 0
        self._size = -1
        self._head = GENESIS
        self._torn: Tail | None = None
        self._lost = 0
        self._reason = ""
        self._cannot_sign = False

    @property
    def head(self) -> Head:
        """The last record, as far as known."""
        return self._head

    def append(self, event: str) -> None:
        """Appends an event's JSON.

        Raises:
            OSError: It could not be written; nothing of it was kept.
        """
        self._find_end()
        if self._size >= self._segment_bytes:
            self._follow()
        due = self._checkpoint_every and (
            self._head.seq + 1 - self._head.signed >= self._checkpoint_every
        )
        if due:
            with contextlib.suppress(ValueError):  # an unusable key costs no event
                self._sign(None)
        self._write("event", event)

    def checkpoint(self, *, rotate_key: bool) -> str | None:
        """Signs all there is; returns the key that did, or ``None`` if none can.

        Raises:
            OSError: It could not be written.
            ValueError: The key cannot be used.
        """
        from omnibase.core.audit.keys import SigningKey, available

        self._find_end()
        if not available():
            return None
        if not rotate_key:
            return self._sign(None)
        self._finish_rotation()
        new = SigningKey.new()
        new.save(self._directory, waiting=True)
        key = self._sign(new)
        SigningKey.promote(self._directory)
        return key

    def key(self, *, settled: bool = False) -> SigningKey:
        """Returns the key that signs, and makes one if there is none.

        Args:
            settled: Nothing is to be done about a key that waits.

        Raises:
            OSError, ValueError: It cannot be made or used.
        """
        from omnibase.core.audit.keys import SigningKey

        if not settled:
            self._find_end()
            self._finish_rotation()
        key = SigningKey.load(self._directory)
        if key is None:
            key = SigningKey.new()
            key.save(self._directory)
        return key

    def lose(self, events: int, reason: str) -> None:
        """Notes what could not be kept; the next record that can be written says so."""
        self._lost += events
        self._reason = bounded(reason, _MAX_REASON)

    def sync(self) -> None:
        """Waits until the disk has what was written.

        Raises:
            OSError: It refused.
        """
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Lets go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._size = -1

    def _find_end(self) -> None:
        """Makes sure that we know the end, which another process may have moved."""
        if self._fd >= 0:
            status = os.fstat(self._fd)
            following = self._directory / segment_name(self._number + 1)
            if status.st_nlink and not os.path.exists(following):
                if status.st_size != self._size:
                    self._read_end(status.st_size)
                return
        found = numbers(self._directory)
        if not found:
            self._create(1, new_id(), GENESIS)
            return
        self._use(found[-1], self._directory / segment_name(found[-1]))
        self._read_end(os.fstat(self._fd).st_size)

    def _use(self, number: int, path: Path) -> None:
        fd = open_segment(path, os.O_RDWR | os.O_APPEND)
        self.close()
        self._fd, self._number = fd, number

    def _read_end(self, size: int) -> None:
        self._size = -1
        tail = find_tail(self._fd, size)
        self._head, self._size = tail.head, size
        self._torn = tail if tail.junk_bytes or not tail.complete else None

    def _write(self, kind: str, body: str) -> None:
        self._tell()
        line, head = seal(self._head, kind, body)
        self._put(line)
        self._head = head

    def _tell(self) -> None:
        """Appends what there is to say about torn and lost records, if there is anything."""
        if self._torn is None and not self._reason:
            return
        data, head = b"", self._head
        if self._torn is not None:
            if not self._ends_line():
                data = b"\n"
            if self._torn.junk_bytes:
                torn = {"bytes": self._torn.junk_bytes, "sha256": self._torn.junk_sha256}
                line, head = seal(head, "torn", compact({**torn, "time": utc()}))
                data += line
        if self._reason:
            note = {"events": self._lost, "reason": self._reason, "time": utc()}
            line, head = seal(head, "lost", compact(note))
            data += line
        self._put(data)
        self._head, self._torn = head, None
        self._lost, self._reason = 0, ""

    def _ends_line(self) -> bool:
        return os.pread(self._fd, 1, self._size - 1) == b"\n"

    def _put(self, data: bytes) -> None:
        size, self._size = self._size, -1
        left = memoryview(data)
        try:
            while left:  # a second round only after a short write, e.g. on a full disk
                left = left[os.write(self._fd, left) :]
        except OSError:
            # Our own beginning, under the lock: nobody has built on it. If it cannot
            # be taken back, whoever appends next finds it and says so.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise
        self._size = size + len(data)

    def _follow(self) -> None:
        """Ends the segment and begins the next one."""
        self._tell()  # what is torn is told in the segment that has it
        if self._checkpoint_every:
            with contextlib.suppress(ValueError):
                self._sign(None)
        log = self._log_id()
        if self._durable:
            os.fdatasync(self._fd)
        self._create(self._number + 1, log, self._head)

    def _create(self, number: int, log: str, before: Head) -> None:
        """Makes a segment that has its header from the moment that it is there."""
        body = {
            "format": FORMAT, "log": log, "number": number, "time": utc(), "previous": str(before),
        }  # fmt: skip
        line, head = seal(before, "segment", compact(body))
        path = self._directory / segment_name(number)
        draft = self._directory / f".{path.name}.new"
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(line)
                file.flush()
                if self._durable:
                    os.fsync(fd)
            draft.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        if self._durable:
            sync_directory(str(self._directory))
        self._use(number, path)
        self._head, self._size, self._torn = head, len(line), None

    def _finish_rotation(self) -> None:
        """Decides about a key that waits, because a process died while it rotated keys."""
        from omnibase.core.audit.keys import SigningKey

        waiting = SigningKey.load(self._directory, waiting=True)
        if waiting is not None:
            named = f'"next":"{waiting.id}"'.encode()
            with open(self._directory / segment_name(self._number), "rb") as file:
                handed_over = any(named in line for line in file)
            if handed_over:
                SigningKey.promote(self._directory)
            else:
                SigningKey.discard(self._directory)

    def _log_id(self) -> str:
        header = header_of(self._fd)
        return str(header.fields().get("log", "")) if header is not None else ""

    def _sign(self, successor: SigningKey | None) -> str | None:
        """Appends a checkpoint; makes a key if there is none."""
        if self._cannot_sign:
            return None
        from omnibase.core.audit.checkpoints import Checkpoint, checkpoint_body
        from omnibase.core.audit.keys import available

        if not available():
            self._cannot_sign = True
            return None
        key = self.key(settled=successor is not None)
        self._tell()  # before the checkpoint: signed with the rest
        log, now = self._log_id(), utc()
        following = None if successor is None else successor.id
        message = checkpoint_body(log, self._head, now, key.id, following)
        signed = Checkpoint(
            log=log, head=self._head, time=now, key=key.id, next=following,
            signature=key.sign(message),
        )  # fmt: skip
        self._write("checkpoint", signed.body())
        return key.id
