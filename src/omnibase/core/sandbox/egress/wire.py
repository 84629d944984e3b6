"""Frames between the in-guest agent and the host's broker: bytes in, values out, no I/O.

The channel is one ``SOCK_SEQPACKET`` socket, so that a message is a frame::

    u8 version | u8 kind | u16 code | u32 stream | payload

in little-endian order. A stream is one connection; its number is chosen by the
guest and only grows. Flow is bounded by windows: neither side sends more than
`WINDOW` bytes of a stream that the other has not given back with `CREDIT`.

The guest is hostile: whatever is not exactly a frame is a `WireError`, which
ends the channel.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = [
    "ASSIGNED",
    "CREDIT",
    "DATA",
    "END",
    "HEADER",
    "LOOKUP",
    "MAX_FRAME",
    "MAX_HOST",
    "MAX_PAYLOAD",
    "OPEN",
    "OPENED",
    "PIECE",
    "READY",
    "REFUSED",
    "RESET",
    "VERSION",
    "WINDOW",
    "Frame",
    "WireError",
    "decode",
    "encode",
    "pieces",
]

VERSION: Final = 1
HEADER: Final = struct.Struct("<BBHI")
MAX_PAYLOAD: Final = 1048576
PIECE: Final = 65536
"""Payload of a message for which the kernel needs no large memory in one piece."""
MAX_FRAME: Final = HEADER.size + MAX_PAYLOAD
MAX_HOST: Final = 255
WINDOW: Final = 2 * MAX_PAYLOAD
"""Bytes of a stream under way in one direction."""

READY: Final = 1
"""Guest: its listeners are up."""
OPEN: Final = 2
"""Guest: a connection to the host in the payload, port in ``code``."""
OPENED: Final = 3
"""Host: it is connected."""
REFUSED: Final = 4
"""Host: it is not, and the stream is over; ``code`` is an errno."""
DATA: Final = 5
END: Final = 6
"""No more data from this side (half-close)."""
RESET: Final = 7
"""The stream is over, whatever is under way."""
CREDIT: Final = 8
"""As many bytes (u32) were passed on, and may be sent again."""
LOOKUP: Final = 9
"""Guest: a name that it did not resolve; ``code`` is the type that was asked for."""
ASSIGNED: Final = 10
"""Guest: the address at ``code`` in its pool stands for the name from now on."""

# kind: (has a code, has a stream, least payload, most payload)
_SHAPES: Final = {
    READY: (False, False, 0, 0),
    OPEN: (True, True, 1, MAX_HOST),
    OPENED: (False, True, 0, 0),
    REFUSED: (True, True, 0, 0),
    DATA: (False, True, 1, MAX_PAYLOAD),
    END: (False, True, 0, 0),
    RESET: (False, True, 0, 0),
    CREDIT: (False, True, 4, 4),
    LOOKUP: (True, False, 0, MAX_HOST),
    ASSIGNED: (True, False, 1, MAX_HOST),
}


class WireError(ValueError):
    """The other side does not keep to the protocol."""


class Frame(NamedTuple):
    """One frame.

    Attributes:
        kind: `READY` to `ASSIGNED`.
        stream: Which connection; 0 if none.
        code: Port, errno, type or offset, by kind.
        payload: Data, host or name; it may share the memory that was decoded.
    """

    kind: int
    stream: int = 0
    code: int = 0
    payload: bytes | memoryview = b""

    @property
    def credit(self) -> int:
        """The bytes that a `CREDIT` gives back."""
        return int.from_bytes(self.payload, "little")


def decode(datagram: bytes | memoryview) -> Frame:
    """Reads one message.

    Raises:
        WireError: It is not exactly one frame of this version.
    """
    if len(datagram) < HEADER.size:
        raise WireError("a frame shorter than its header")
    version, kind, code, stream = HEADER.unpack_from(datagram)
    if version != VERSION:
        raise WireError(f"version {version}")
    shape = _SHAPES.get(kind)
    if shape is None:
        raise WireError(f"a frame of unknown kind {kind}")
    has_code, has_stream, least, most = shape
    size = len(datagram) - HEADER.size
    if not least <= size <= most:
        raise WireError(f"a frame of kind {kind} with {size} bytes")
    if bool(stream) != has_stream or (code and not has_code):
        raise WireError(f"a frame of kind {kind} with a field that it has not")
    frame = Frame(kind, stream, code, datagram[HEADER.size :])
    if kind == CREDIT and not 1 <= frame.credit <= WINDOW:
        raise WireError("a credit that no window holds")
    return frame


def encode(kind: int, stream: int = 0, code: int = 0, payload: bytes = b"") -> bytes:
    """Writes one message; what it is given must be a frame."""
    return HEADER.pack(VERSION, kind, code, stream) + payload


def pieces(frame: bytes | memoryview) -> list[bytes]:
    """Splits a frame with much data into several with little, which say the same.

    The kernel may have no room for a large message when it has it for small ones.
    """
    head = HEADER.size
    if len(frame) <= head + PIECE:
        return [bytes(frame)]
    start = bytes(frame[:head])
    return [start + frame[at : at + PIECE] for at in range(head, len(frame), PIECE)]
