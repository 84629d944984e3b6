"""The chain: what a line of the log is, and how each commits to all before it. No I/O.

A line is one JSON object of printable ASCII, in this order and without spaces::

    {"KIND":BODY,"seq":N,"signed":M,"hash":"H"}

``N`` counts the lines of the whole log from 1, ``M`` is the number of the latest
checkpoint (0: none yet), and ``H`` is the SHA-256 of `DOMAIN`, the 32 bytes of the
hash before (zeros for the first), and the line's own bytes up to ``,"hash"``. The
bytes as they are written are what is hashed, so nothing has to be put into a
canonical form first, and no other spelling of a record passes for it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from omnibase.core.events.model import MAX_LINE_BYTES

__all__ = [
    "FORMAT",
    "GENESIS",
    "KINDS",
    "MAX_RECORD_BYTES",
    "Checkpoint",
    "Head",
    "Record",
    "checkpoint_body",
    "compact",
    "looks_whole",
    "parse",
    "seal",
]

FORMAT: Final = "omnibase.audit.v1"
DOMAIN: Final = b"omnibase.audit.record.v1\n"
CHECKPOINT_DOMAIN: Final = b"omnibase.audit.checkpoint.v1\n"
KINDS: Final = ("event", "segment", "checkpoint", "torn", "lost")
MAX_RECORD_BYTES: Final = MAX_LINE_BYTES + 512
"""A longer line is no record."""

_LINE: Final = re.compile(
    rb'\{"(' + "|".join(KINDS).encode() + rb')":([ -~]+),"seq":([1-9][0-9]{0,18}),'
    rb'"signed":(0|[1-9][0-9]{0,18}),"hash":"([0-9a-f]{64})"\}'
)
_HASH_BYTES: Final = len(b',"hash":"') + 64 + len(b'"}')
# The end of a record that was written whole, though perhaps changed since.
_WHOLE: Final = re.compile(rb',"hash":".{64}|,"signed":.*"\}\Z', re.DOTALL)
_HEAD: Final = re.compile(r"(0|[1-9][0-9]{0,18}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends.

    Attributes:
        seq: Number of the last record; 0 if there is none.
        hash: Its hash.
        signed: Number of the latest checkpoint; 0 if there is none.
    """

    seq: int
    hash: str
    signed: int = 0

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Reads ``SEQ:HASH``.

        Raises:
            ValueError: It is something else.
        """
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError("not a head")
        return cls(int(match[1]), match[2])


GENESIS: Final = Head(0, "0" * 64)


@dataclass(frozen=True, slots=True)
class Record:
    """One line as it was read; whether it continues a chain is another question.

    Attributes:
        kind: One of `KINDS`.
        body: The JSON of what it holds; an event's is the event's own.
        head: What it says of itself.
        content: Its bytes up to the hash.
    """

    kind: str
    body: bytes
    head: Head
    content: bytes

    def continues(self, before: Head) -> bool:
        """Says whether it is the very record that was sealed after another."""
        return self.head.seq == before.seq + 1 and self.head.hash == _hash(before, self.content)

    def fields(self) -> dict[str, Any]:
        """Returns the body of a record that is no event; empty if it is no object."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def compact(body: dict[str, Any]) -> str:
    """Returns the JSON of a body: printable ASCII, no spaces."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":"))


def seal(before: Head, kind: str, body: str) -> tuple[bytes, Head]:
    """Returns the line that follows a head, its end included, and the new head."""
    seq = before.seq + 1
    signed = seq if kind == "checkpoint" else before.signed
    content = f'{{"{kind}":{body},"seq":{seq},"signed":{signed}'.encode("ascii")
    head = Head(seq, _hash(before, content), signed)
    return content + f',"hash":"{head.hash}"}}\n'.encode("ascii"), head


def parse(line: bytes) -> Record | None:
    """Reads a line without its end; ``None`` if it is not one that `seal` writes."""
    match = _LINE.fullmatch(line) if len(line) <= MAX_RECORD_BYTES else None
    if match is None:
        return None
    kind, body, seq, signed, digest = match.groups()
    head = Head(int(seq), digest.decode(), int(signed))
    return Record(kind.decode(), body, head, line[:-_HASH_BYTES])


def looks_whole(line: bytes) -> bool:
    """Says whether a line that is no record was one: a writer that was cut short left less."""
    return _WHOLE.search(line[-256:]) is not None


def _hash(before: Head, content: bytes) -> str:
    return sha256(DOMAIN + bytes.fromhex(before.hash) + content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signature under everything up to a record.

    Attributes:
        log: Id of the log.
        head: The record just before the checkpoint, and all before it.
        time: When it was signed, RFC 3339.
        key: The public key, ``ed25519:`` and 64 hexadecimal digits.
        next: The key that signs from here on, if this is the last one by ``key``.
        signature: 128 hexadecimal digits.
    """

    log: str
    head: Head
    time: str
    key: str
    next: str | None
    signature: str

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return checkpoint_body(self.log, self.head, self.time, self.key, self.next)

    @classmethod
    def of(cls, record: Record) -> Checkpoint | None:
        """Reads a record's body; ``None`` if it is not exactly what a writer writes."""
        fields = record.fields()
        try:
            found = cls(
                log=fields["log"],
                head=Head.parse(fields["head"]),
                time=fields["time"],
                key=fields["key"],
                next=fields["next"],
                signature=fields["signature"],
            )
        except (KeyError, TypeError, ValueError):
            return None
        return found if found.body().encode("ascii", "replace") == record.body else None

    def body(self) -> str:
        """Returns the body of its record."""
        unsigned = self.message[len(CHECKPOINT_DOMAIN) : -1].decode("ascii")
        return f"{unsigned},{compact({'signature': self.signature})[1:]}"


def checkpoint_body(log: str, head: Head, time: str, key: str, next_key: str | None) -> bytes:
    """Returns the bytes that a checkpoint signs."""
    body = {"log": log, "head": str(head), "time": time, "key": key, "next": next_key}
    return CHECKPOINT_DOMAIN + compact(body).encode("ascii")
