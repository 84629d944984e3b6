"""A file of an outbox: events in order, and how far they are delivered.

One process at a time has a spool: it holds the file's lock for as long as it lives,
so whoever gets the lock knows that nobody else writes. The file is a line of fixed
length, the head, and then one line per event, as `Event.to_json` writes it. What is
delivered is given back to the disk; a spool that is empty begins anew or is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import threading
import time
from typing import Final, NamedTuple

from omnibase.core.events._fields import new_id
from omnibase.core.events.model import MAX_LINE_BYTES

__all__ = ["HEAD_BYTES", "Record", "Spool", "State", "is_spool", "parse", "waiting_bytes"]

HEAD_BYTES: Final = 256
_FORMAT: Final = "omnibase.outbox.v1"
_NAME: Final = re.compile(r"\d{20}-[0-9a-f]{32}\.spool")
_CHUNK: Final = 32 << 10
_GIVE_BACK_BYTES: Final = 1 << 20
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
# An empty line is not one: it ends what was torn.
_LINE_END: Final = re.compile(rb"[^\n]\n")
_TOKEN: Final = re.compile(r"[!-~]{1,256}", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)
# https://man7.org/linux/man-pages/man2/fallocate.2.html
_KEEP_SIZE_PUNCH_HOLE: Final = 0x01 | 0x02


class Record(NamedTuple):
    """One event of a spool.

    Attributes:
        end: Where the next one begins, in bytes.
        data: The event's JSON.
        id: Its id; empty if the line is no event.
        run: Its run.
        name: The short name of its type.
        time: When it happened, RFC 3339 in UTC.
    """

    end: int
    data: bytes
    id: str
    run: str
    name: str
    time: str


class State(NamedTuple):
    """What the head of a spool says.

    Attributes:
        offset: Where the first event begins that is not delivered, in bytes.
        sent: When that event was sent first, in seconds since the epoch; 0 if there
            can be no doubt that it was not delivered.
        sequence: No event from ``offset`` on has a place up to this in the stream.
    """

    offset: int = HEAD_BYTES
    sent: float = 0.0
    sequence: int = 0


class Spool:
    """One spool, held by this process. Several threads may share it.

    Args:
        directory: Descriptor of the outbox's directory.
        name: The file's name.
        fd: The file, open and locked.

    Attributes:
        added: How many events there were at first, and were appended since.
        done: How many of those are delivered.
    """

    def __init__(self, directory: int, name: str, fd: int) -> None:
        self.name = name
        self._directory = directory
        self._fd = fd
        self._lock = threading.Lock()
        self._end = max(HEAD_BYTES, os.fstat(fd).st_size)
        self._state = _state(fd, self._end)
        self._given_back = HEAD_BYTES
        self._torn = self._end > HEAD_BYTES and os.pread(fd, 1, self._end - 1) != b"\n"
        self.added = self._count()
        self.done = 0
        self._write_head()

    @classmethod
    def create(cls, directory: int) -> Spool:
        """Makes a spool.

        Raises:
            OSError: The directory cannot take one.
        """
        while True:
            name = f"{time.time_ns():020d}-{new_id()}.spool"
            fd = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
            try:
                # Whoever looks for spools may have got hold of it, and removes it then.
                if _hold(fd, directory, name):
                    return cls(directory, name, fd)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=directory)
                os.close(fd)
                raise
            os.close(fd)

    @classmethod
    def take(cls, directory: int, name: str) -> Spool | None:
        """Takes over a spool; ``None`` if a process has it, or it is gone.

        Raises:
            OSError: It is no file of ours, or cannot be read.
        """
        try:
            fd = _open(directory, name)
        except FileNotFoundError:
            return None
        try:
            if _hold(fd, directory, name):
                return cls(directory, name, fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @property
    def waiting(self) -> int:
        """Bytes that are not delivered."""
        with self._lock:
            return self._end - self._state.offset

    @property
    def pending(self) -> int:
        """Events that are not delivered."""
        with self._lock:
            return self.added - self.done

    @property
    def state(self) -> State:
        """How far it is delivered."""
        return self._state

    def append(self, line: bytes) -> None:
        """Appends a line, which has its line feed.

        Raises:
            OSError: It could not be written, and nothing of it was kept.
        """
        with self._lock:
            data = b"\n" + line if self._torn else line
            try:
                self._put(data)
            except OSError:
                # Nobody reads beyond the end that we know.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._end)
                raise
            self._end += len(data)
            self._torn = False
            self.added += 1

    def read(self, most: int) -> list[Record]:
        """Returns the next events, in order, each of another run; one at least, if one waits.

        Where nothing but empty lines is left, that is a record without data.
        """
        found: list[Record] = []
        runs: set[str] = set()
        start, end = self._state.offset, self._end
        data, at, size = b"", 0, _CHUNK
        while len(found) < most:
            cut = data.find(b"\n", at)
            if cut < 0 and start + len(data) < end:
                if found:
                    break
                if len(data) - at > 2 * MAX_LINE_BYTES:
                    cut = len(data) - 1  # no event is that long: it is passed over in pieces
                else:
                    start, at, size = start + at, 0, size * 2
                    data = os.pread(self._fd, min(size, end - start), start)
                    if not data:
                        raise OSError(errno.EIO, "the spool is shorter than it was", self.name)
                    continue
            line = data[at:cut] if cut >= 0 else data[at:]
            at = cut + 1 if cut >= 0 else len(data)
            if line:
                record = parse(line, start + at)
                if record.run in runs or (found and not record.id):
                    break
                found.append(record)
                if not record.id:
                    break
                runs.add(record.run)
            elif start + at >= end:
                if not found and end > self._state.offset:
                    found.append(Record(end, b"", "", "", "", ""))
                break
        return found

    def _count(self) -> int:
        """Returns how many lines are not delivered."""
        lines, at, last = 0, self._state.offset, b"\n"
        while at < self._end and (chunk := os.pread(self._fd, _CHUNK * 4, at)):
            lines += len(_LINE_END.findall(last + chunk))
            last, at = chunk[-1:], at + len(chunk)
        return lines + (last != b"\n")

    def mark(self, sent: float, sequence: int) -> None:
        """Notes that the next events are about to be sent.

        Raises:
            OSError: It could not be written.
        """
        with self._lock:
            self._state = self._state._replace(sent=sent, sequence=sequence)
            self._write_head()

    def advance(self, end: int, events: int, *, doubt: bool) -> None:
        """Notes that everything up to ``end`` is delivered.

        Args:
            end: `Record.end` of the last that is.
            events: How many those are.
            doubt: Events after it were sent, too, and may have arrived.

        Raises:
            OSError: It could not be written.
        """
        with self._lock:
            sent = self._state.sent if doubt else 0.0
            if end >= self._end:
                # All is delivered, and the file begins anew. Its end first: a head that
                # points beyond it is known for what it is, and nothing is sent again.
                os.ftruncate(self._fd, HEAD_BYTES)
                self._state, self._end = State(), HEAD_BYTES
                self._given_back, self._torn = HEAD_BYTES, False
                self.done = self.added
                self._write_head()
                return
            self.done += events
            self._state = State(end, sent, self._state.sequence)
            self._write_head()
            if end - self._given_back >= _GIVE_BACK_BYTES:
                _punch(self._fd, self._given_back, end)
                self._given_back = end

    def sync(self) -> None:
        """Waits until the disk has what was appended.

        Raises:
            OSError: It refused.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Lets go of it; it is removed if nothing waits in it."""
        with contextlib.suppress(OSError):
            if not self.waiting:
                os.unlink(self.name, dir_fd=self._directory)
        self.release()

    def release(self) -> None:
        """Lets go of it as it is."""
        # Not by closing alone: a child that was forked meanwhile has it open, too.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)

    def abandon(self) -> None:
        """Lets go of it in a forked child: the parent keeps it."""
        os.close(self._fd)

    def _put(self, data: bytes) -> None:
        at, left = self._end, memoryview(data)
        while left:  # a second round only after a short write, e.g. on a full disk
            done = os.pwrite(self._fd, left, at)
            at, left = at + done, left[done:]

    def _write_head(self) -> None:
        head = {"format": _FORMAT, **self._state._asdict()}
        line = json.dumps(head, separators=(",", ":")).ljust(HEAD_BYTES - 1) + "\n"
        os.pwrite(self._fd, line.encode("ascii"), 0)


def parse(line: bytes, end: int) -> Record:
    """Reads what delivery needs of an event, and no more: it may be of another version."""
    try:
        raw = json.loads(line)
        fields = [raw[name] for name in ("id", "runid", "eventname", "time")]
    except (ValueError, RecursionError, LookupError, TypeError):
        return Record(end, line, "", "", "", "")
    id, run, name, time = fields
    if not (_matches(_TOKEN, id) and _matches(_TOKEN, run) and _matches(_WORD, name)):
        return Record(end, line, "", "", "", "")
    return Record(end, line, id, run, name, time if _matches(_TOKEN, time) else "")


def is_spool(name: str) -> bool:
    """Whether a file of an outbox is a spool, by its name."""
    return _NAME.fullmatch(name) is not None


def waiting_bytes(directory: int, name: str) -> int:
    """Returns how many bytes wait in a spool that another process may have."""
    try:
        fd = _open(directory, name)
    except OSError:
        return 0
    try:
        size = os.fstat(fd).st_size
        return max(0, size - _state(fd, size).offset)
    finally:
        os.close(fd)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _open(directory: int, name: str) -> int:
    """Opens a spool, which must be a regular file of ours with one name."""
    fd = os.open(name, _FLAGS, dir_fd=directory)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
        os.close(fd)
        raise OSError(errno.EINVAL, "not a spool of ours", name)
    return fd


def _hold(fd: int, directory: int, name: str) -> bool:
    """Takes the lock, and makes sure that the file still has its name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (BlockingIOError, FileNotFoundError):
        return False
    return named.st_ino == os.fstat(fd).st_ino


def _state(fd: int, size: int) -> State:
    try:
        raw = json.loads(os.pread(fd, HEAD_BYTES, 0))
        state = State(int(raw["offset"]), float(raw["sent"]), int(raw["sequence"]))
    except (ValueError, LookupError, TypeError):
        # Damaged by a power cut. Everything may have been sent, who knows when.
        return State() if size <= HEAD_BYTES else State(sent=1.0)
    if not HEAD_BYTES <= state.offset <= max(size, HEAD_BYTES):
        return State(sent=1.0)
    return state


def _punch(fd: int, start: int, end: int) -> None:
    """Gives a part of a file back to the disk, where the file system can."""
    import ctypes

    fallocate = ctypes.CDLL(None).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, end - start)
