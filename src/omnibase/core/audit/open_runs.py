"""What is noted of a run while its start is on record and its end is not.

A note is a file of its own, locked for as long as the process of its run lives. It is
there before the start is recorded and goes once the end is, so a note whose lock is
free tells of an end that is missing, and of how to write it (`recovery`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.segments import numbers, segment_name

if TYPE_CHECKING:
    from omnibase.core.events import Emitter, Event, EventBus

__all__ = ["MAX_WAITING", "NEW", "SPARE", "OpenRun", "logs_of"]

NEW: Final = ".new-"
SPARE: Final = ".spare"
"""The file of a note that went, for the next: making a file costs more than all the rest."""

MAX_WAITING: Final = 256
"""Ends that wait for their log; beyond, the oldest are given up."""

_BLOCK: Final = 1024
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
# Notes that this process holds: a forked child would keep them locked for as long as
# it lives, though the run is not its own.
_held: set[int] = set()
# Runs of this process whose end is in their note, as no log took it.
_kept: set[str] = set()


class OpenRun:
    """The note of one run.

    Args:
        directory: Where notes are; made if need be, mode 0700.
        bus: Where the run's events go.
        emitter: Of the run.

    Attributes:
        logs: Where its end belongs.
    """

    def __init__(self, directory: Path, bus: EventBus, emitter: Emitter) -> None:
        self._path = directory / emitter.runid
        self._emitter = emitter
        self._bus = bus
        self.logs = logs_of(bus)
        self._lost = 0
        self._fd = -1

    def begin(self, sandbox: str) -> None:
        """Makes the note; to be called before the start is emitted. A second call is none.

        Args:
            sandbox: Name of the run directory, which has to be gone before the end is told.

        Raises:
            OSError: It cannot be written.
        """
        if self._fd >= 0 or not self.logs:
            return
        self._lost = self._losses()
        emitter = self._emitter
        text = json.dumps({
            "sandbox": sandbox,
            "pid": os.getpid(),
            "source": emitter.source,
            "runid": emitter.runid,
            "sequence": emitter.sequence,
            "subject": emitter.subject,
            "componentid": emitter.componentid,
            "policydigest": emitter.policydigest,
            "traceparent": emitter.traceparent,
            "parentspan": emitter.parentspan,
            "logs": [(str(log.directory), *_end_of(log.directory)) for log in self.logs],
        })  # fmt: skip
        draft = self._path.with_name(NEW + self._path.name)
        fd = _locked(draft)
        try:
            # As long as the one before, mostly: truncating costs more than writing.
            data = f"{text}{' ' * (-(len(text) + 1) % _BLOCK)}\n".encode()
            if os.fstat(fd).st_size != len(data):
                os.ftruncate(fd, 0)
            _write(fd, data)
            # It has its name only once it is locked and whole.
            draft.rename(self._path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        self._fd = fd
        _held.add(fd)

    def end(self, event: Event) -> None:
        """Removes the note, since the end was emitted.

        If a log lost events of the run, the note stays, with the end in it: the next run
        of this process whose events are not lost writes it, if it is not there, or
        whoever comes next.
        """
        if self._fd < 0:
            return
        lost = self._losses() > self._lost
        with contextlib.suppress(OSError):
            if lost and len(_kept) < MAX_WAITING:
                _write(self._fd, f"{event.to_json()}\n".encode())
                _kept.add(self._path.name)
            else:
                self._path.rename(self._path.with_name(SPARE))
        self.release()
        if _kept and not lost:
            _kept.clear()
            from omnibase.core.audit.recovery import recover

            with contextlib.suppress(OSError):
                # Only ends that were told: of the others, their sandboxes may be alive.
                _kept.update(recover(self._path.parent, lambda _sandbox: False).waiting)

    def release(self) -> None:
        """Lets go of the note; if it was not ended, somebody else ends the run."""
        fd, self._fd = self._fd, -1
        if fd in _held:
            _held.discard(fd)
            os.close(fd)

    def _losses(self) -> int:
        return sum(each.lost for each in self._bus.failures if each.sink == "AuditLog")


def logs_of(bus: EventBus) -> list[AuditLog]:
    """Returns the audit logs that a bus writes to."""
    return [each for each in bus.sinks if isinstance(each, AuditLog)]


def _end_of(directory: Path) -> tuple[int, int]:
    """Returns a segment's number and a place in it: what is recorded from now on is behind."""
    found = numbers(directory)
    if not found:
        return 1, 0
    with contextlib.suppress(OSError):
        return found[-1], os.stat(directory / segment_name(found[-1])).st_size
    return found[-1], 0


def _locked(draft: Path) -> int:
    """Makes an empty file of that name, of the spare one if there is one; locks it."""
    fd = _spare(draft)
    if fd is not None:
        return fd
    flags = _FLAGS | os.O_CREAT | os.O_TRUNC
    try:
        fd = os.open(draft, flags, 0o600)
    except FileNotFoundError:
        draft.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(draft, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _spare(draft: Path) -> int | None:
    spare = draft.with_name(SPARE)
    try:
        fd = os.open(spare, _FLAGS)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        spare.rename(draft)
        if os.path.samestat(os.stat(draft), os.fstat(fd)):
            return fd
        draft.unlink()  # another one, put there in between
    os.close(fd)
    return None


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _after_fork() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()
    _kept.clear()


os.register_at_fork(after_in_child=_after_fork)
