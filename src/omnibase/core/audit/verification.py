"""Reads a whole log, or what came after a head, and checks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from omnibase.core.audit.chain import GENESIS, MAX_RECORD_BYTES, Head
from omnibase.core.audit.checker import Checker, Finding, Keys
from omnibase.core.audit.segments import LOCK, header_of, numbers, open_segment, segment_name
from omnibase.core.audit.unended import Unended
from omnibase.core.events.files import lock
from omnibase.errors import ConfigurationError

__all__ = ["Report", "Segment", "lines", "segments", "snapshot", "verify"]

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        findings: What is wrong; nothing, if all is as the writers wrote it.
        notes: What is in order and still worth a word.
        head: To be kept elsewhere, and given as ``since`` the next time.
        segments: How many were read.
        records: How many were read, of them `events`.
        events: Events.
        torn: Records that were not written whole, and are accounted for.
        lost: Events that a writer says it could not write.
        checkpoints: How many were read.
        signed: Number of the latest one that a trusted key signed; 0 if none.
        unchecked: Checkpoints whose signature nobody here can check.
        foreign: Checkpoints by other keys before the first by the one that was given.
        own_keys: The keys are those that lie in the log's own directory.
        unended: Runs that have a start in what was read, and no end.
    """

    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    head: Head
    segments: int
    records: int
    events: int
    torn: int
    lost: int
    checkpoints: int
    signed: int
    unchecked: int
    foreign: int
    own_keys: bool
    unended: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-ready data."""
        counts = ("segments", "records", "events", "torn", "lost", "checkpoints", "signed",
                  "unchecked", "foreign", "own_keys")  # fmt: skip
        return {
            "ok": not self.findings,
            "head": str(self.head),
            **{name: getattr(self, name) for name in counts},
            "findings": [one.to_dict() for one in self.findings],
            "notes": [one.to_dict() for one in self.notes],
            "unended": list(self.unended),
        }


class Segment(NamedTuple):
    """One file of a log.

    Attributes:
        number: From 1, without gaps.
        path: The file.
    """

    number: int
    path: Path


def segments(directory: Path) -> list[Segment]:
    """Returns a log's segments in order; none if the directory is missing.

    Raises:
        OSError: The directory cannot be read.
    """
    return [Segment(number, directory / segment_name(number)) for number in numbers(directory)]


def snapshot(directory: Path, timeout_seconds: float = 5.0) -> list[tuple[Segment, int]]:
    """Returns the segments and their sizes at a moment when nobody writes.

    Raises:
        ConfigurationError: There is no log.
        OSError: It cannot be read.
    """
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # a copy, which nobody writes
        fd = -1
    except NotADirectoryError:
        raise _no_log(directory) from None
    try:
        if fd >= 0:
            lock(fd, timeout_seconds, str(directory), shared=True)
        found = [(each, os.lstat(each.path).st_size) for each in segments(directory)]
    finally:
        if fd >= 0:
            os.close(fd)
    if not found:
        raise _no_log(directory)
    return found


def lines(fd: int, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yields offset and line, its end included; one that is too long comes in pieces."""
    with open(fd, "rb", buffering=_CHUNK, closefd=False) as file:
        file.seek(start)
        while start < size and (line := file.readline(min(size - start, MAX_RECORD_BYTES + 1))):
            yield start, line
            start += len(line)


def verify(directory: Path, keys: Keys, since: Head | None = None) -> Report:
    """Checks a log in constant memory, while others may write to it.

    Args:
        directory: The log's.
        keys: Who may have signed.
        since: A head that was kept: what came before it is not read, but for the rest
            of its segment, and the log must go on from it.

    Raises:
        ConfigurationError: There is no log.
        OSError: It cannot be read.
    """
    found = snapshot(directory)
    start, found = _from(found, since)
    checker = Checker(keys, start=start, number=found[0][0].number if since else 1, since=since)
    size, unended = 0, Unended()
    for segment, size in found:
        checker.begin(segment.number)
        fd = open_segment(segment.path)
        try:
            for offset, line in lines(fd, 0, size):
                checker.feed(offset, line)
                unended.feed(line)
                if checker.full:
                    break
        finally:
            os.close(fd)
        if checker.full:
            break
    checker.finish(size)
    return Report(
        findings=tuple(checker.findings),
        notes=tuple(checker.notes),
        head=checker.head,
        segments=len(found),
        records=checker.records,
        events=checker.events,
        torn=checker.torn,
        lost=checker.lost,
        checkpoints=checker.checkpoints,
        signed=checker.signed,
        unchecked=checker.unchecked,
        foreign=checker.foreign,
        own_keys=not keys.external,
        unended=unended.runs,
    )


def _from(
    found: list[tuple[Segment, int]], since: Head | None
) -> tuple[Head, list[tuple[Segment, int]]]:
    """Returns what to read, and the head that its first segment says it follows."""
    if since is not None:
        for index in range(len(found) - 1, -1, -1):
            before = _previous(found[index][0])
            if before is not None and before.seq <= since.seq:
                return before, found[index:]
    return GENESIS, found


def _previous(segment: Segment) -> Head | None:
    fd = open_segment(segment.path)
    try:
        header = header_of(fd)
    finally:
        os.close(fd)
    if header is None:
        return None
    try:
        before = Head.parse(str(header.fields().get("previous")))
    except ValueError:
        return None
    return Head(before.seq, before.hash, header.head.signed)


def _no_log(directory: Path) -> ConfigurationError:
    return ConfigurationError(
        f"there is no audit log in `{directory}`",
        hint="name its directory with `--audit DIR`, or make one: `omnibase run --audit DIR`",
    )
