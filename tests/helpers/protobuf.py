"""A protobuf encoder of a few lines, for what no Sentry would send."""

from __future__ import annotations

import struct

Value = int | bytes | str


def varint(value: int) -> bytes:
    """Encodes a non-negative number."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: Value) -> bytes:
    """Encodes one field: a number as a varint, anything else with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value % (1 << 64))
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(*fields: tuple[int, Value]) -> bytes:
    """Encodes fields in the order given."""
    return b"".join(field(number, value) for number, value in fields)


def datagram(kind: int, body: bytes, *, dropped: int = 0, header_size: int = 8) -> bytes:
    """Puts the ``remote`` sink's header before a message."""
    padding = bytes(max(0, header_size - 8))
    return struct.pack("<HHI", header_size, kind, dropped) + padding + body


def context(group_id: int = 2, cwd: str = "/tmp", name: str = "python3") -> bytes:
    """Encodes the context of a trace point, as the trace session asks for it."""
    return message((4, group_id), (8, cwd), (9, name))


def failure(errno: int) -> bytes:
    """Encodes the exit of a system call that failed."""
    return message((2, errno))
