"""The outbox: a directory where events wait that are to be delivered.

Each process appends to a spool that it alone has, so no run waits for another
process. A process that ends leaves what is not delivered; the next takes it over,
and appends to it, which is why there are never more spools than there were
processes at one time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from omnibase.core.audit.places import reserve
from omnibase.core.events._fields import bounded
from omnibase.core.events.files import lock, make_private
from omnibase.core.events.jsonl import Fsync
from omnibase.core.events.spool import Record, Spool, is_spool, waiting_bytes

__all__ = ["Loss", "Outbox", "Survey"]

_LOSSES: Final = "lost"
_LOSSES_BYTES: Final = 1024
_LOCK_SECONDS: Final = 0.05
_OTHERS_SECONDS: Final = 0.2


class Loss(NamedTuple):
    """Events that could not be kept.

    Attributes:
        events: How many, of all processes, since it was last told.
        reason: Why the latest could not.
        run: Its run.
    """

    events: int = 0
    reason: str = ""
    run: str = "none"


class Survey(NamedTuple):
    """What an outbox holds.

    Attributes:
        events: How many wait to be delivered.
        bytes: Their length.
        spools: In how many files.
        held: How many of those a process has.
        oldest: When the oldest happened, RFC 3339; ``None`` if none waits.
        lost: How many could not be kept, and nobody was told yet.
    """

    events: int
    bytes: int
    spools: int
    held: int
    oldest: str | None
    lost: int


class Outbox:
    """An outbox, as one process has it. Several processes may share its directory.

    Args:
        directory: Its own; it and what is missing above it are made, mode 0700.
        max_bytes: What may wait in it, all processes together. They learn of each
            other five times a second, and exceed it by what is written between.
        fsync: ``never`` leaves it to the kernel when data reaches the disk, ``close``
            asks for it in `sync`, ``always`` in each `append`.

    Raises:
        OSError: The directory cannot be used, or others may write there.

    Attributes:
        inherited: How many events were found that another process had left.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_bytes: int, fsync: Fsync) -> None:
        self.directory = Path(os.path.abspath(directory))
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._fd = _open_directory(self.directory)
        reserve(str(self.directory))
        self._lock = threading.Lock()
        self._spools: list[Spool] = []
        self._primary: Spool | None = None
        self._others = 0
        self._others_at = -_OTHERS_SECONDS
        self._loss = Loss()
        self._closed = False
        self.inherited = 0
        # A place for the count, while the disk has room for one.
        with contextlib.suppress(OSError), self._losses():
            pass

    @property
    def pending(self) -> int:
        """How many events wait in the spools that this process has."""
        with self._lock:
            return sum(spool.pending for spool in self._spools)

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""
        return self._closed

    def append(self, line: bytes) -> None:
        """Appends an event's line, which has its line feed.

        Raises:
            OSError: It is not kept: the outbox is full (``ENOSPC``), or the disk
                refused.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the outbox is closed")
            spool = self._writable()
            if sum(each.waiting for each in self._spools) + len(line) > self._room():
                raise OSError(errno.ENOSPC, f"the outbox has its {self._max_bytes} bytes")
            spool.append(line)
        if self._fsync == "always":
            spool.sync()

    def take_over(self) -> None:
        """Takes the spools that no process has."""
        with self._lock:
            if not self._closed:
                for name in self._unheld():
                    self._take(name)

    def peek(self) -> Record | None:
        """Returns the oldest event that waits in the first spool that has one."""
        with self._lock:
            spool = next((each for each in self._spools if each.waiting), None)
        with contextlib.suppress(OSError):  # it is delivered meanwhile
            return next(iter(spool.read(1)), None) if spool is not None else None
        return None

    def goal(self) -> list[tuple[Spool, int]]:
        """Returns what `reached` says to once all that waits now is delivered."""
        with self._lock:
            return [(spool, spool.added) for spool in self._spools]

    @staticmethod
    def reached(goal: list[tuple[Spool, int]]) -> bool:
        """Whether all that waited at that time is delivered."""
        return all(spool.done >= added for spool, added in goal)

    def next(self) -> Spool | None:
        """Returns a spool in which something waits, each in turn; one without anything goes."""
        with self._lock:
            for spool in tuple(self._spools):
                if spool.waiting:
                    self._spools.remove(spool)
                    self._spools.append(spool)
                    return spool
                if spool is not self._primary:
                    self._spools.remove(spool)
                    spool.close()
            return None

    def lose(self, events: int, reason: str, run: str) -> None:
        """Counts events that could not be kept; the count outlives the process."""
        with self._lock:
            self._loss = Loss(self._loss.events + events, bounded(reason, 200), run)
        # A disk that is full of other things, or another process in the way: later.
        with contextlib.suppress(OSError), self._losses():
            pass

    def tell_losses(self, line_of: Callable[[Loss], bytes]) -> bool:
        """Puts what was lost into the outbox as an event, once there is room for one.

        Args:
            line_of: Makes the event's line.

        Returns:
            Whether an event was appended.
        """
        with contextlib.suppress(OSError), self._losses() as told:
            loss = told[0]
            if loss.events:
                self.append(line_of(loss))
                told[0] = Loss()
                return True
        return False

    def sync(self) -> None:
        """Waits until the disk has what waits here, unless ``fsync="never"``.

        Raises:
            OSError: It refused.
        """
        if self._fsync == "close":
            with self._lock:
                waiting = [spool for spool in self._spools if spool.waiting]
            for spool in waiting:
                spool.sync()

    def close(self) -> None:
        """Leaves what waits to other processes; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            spools, self._spools, self._primary = self._spools, [], None
        if self._loss.events:
            with contextlib.suppress(OSError), self._losses():
                pass
        for spool in spools:
            spool.close()
        os.close(self._fd)

    def forked(self) -> None:
        """Makes a forked child's outbox one of its own: what waits is the parent's."""
        self._lock = threading.Lock()
        for spool in self._spools:
            spool.abandon()
        self._spools, self._primary, self._loss = [], None, Loss()

    def survey(self) -> Survey:
        """Looks at everything in the directory, without taking it from anybody."""
        events = size = held = 0
        oldest: list[str] = []
        with self._lock:
            names = self._names()
            mine = {spool.name: spool for spool in self._spools}
        for name in names:
            with contextlib.suppress(OSError):
                spool = mine.get(name) or Spool.take(self._fd, name)
                if spool is None:
                    held += 1
                    spool = _Glimpse.of(self._fd, name)
                try:
                    events += spool.pending
                    size += spool.waiting
                    oldest += [record.time for record in spool.read(1) if record.time]
                finally:
                    if name not in mine:
                        spool.release()
        with contextlib.suppress(OSError), self._losses() as told:
            return Survey(events, size, len(names), held, min(oldest, default=None), told[0].events)
        return Survey(events, size, len(names), held, min(oldest, default=None), self._loss.events)

    def _writable(self) -> Spool:
        """Returns the spool that this process appends to."""
        if self._primary is None:
            for name in () if self._spools else self._unheld():
                if self._take(name):
                    break
            if not self._spools:
                self._spools.append(Spool.create(self._fd))
            self._primary = self._spools[-1]
        return self._primary

    def _room(self) -> int:
        """Returns how much may wait in this process's spools."""
        now = time.monotonic()
        if now - self._others_at >= _OTHERS_SECONDS:
            self._others = sum(waiting_bytes(self._fd, name) for name in self._unheld())
            self._others_at = now
        return self._max_bytes - self._others

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._fd) if is_spool(name))

    def _unheld(self) -> list[str]:
        mine = {spool.name for spool in self._spools}
        return [name for name in self._names() if name not in mine]

    def _take(self, name: str) -> bool:
        try:
            spool = Spool.take(self._fd, name)
        except OSError:
            return False  # no file of ours: left alone
        if spool is None:
            return False
        self._spools.append(spool)
        self.inherited += spool.pending
        return True

    @contextlib.contextmanager
    def _losses(self) -> Iterator[list[Loss]]:
        """Gives the count of all processes; what is in the list at the end is kept."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(_LOSSES, flags, 0o600, dir_fd=self._fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode) or os.fstat(fd).st_nlink > 1:
                raise OSError(errno.EINVAL, "not a file of ours", _LOSSES)
            lock(fd, _LOCK_SECONDS, _LOSSES)
            kept = _read_loss(fd)
            with self._lock:
                mine, self._loss = self._loss, Loss()
            told = [Loss(kept.events + mine.events, *(mine if mine.events else kept)[1:])]
            try:
                yield told
            finally:
                try:
                    _write_loss(fd, told[0])
                except OSError:
                    with self._lock:
                        self._loss = Loss(self._loss.events + mine.events, *mine[1:])
                    raise
        finally:
            # Not by closing alone: a child that was forked meanwhile has it open, too.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


class _Glimpse(Spool):
    """A spool that another process has, as it is now."""

    @classmethod
    def of(cls, directory: int, name: str) -> _Glimpse:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        return cls(directory, name, os.open(name, flags, dir_fd=directory))

    def read(self, most: int) -> list[Record]:
        try:
            return super().read(most)
        except OSError:  # delivered meanwhile
            return []

    def _write_head(self) -> None:
        """Leaves it to who has it."""


def _open_directory(path: Path) -> int:
    make_private(str(path))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(fd)
        raise OSError(errno.EPERM, "others may write there", str(path))
    return fd


def _read_loss(fd: int) -> Loss:
    try:
        raw = json.loads(os.pread(fd, _LOSSES_BYTES, 0))
        return Loss(int(raw["events"]), str(raw["reason"]), str(raw["run"]))
    except (ValueError, LookupError, TypeError):
        return Loss()


def _write_loss(fd: int, loss: Loss) -> None:
    # Of one length, written over what is there: that needs no room on a full disk.
    text = json.dumps(loss._asdict()).encode("ascii")
    if len(text) >= _LOSSES_BYTES:
        text = json.dumps(loss._replace(reason="", run="none")._asdict()).encode("ascii")
    os.pwrite(fd, text.ljust(_LOSSES_BYTES - 1) + b"\n", 0)
