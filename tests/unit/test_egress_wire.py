"""The frames between guest and broker: each is read back, and nothing else is read."""

from __future__ import annotations

import pytest

from omnibase.core.sandbox.egress import wire

FRAMES = (
    wire.Frame(wire.READY),
    wire.Frame(wire.OPEN, 1, 443, b"api.example.com"),
    wire.Frame(wire.OPEN, 2**32 - 1, 65535, b"x" * 255),
    wire.Frame(wire.OPENED, 1),
    wire.Frame(wire.REFUSED, 1, 111),
    wire.Frame(wire.DATA, 1, 0, b"x"),
    wire.Frame(wire.DATA, 1, 0, b"x" * wire.MAX_PAYLOAD),
    wire.Frame(wire.END, 7),
    wire.Frame(wire.RESET, 7),
    wire.Frame(wire.CREDIT, 7, 0, (1).to_bytes(4, "little")),
    wire.Frame(wire.CREDIT, 7, 0, wire.WINDOW.to_bytes(4, "little")),
    wire.Frame(wire.LOOKUP, 0, 28, b"name.example"),
    wire.Frame(wire.LOOKUP, 0, 1, b""),
    wire.Frame(wire.ASSIGNED, 0, 256, b"a.example"),
)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_a_frame_is_read_back(frame: wire.Frame) -> None:
    data = wire.encode(frame.kind, frame.stream, frame.code, bytes(frame.payload))
    assert wire.decode(data) == frame
    assert wire.decode(memoryview(data)) == frame


def test_a_credit_tells_its_bytes() -> None:
    data = wire.encode(wire.CREDIT, 3, payload=(70000).to_bytes(4, "little"))
    assert wire.decode(data).credit == 70000


@pytest.mark.parametrize("size", [1, wire.PIECE, wire.PIECE + 1, wire.MAX_PAYLOAD])
def test_pieces_say_what_the_frame_says(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    pieces = [
        wire.decode(piece)
        for piece in wire.pieces(memoryview(wire.encode(wire.DATA, 3, 0, data[:size])))
    ]
    assert b"".join(bytes(piece.payload) for piece in pieces) == data[:size]
    assert all((p.kind, p.stream, p.code) == (wire.DATA, 3, 0) for p in pieces)
    assert all(len(piece.payload) <= wire.PIECE for piece in pieces)


@pytest.mark.parametrize(
    ("datagram", "fault"),
    [
        (b"", "shorter"),
        (bytes(7), "shorter"),
        (b"\x02\x01" + bytes(6), "version 2"),
        (b"\x00\x01" + bytes(6), "version 0"),
        (b"\x01\x00" + bytes(6), "unknown kind 0"),
        (b"\x01\xff" + bytes(6), "unknown kind 255"),
        (wire.encode(wire.READY, payload=b"x"), "with 1 bytes"),
        (wire.encode(wire.READY, 1), "that it has not"),
        (wire.encode(wire.READY, 0, 1), "that it has not"),
        (wire.encode(wire.OPEN, 1, 443), "with 0 bytes"),
        (wire.encode(wire.OPEN, 0, 443, b"a"), "that it has not"),
        (wire.encode(wire.OPEN, 1, 443, b"a" * 256), "with 256 bytes"),
        (wire.encode(wire.DATA, 1), "with 0 bytes"),
        (wire.encode(wire.DATA, 0, 0, b"x"), "that it has not"),
        (wire.encode(wire.DATA, 1, 1, b"x"), "that it has not"),
        (wire.encode(wire.DATA, 1, 0, bytes(wire.MAX_PAYLOAD + 1)), "with 1048577 bytes"),
        (wire.encode(wire.CREDIT, 1, 0, b"\1\0\0"), "with 3 bytes"),
        (wire.encode(wire.CREDIT, 1, 0, bytes(4)), "no window"),
        (wire.encode(wire.CREDIT, 1, 0, (wire.WINDOW + 1).to_bytes(4, "little")), "no window"),
        (wire.encode(wire.LOOKUP, 1, 1, b"a"), "that it has not"),
        (wire.encode(wire.ASSIGNED, 0, 1), "with 0 bytes"),
    ],
)
def test_anything_else_is_refused(datagram: bytes, fault: str) -> None:
    with pytest.raises(wire.WireError, match=fault):
        wire.decode(datagram)
