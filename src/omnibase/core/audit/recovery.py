"""Writes the ends that killed processes could not: once each, to the log of the start."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from omnibase.core.audit.chain import MAX_RECORD_BYTES, parse
from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.open_runs import MAX_WAITING, NEW, SPARE
from omnibase.core.audit.segments import LOCK, open_segment
from omnibase.core.audit.unended import END, STARTS
from omnibase.core.audit.verification import lines, segments
from omnibase.core.events import Event, RunRecovered, SandboxExit

__all__ = ["Recovered", "recover", "waiting"]

_LOCK_SECONDS: Final = 0.2
_NEW_SECONDS: Final = 60.0
_MAX_NOTE_BYTES: Final = 2 * MAX_RECORD_BYTES
# A place in a log was noted without its lock: behind a record that another process was
# writing, perhaps, and then took back.
_MARGIN_BYTES: Final = 1 << 20
_REASON: Final = "its process did not come to tell its end; its sandbox is gone"


class Recovered(NamedTuple):
    """What came of the notes whose process is gone.

    Attributes:
        ended: Runs that have their end on record now, and had not.
        waiting: Runs whose log could not be written; they wait for the next time.
        given_up: Runs that waited for longest, of more than `MAX_WAITING`.
    """

    ended: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


class _Place(NamedTuple):
    directory: Path
    segment: int
    offset: int


@dataclass(slots=True)
class _Note:
    path: Path
    fd: int
    fields: dict[str, Any]
    end: Event | None
    places: list[_Place]
    since: float
    written: bool = False
    done: set[Path] = field(default_factory=set)

    @property
    def run(self) -> str:
        return str(self.fields["runid"])


class _Seen(NamedTuple):
    """What a log has of a run.

    Attributes:
        started: When its first start was, in seconds; ``None`` without one.
        last: When its last event was.
        sequence: Number of that.
        violations: Events of that type.
        marked: Whether it is said that the end is written by recovery.
        ended: Whether it has an end.
    """

    started: float | None = None
    last: float = 0.0
    sequence: int = 0
    violations: int = 0
    marked: bool = False
    ended: bool = False

    def and_then(self, event: dict[str, Any]) -> _Seen:
        name, at = event.get("eventname"), _seconds(event.get("time"))
        number = str(event.get("sequence"))
        return _Seen(
            started=at if self.started is None and name in STARTS else self.started,
            last=max(self.last, at),
            sequence=max(self.sequence, int(number) if number.isdigit() else 0),
            violations=self.violations + (name == "SandboxViolation"),
            marked=self.marked or name == "RunRecovered",
            ended=self.ended or name == END,
        )


def recover(directory: Path, gone: Callable[[str], bool]) -> Recovered:
    """Ends the runs whose process is gone, where their starts are.

    Several processes may do so at once, or be killed while they do: a note is worked on
    under its lock, and what a log has of the run is read before anything is added.

    Args:
        directory: Where the notes are.
        gone: Says whether nothing is left of a sandbox, by the name of its directory. Not
            asked for a run that has told its end.
    """
    notes = list(_abandoned(directory, gone))
    try:
        by_log: dict[Path, list[_Note]] = {}
        for note in notes:
            for place in note.places:
                by_log.setdefault(place.directory, []).append(note)
        for log, theirs in by_log.items():
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                _finish(log, theirs)
        left = [note for note in notes if len(note.done) < len(note.places)]
        for note in notes:
            if note not in left:
                note.path.unlink(missing_ok=True)
        left.sort(key=lambda note: note.since)
        surplus = left[: max(0, len(left) - MAX_WAITING)]
        for note in surplus:
            note.path.unlink(missing_ok=True)
        return Recovered(
            ended=tuple(note.run for note in notes if note.written),
            waiting=tuple(note.run for note in left[len(surplus) :]),
            given_up=tuple(note.run for note in surplus),
        )
    finally:
        for note in notes:
            os.close(note.fd)


def waiting(directory: Path) -> int:
    """Counts the notes whose process is gone; changes nothing."""
    count = 0
    for path in _paths(directory):
        fd = _take(path)
        if fd is not None:
            os.close(fd)
            count += not path.name.startswith(NEW)
    return count


def _abandoned(directory: Path, gone: Callable[[str], bool]) -> Iterator[_Note]:
    """Yields the notes to work on, each locked; removes what is none."""
    for path in _paths(directory):
        fd = _take(path)
        if fd is None:
            continue
        status = os.fstat(fd)
        note = None if path.name.startswith(NEW) else _read(path, fd, status.st_mtime)
        if note is None:
            # A draft may be a moment old, not locked yet; anything else was never whole.
            if not path.name.startswith(NEW) or time.time() - status.st_mtime > _NEW_SECONDS:
                path.unlink(missing_ok=True)
            os.close(fd)
        elif note.end is None and not gone(str(note.fields.get("sandbox"))):
            os.close(fd)
        else:
            yield note


def _paths(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.name != SPARE)
    except OSError:
        return []


def _take(path: Path) -> int | None:
    """Opens and locks a note; ``None`` if its run lives, or somebody else has it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Else it was ended between the opening and the lock, and may be another's now.
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _read(path: Path, fd: int, since: float) -> _Note | None:
    first, _, rest = os.pread(fd, _MAX_NOTE_BYTES, 0).partition(b"\n")
    try:
        fields = json.loads(first)
        places = [_Place(Path(str(d)), int(n), int(o)) for d, n, o in fields["logs"]]
        str(fields["runid"]), str(fields["source"]), int(fields["sequence"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    end = None
    if rest.endswith(b"\n"):
        with contextlib.suppress(ValueError):
            end = Event.from_json(rest[:-1])
    return _Note(path, fd, fields, end, places, since)


def _finish(directory: Path, notes: list[_Note]) -> None:
    """Adds what one log lacks.

    Raises:
        OSError: It cannot be read or written now.
    """
    if not segments(directory) and not (directory / LOCK).exists():
        raise FileNotFoundError(directory)  # not mounted, perhaps; an empty log has its lock
    places = [place for note in notes for place in note.places if place.directory == directory]
    seen = _scan(directory, min(places)[1:], {note.run for note in notes})
    log = AuditLog(directory, fsync="close", lock_timeout_seconds=_LOCK_SECONDS)
    try:
        for note in notes:
            found = seen.get(note.run, _Seen())
            # Without a start on record there is nothing to end.
            if found.started is not None and not found.ended:
                for event in _ending(note, found):
                    log.emit(event)
                note.written = True
            note.done.add(directory)
    finally:
        log.close()


def _ending(note: _Note, seen: _Seen) -> Iterable[Event]:
    if note.end is not None:  # it was told, and the log could not take it
        return (note.end,)
    fields = note.fields
    number = max(seen.sequence, int(fields["sequence"]))
    payloads = [] if seen.marked else [RunRecovered(reason=_REASON, pid=_pid(fields.get("pid")))]
    last = SandboxExit(
        outcome="aborted",
        wall_seconds=max(0.0, seen.last - (seen.started or seen.last)),
        violations=seen.violations,
    )
    return [
        Event(
            data=payload,
            source=fields["source"],
            runid=note.run,
            sequence=number + 1 + place,
            subject=fields.get("subject"),
            componentid=fields.get("componentid"),
            policydigest=fields.get("policydigest"),
            traceparent=fields.get("traceparent"),
            parentspan=fields.get("parentspan"),
        )
        for place, payload in enumerate((*payloads, last))
    ]


def _scan(directory: Path, place: tuple[int, int], runs: set[str]) -> dict[str, _Seen]:
    """Reads what a log has of some runs, from a place on."""
    number, offset = place
    found: dict[str, _Seen] = {}
    for segment in segments(directory):
        if segment.number < number:
            continue
        fd = open_segment(segment.path)
        try:
            size = os.fstat(fd).st_size
            start = max(0, offset - _MARGIN_BYTES) if segment.number == number else 0
            for _, line in lines(fd, min(start, size), size):
                run = _run_of(line)
                if run not in runs:
                    continue
                record = parse(line.removesuffix(b"\n"))
                if record is not None and record.kind == "event":
                    found[run] = found.get(run, _Seen()).and_then(record.fields())
        finally:
            os.close(fd)
    return found


def _run_of(line: bytes) -> str:
    """Returns the run of an event's line: within a text, each quote would be escaped."""
    _, _, rest = line.partition(b'"runid":"')
    return rest[: rest.find(b'"')].decode("ascii", "replace")


def _pid(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
