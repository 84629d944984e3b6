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
from hashlib import sha256
from typing import Any, Final

from omnibase.core.events.model import MAX_LINE_BYTES

__all__ = [
    "FORMAT",
    "GENESIS",
    "KINDS",
    "MAX_RECORD_BYTES",
    "Head",
    "Record",
    "compact",
    "looks_whole",
    "parse",
    "seal",
]

FORMAT: Final = "omnibase.audit.v1"
DOMAIN: Final = b"omnibase.audit.record.v1\n"
KINDS: Final = ("event", "segment", "checkpoint", "torn", "lost")
MAX_RECORD_BYTES: Final = MAX_LINE_BYTES + 512
"""A longer line is no record."""

_HASH_BYTES: Final = len(b',"hash":"') + 64 + len(b'"}')
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_HEX: Final = b"0123456789abcdef"
# The end of a record that was written whole, though perhaps changed since.
_WHOLE: Final = rb',"hash":".{64}|,"signed":.*"\}\Z'
_HEAD: Final = r"(0|[1-9][0-9]{0,18}):([0-9a-f]{64})"


class _Value:
    """Equal by its parts, and changed by nobody.

    No named tuple: to make that class takes a short process longer than its records do.
    """

    __slots__: tuple[str, ...] = ()

    def _parts(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._parts() == self._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self._parts()!r}"


class Head(_Value):
    """Where a chain ends.

    Attributes:
        seq: Number of the last record; 0 if there is none.
        hash: Its hash.
        signed: Number of the latest checkpoint; 0 if there is none.
    """

    __slots__ = ("hash", "seq", "signed")

    def __init__(self, seq: int, hash: str, signed: int = 0) -> None:
        self.seq, self.hash, self.signed = seq, hash, signed

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Reads ``SEQ:HASH``.

        Raises:
            ValueError: It is something else.
        """
        match = re.fullmatch(_HEAD, text)
        if match is None:
            raise ValueError("not a head")
        return cls(int(match[1]), match[2])


GENESIS: Final = Head(0, "0" * 64)


class Record(_Value):
    """One line as it was read; whether it continues a chain is another question.

    Attributes:
        kind: One of `KINDS`.
        body: The JSON of what it holds; an event's is the event's own.
        head: What it says of itself.
        content: Its bytes up to the hash.
    """

    __slots__ = ("body", "content", "head", "kind")

    def __init__(self, kind: str, body: bytes, head: Head, content: bytes) -> None:
        self.kind, self.body, self.head, self.content = kind, body, head, content

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
    # By hand: a regular expression would be compiled by every process that appends.
    content, end = line[:-_HASH_BYTES], line[-_HASH_BYTES:]
    rest, _, signed = content.rpartition(b',"signed":')
    rest, _, seq = rest.rpartition(b',"seq":')
    kind, _, body = rest.partition(b'":')
    name = kind[2:].decode("ascii", "replace")
    whole = (
        len(line) <= MAX_RECORD_BYTES
        and kind[:2] == b'{"'
        and name in KINDS
        and body
        and not body.translate(None, _PRINTABLE)
        and _is_number(seq)
        and seq != b"0"
        and _is_number(signed)
        and (end[:9], end[73:]) == (b',"hash":"', b'"}')
        and not end[9:73].translate(None, _HEX)
    )
    if not whole:
        return None
    return Record(name, body, Head(int(seq), end[9:73].decode(), int(signed)), content)


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 19 and (text == b"0" or text[:1] != b"0")


def looks_whole(line: bytes) -> bool:
    """Says whether a line that is no record was one: a writer that was cut short left less."""
    return re.search(_WHOLE, line[-256:], re.DOTALL) is not None


def _hash(before: Head, content: bytes) -> str:
    return sha256(DOMAIN + bytes.fromhex(before.hash) + content).hexdigest()
