"""The stream of files from the in-guest agent: bytes in, values out, no I/O.

One pipe carries it, from the guest to the host alone, once everything in the guest
but the agent is dead::

    "OBC1"
    u8 1 | u8 outlet | u16 length of name | u64 size   | name | bytes     a file
    u8 2 | u8 outlet | u16 length of name | u64 reason | name             left out
    u8 0                                                                  the end

in little-endian order. The guest is hostile: whatever is not exactly that, or more
than was agreed, is a `WireError`, and nothing of the stream counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from omnibase.core.sandbox.spec import Outlet

__all__ = [
    "HEADER",
    "MAGIC",
    "MAX_DEPTH",
    "MAX_LEFT_OUT",
    "MAX_NAME",
    "REASONS",
    "Begin",
    "Data",
    "Decoder",
    "Finish",
    "LeftOut",
    "WireError",
]

MAGIC: Final = b"OBC1"
HEADER: Final = struct.Struct("<BBHQ")
MAX_NAME: Final = 4096
MAX_DEPTH: Final = 8
MAX_LEFT_OUT: Final = 256
"""Of all outlets together; the agent counts what is more in one last row without a name."""

REASONS: Final = {
    1: "is not a regular file",
    2: "is larger than what may come out",
    3: "is one file more than may come out",
    4: f"lies more than {MAX_DEPTH - 1} directories deep",
    5: "cannot be read",
    6: "is among more than could be looked through",
}
_END, _FILE, _LEFT_OUT = 0, 1, 2


class WireError(ValueError):
    """The guest does not keep to the protocol."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A file begins.

    Attributes:
        outlet: Where it was left: an index.
        name: Its path below, ``/`` between two segments; undecodable bytes are surrogates.
        size: In bytes; exactly so many follow.
    """

    outlet: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Data:
    """A part of the file that has begun; it shares the memory that was decoded."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class Finish:
    """The file is whole."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that stays in the guest.

    Attributes:
        outlet: Where it was left: an index.
        name: Its path below.
        reason: Why, as the rest of a sentence about it.
    """

    outlet: int
    name: str
    reason: str


class Decoder:
    """Reads the stream, cut anywhere.

    Args:
        outlets: Where files may be left, and how much of them.

    Attributes:
        ended: All of it has come.
    """

    def __init__(self, outlets: tuple[Outlet, ...]) -> None:
        self._files = [outlet.max_files for outlet in outlets]
        self._bytes = [outlet.max_bytes for outlet in outlets]
        self._seen: set[tuple[int, bytes]] = set()
        self._left_out = MAX_LEFT_OUT + len(outlets)
        self._head = b""
        self._greeted = False
        self._missing = 0
        self._within = False
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Begin | Data | Finish | LeftOut]:
        """Takes bytes and yields what they complete; all of it is to be taken.

        Raises:
            WireError: They cannot be of such a stream.
        """
        view = memoryview(data)
        while view or (self._within and not self._missing):
            if self._within:
                part, view = view[: self._missing], view[self._missing :]
                self._missing -= len(part)
                if part:
                    yield Data(part)
                if not self._missing:
                    self._within = False
                    yield Finish()
                continue
            if self.ended:
                raise WireError("bytes after its end")
            wanted = self._wanted()
            part, view = view[:wanted], view[wanted:]
            self._head += part
            if self._wanted() == 0:
                head, self._head = self._head, b""
                yield from self._record(head)

    def _wanted(self) -> int:
        """How many more bytes the record needs, as far as it is known."""
        have = len(self._head)
        if not self._greeted:
            return len(MAGIC) - have
        if not have:
            return 1
        if self._head[0] == _END:
            return 0
        if have < HEADER.size:
            return HEADER.size - have
        return HEADER.size + self._checked(self._head) - have

    def _checked(self, head: bytes) -> int:
        """Returns the length of the name that follows; what is too long is never kept."""
        kind, outlet, length, number = HEADER.unpack_from(head)
        if kind not in (_FILE, _LEFT_OUT):
            raise WireError(f"a record of unknown kind {kind}")
        if outlet >= len(self._files):
            raise WireError(f"a file of outlet {outlet}")
        if length > MAX_NAME:
            raise WireError(f"a name of {length} bytes")
        if kind == _LEFT_OUT:
            if number not in REASONS:
                raise WireError(f"a file that is left out for reason {number}")
            if not self._left_out:
                raise WireError("too many files that are left out")
        elif not self._files[outlet]:
            raise WireError("too many files")
        elif number > self._bytes[outlet]:
            raise WireError(f"a file of {number} bytes where {self._bytes[outlet]} are left")
        return int(length)

    def _record(self, head: bytes) -> Iterator[Begin | LeftOut]:
        if not self._greeted:
            if head != MAGIC:
                raise WireError("it is of another version")
            self._greeted = True
            return
        if head[0] == _END:
            self.ended = True
            return
        kind, outlet, _, number = HEADER.unpack_from(head)
        name = head[HEADER.size :]
        text = name.decode("utf-8", "surrogateescape")
        if kind == _LEFT_OUT:
            self._left_out -= 1
            yield LeftOut(outlet, text, REASONS[number])
            return
        segments = name.split(b"/")
        if b"\0" in name or len(segments) > MAX_DEPTH or {b"", b".", b".."} & set(segments):
            raise WireError("a name that no file below an outlet has")
        if (outlet, name) in self._seen:
            raise WireError("a file that comes twice")
        self._seen.add((outlet, name))
        self._files[outlet] -= 1
        self._bytes[outlet] -= number
        self._missing, self._within = number, True
        yield Begin(outlet, text, number)
