"""Audit logs for tests: made, read back and verified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omnibase.core.audit.chain import Head, parse
from omnibase.core.audit.checker import Keys
from omnibase.core.audit.keys import known_keys, signed_by
from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.verification import Report, segments, verify
from omnibase.core.events import Event, SandboxViolation


def event(number: int = 1, resource: str = "/etc/passwd", run: str = "r1") -> Event:
    violation = SandboxViolation(operation="openat", resource=resource, evidence="kernel")
    return Event(data=violation, source="urn:test", runid=run, sequence=number)


def events(directory: Path) -> Iterator[Event]:
    """Every event of a log, in order; what is no record is passed over."""
    for segment in segments(directory):
        for line in segment.path.read_bytes().split(b"\n"):
            record = parse(line)
            if record is not None and record.kind == "event":
                yield Event.from_json(record.body)


def make(
    directory: Path, count: int = 20, *, segment_bytes: int = 4000, checkpoint_every: int = 7
) -> Path:
    """Writes a log of a few segments and checkpoints."""
    log = AuditLog(
        directory, fsync="never", segment_bytes=segment_bytes, checkpoint_every=checkpoint_every
    )
    for number in range(1, count + 1):
        log.emit(event(number))
    log.close()
    return directory


def check(directory: Path, since: Head | None = None, key: str | None = None) -> Report:
    """Verifies a log, by its own keys or by one from elsewhere."""
    if key is not None:
        return verify(directory, Keys({key}, signed_by, external=True), since)
    return verify(directory, Keys(set(known_keys(directory)), signed_by), since)


def said(report: Report) -> str:
    """What is wrong, as one text."""
    return "\n".join(one.message for one in report.findings)
