"""Checks a chain as it is read: one record at a time, in constant memory. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from omnibase.core.audit.chain import (
    FORMAT,
    GENESIS,
    Head,
    Record,
    looks_whole,
    parse,
)
from omnibase.core.audit.checkpoints import Checkpoint

__all__ = ["MAX_FINDINGS", "Checker", "Finding", "Keys"]

MAX_FINDINGS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a log, or worth a word.

    Attributes:
        segment: Number of the segment.
        offset: Byte in it, where the line begins.
        message: What it is.
    """

    segment: int
    offset: int
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON-ready data."""
        return {"segment": self.segment, "offset": self.offset, "message": self.message}


@dataclass(slots=True)
class Keys:
    """Which keys may have signed.

    Attributes:
        trusted: Those that sign now; a key that hands over leaves, its successor comes.
        check: Says whether ``(key, message, signature)`` fit; ``None``: nobody can tell.
        external: The trusted ones were named by the caller, not by the log's directory.
    """

    trusted: set[str]
    check: Callable[[str, bytes, str], bool] | None
    external: bool = False


class _Remnant:
    """Bytes that are no record, until the record that accounts for them."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.whole = False
        self._length, self._digest, self._ended = 0, sha256(), False

    def add(self, line: bytes) -> None:
        self.whole = self.whole or looks_whole(line.removesuffix(b"\n"))
        self._settle()
        self._ended = line.endswith(b"\n")
        text = line.removesuffix(b"\n")
        self._length += len(text)
        self._digest.update(text)

    def is_told_by(self, record: Record) -> bool:
        """Says whether a record tells of just these bytes; the last line feed may be its own."""
        told = record.fields() if record.kind == "torn" else {}
        for _ in range(2):
            if (told.get("bytes"), told.get("sha256")) == (self._length, self._digest.hexdigest()):
                return True
            self._settle()
        return False

    @property
    def length(self) -> int:
        return self._length + self._ended

    def _settle(self) -> None:
        if self._ended:
            self._digest.update(b"\n")
            self._length, self._ended = self._length + 1, False


class Checker:
    """What is known of a chain up to a record.

    Give it each segment (`begin`) with each of its lines (`feed`), then `finish`.

    Args:
        keys: Who may have signed.
        start: Where the first segment begins; what was before is not looked at.
        number: The first segment's number.
        since: A head that the log must go on from.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        start: Head = GENESIS,
        number: int = 1,
        since: Head | None = None,
    ) -> None:
        self.head = start
        self.findings: list[Finding] = []
        self.notes: list[Finding] = []
        self.records = self.events = self.torn = self.lost = 0
        self.checkpoints = self.unchecked = self.foreign = 0
        self.signed = 0
        self.log: str | None = None
        self._keys, self._since = keys, since
        self._segment, self._next = number, number
        self._header_due = False
        self._remnant: _Remnant | None = None
        self._compare(0)

    @property
    def full(self) -> bool:
        """Whether so much is wrong that no more is noted."""
        return len(self.findings) >= MAX_FINDINGS

    def begin(self, segment: int) -> None:
        """Says that a segment begins."""
        self._settle_remnant()
        self._segment = segment
        if segment != self._next:
            last = segment - 1
            which = f"segment {last} is" if last == self._next else (
                f"segments {self._next} to {last} are"
            )  # fmt: skip
            self._wrong(0, f"{which} missing before it")
        self._next, self._header_due = segment + 1, True

    def feed(self, offset: int, line: bytes) -> None:
        """Takes the next line of the segment, its end included; a long one in pieces."""
        record = parse(line.removesuffix(b"\n"))
        if record is None:
            if self._remnant is None:
                self._remnant = _Remnant(offset)
            self._remnant.add(line)
            return
        self._account(offset, record)
        if self._header_due != (record.kind == "segment"):
            self._wrong(offset, "a segment begins with its header, and has no other"
                        if self._header_due else "a header within a segment")  # fmt: skip
        self._header_due = False
        if record.continues(self.head):
            self._take(offset, record)
        elif record.head.seq == self.head.seq + 1:
            self._wrong(offset, f"record {record.head.seq} was changed, or the one before it")
            self._resume(offset, record)
        elif record.head.seq > self.head.seq:
            first, last = self.head.seq + 1, record.head.seq - 1
            which = f"record {first} is" if first == last else f"records {first} to {last} are"
            self._wrong(offset, f"{which} missing")
            self._resume(offset, record)
        else:
            self._wrong(offset, f"record {record.head.seq} is out of place: it was inserted, "
                        "repeated or moved")  # fmt: skip

    def finish(self, offset: int) -> None:
        """Says that the log ends, at a byte of its last segment."""
        if self._remnant is not None and not self._remnant.whole:
            self._note(self._remnant.offset, f"{self._remnant.length} bytes at the end were not "
                       "written whole; the next record will say so")  # fmt: skip
            self._remnant = None
        self._settle_remnant()
        since = self._since
        if since is not None and self.head.seq < since.seq:
            self._wrong(offset, f"the log ends with record {self.head.seq}, and had {since.seq}: "
                        "it was cut")  # fmt: skip
        if self._keys.external and self.records and not self.signed:
            self._wrong(offset, "no checkpoint is signed by the key that was given")

    def _take(self, offset: int, record: Record) -> None:
        expected = record.head.seq if record.kind == "checkpoint" else self.head.signed
        if record.head.signed != expected:
            self._wrong(offset, f"record {record.head.seq} misstates the latest checkpoint")
        if record.kind == "checkpoint":
            self._checkpoint(offset, record)
        elif record.kind == "segment":
            self._header(offset, record)
        elif record.kind == "lost":
            told = record.fields()
            count = told.get("events")
            self.lost += count if isinstance(count, int) else 0
            self._note(offset, f"{count} events were lost here: {told.get('reason')}")
        self._resume(offset, record)

    def _resume(self, offset: int, record: Record) -> None:
        """Goes on from a record, whether or not it fits what was before."""
        self.records += 1
        self.events += record.kind == "event"
        self.head = record.head
        self._compare(offset)

    def _compare(self, offset: int) -> None:
        since = self._since
        if since is not None and self.head.seq == since.seq and self.head.hash != since.hash:
            self._wrong(offset, f"record {since.seq} is not the one that was noted")

    def _header(self, offset: int, record: Record) -> None:
        fields = record.fields()
        self.log = self.log or str(fields.get("log"))
        wanted = (FORMAT, self.log, self._segment, str(self.head))
        told = tuple(fields.get(name) for name in ("format", "log", "number", "previous"))
        if told != wanted:
            self._wrong(offset, "the header is not that of this segment of this log")

    def _checkpoint(self, offset: int, record: Record) -> None:
        self.checkpoints += 1
        seq = record.head.seq
        found = Checkpoint.of(record)
        if found is None:
            self._wrong(offset, f"record {seq} is no checkpoint")
        elif (found.head.seq, found.head.hash, found.log) != (
            self.head.seq, self.head.hash, self.log if self.log is not None else found.log,
        ):  # fmt: skip
            self._wrong(offset, f"checkpoint {seq} is of another place or log")
        elif self._keys.check is None:
            self.unchecked += 1
        elif not self._keys.check(found.key, found.message, found.signature):
            self._wrong(offset, f"the signature of checkpoint {seq} is wrong")
        elif found.key in self._keys.trusted:
            self.signed = seq
            if found.next is not None:
                self._keys.trusted.discard(found.key)
                self._keys.trusted.add(found.next)
        elif self._keys.external and not self.signed:
            self.foreign += 1  # by an earlier key, perhaps; a later signature covers it
        else:
            self._wrong(offset, f"checkpoint {seq} is signed by a key that is not trusted here")

    def _account(self, offset: int, record: Record) -> None:
        remnant = self._remnant
        if remnant is not None and not remnant.whole and remnant.is_told_by(record):
            self.torn += 1
            self._note(remnant.offset, f"{remnant.length} bytes were not written whole, as "
                       f"record {record.head.seq} says")  # fmt: skip
            self._remnant = None
        elif record.kind == "torn":
            self._wrong(offset, f"record {record.head.seq} tells of torn bytes that are not there")
        self._settle_remnant()

    def _settle_remnant(self) -> None:
        if self._remnant is not None:
            what = "a changed record" if self._remnant.whole else "no record"
            self._wrong(self._remnant.offset, f"{self._remnant.length} bytes are {what}")
            self._remnant = None

    def _wrong(self, offset: int, message: str) -> None:
        if not self.full:
            self.findings.append(Finding(segment=self._segment, offset=offset, message=message))

    def _note(self, offset: int, message: str) -> None:
        if len(self.notes) < MAX_FINDINGS:
            self.notes.append(Finding(segment=self._segment, offset=offset, message=message))
