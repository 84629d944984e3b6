"""Decoding of the Sentry's trace stream: bytes in, frozen values out, no I/O.

Each datagram of the ``remote`` sink is an 8-byte little-endian header
(u16 header size, u16 message type, u32 dropped count) and one protobuf message.
Message types and field numbers are those of gVisor's
``pkg/sentry/seccheck/points/*.proto``, checked against runsc 20240729.

The stream is hostile input: a compromised Sentry may send anything. Every
length is bounded before it is used, and anything malformed is a `WireError`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = [
    "HANDSHAKE",
    "MAX_DATAGRAM",
    "Message",
    "MessageType",
    "WireError",
    "check_handshake",
    "decode",
    "split",
]

# More than the Sentry's socket takes at once (net.core.wmem_default, 208 KiB).
MAX_DATAGRAM: Final = 256 << 10
_MAX_TEXT: Final = 4096  # PATH_MAX; longer fields are cut, not refused
_HEADER: Final = struct.Struct("<HHI")

# `Handshake{version=1}`: field 1, varint, 1.
HANDSHAKE: Final = b"\x08\x01"


class WireError(ValueError):
    """The stream is malformed; whoever sent it cannot be trusted."""


class MessageType:
    """Numbers of the messages that are understood; all others are skipped."""

    CONTAINER_START: Final = 1
    EXEC: Final = 3
    TASK_EXIT: Final = 5
    SYSCALL_RAW: Final = 6
    OPEN: Final = 7
    CONNECT: Final = 10
    EXECVE: Final = 11
    SOCKET: Final = 12
    CHDIR: Final = 13
    SETID: Final = 14
    SETRESID: Final = 15
    CHROOT: Final = 21
    CLONE: Final = 23
    BIND: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One trace point, reduced to what deciding needs.

    Attributes:
        type: A `MessageType` number.
        group_id: Thread group id in the guest's root PID namespace; 0 if the
            point carries no context (raw syscalls do not).
        thread_id: Likewise the thread's.
        process_name: The task's name as the guest set it: untrusted text.
        cwd: Working directory of the task.
        errno: 0 on success.
        result: Return value of the system call; for `TASK_EXIT` the wait status.
        sysno: Number of the system call, where the point carries one.
        path: Path as the guest passed it, not resolved.
        fd_path: Directory that a relative ``path`` starts at, if not ``cwd``.
        flags: ``open`` or ``clone`` flags, ``socket`` domain.
        kind: ``socket`` type.
        address: Raw ``sockaddr`` bytes.
        argv: Arguments of an ``execve``.

    For `EXEC`, which comes once a file was found to be executable and before it runs,
    ``path`` is that file, links followed.
    """

    type: int
    group_id: int = 0
    thread_id: int = 0
    process_name: str = ""
    cwd: str = ""
    errno: int = 0
    result: int = 0
    sysno: int = 0
    path: str = ""
    fd_path: str = ""
    flags: int = 0
    kind: int = 0
    address: bytes = b""
    argv: tuple[str, ...] = ()


def check_handshake(datagram: bytes) -> None:
    """Accepts any protobuf with ``version >= 1``.

    Raises:
        WireError: It is not a handshake, or its version is 0 or absent.
    """
    if not any(number == 1 and isinstance(v, int) and v >= 1 for number, v in _fields(datagram)):
        raise WireError("handshake without a version")


def split(datagram: bytes) -> tuple[int, int, bytes]:
    """Returns ``(message type, messages dropped so far, protobuf bytes)``.

    Raises:
        WireError: The header is short or its size is impossible.
    """
    if len(datagram) < _HEADER.size:
        raise WireError("datagram shorter than its header")
    header_size, kind, dropped = _HEADER.unpack_from(datagram)
    if not _HEADER.size <= header_size <= len(datagram):
        raise WireError("impossible header size")
    return kind, dropped, datagram[header_size:]


def decode(kind: int, body: bytes) -> Message | None:
    """Decodes one message, or returns ``None`` for a type that is not used.

    Raises:
        WireError: The protobuf is malformed or a field has the wrong type.
    """
    layout = _LAYOUTS.get(kind)
    if layout is None:
        return None
    values: dict[str, object] = {}
    argv: list[str] = []
    for number, value in _fields(body):
        name = layout.get(number)
        if name is None:
            continue
        if name == "context":
            _context(_expect_bytes(value), values)
        elif name == "exit":
            _exit(_expect_bytes(value), values)
        elif name == "argv":
            if len(argv) < 64:
                argv.append(_text(value))
        elif name == "address":
            values[name] = _expect_bytes(value)[:128]
        elif name in ("path", "fd_path"):
            values[name] = _text(value)
        else:
            values[name] = _expect_int(value)
    if argv:
        values["argv"] = tuple(argv)
    return Message(type=kind, **values)  # type: ignore[arg-type]


_COMMON: Final = {1: "context", 2: "exit", 3: "sysno"}
_LAYOUTS: Final[dict[int, dict[int, str]]] = {
    MessageType.CONTAINER_START: {},
    MessageType.EXEC: {1: "context", 2: "path"},
    MessageType.TASK_EXIT: {1: "context", 2: "result"},
    MessageType.SYSCALL_RAW: {1: "context", 2: "exit", 4: "sysno"},
    MessageType.OPEN: _COMMON | {5: "fd_path", 6: "path", 7: "flags"},
    MessageType.CONNECT: _COMMON | {6: "address"},
    MessageType.EXECVE: _COMMON | {5: "fd_path", 6: "path", 7: "argv"},
    MessageType.SOCKET: _COMMON | {4: "flags", 5: "kind"},
    MessageType.CHDIR: _COMMON | {6: "path"},
    MessageType.SETID: _COMMON,
    MessageType.SETRESID: _COMMON,
    MessageType.CHROOT: _COMMON | {4: "path"},
    MessageType.CLONE: _COMMON | {4: "flags"},
    MessageType.BIND: _COMMON | {6: "address"},
}
_CONTEXT: Final = {2: "thread_id", 4: "group_id", 8: "cwd", 9: "process_name"}


def _context(data: bytes, values: dict[str, object]) -> None:
    for number, value in _fields(data):
        name = _CONTEXT.get(number)
        if name in ("group_id", "thread_id"):
            values[name] = _expect_int(value)
        elif name is not None:
            values[name] = _text(value)


def _exit(data: bytes, values: dict[str, object]) -> None:
    for number, value in _fields(data):
        if number == 1:
            values["result"] = _signed(_expect_int(value))
        elif number == 2:
            values["errno"] = _expect_int(value)


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Splits a protobuf message into its ``(field number, value)`` pairs."""
    fields: list[tuple[int, int | bytes]] = []
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            fields.append((number, value))
            continue
        if wire_type == 2:
            size, position = _varint(data, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise WireError("unknown wire type")
        if size > end - position:
            raise WireError("field longer than its message")
        fields.append((number, data[position : position + size]))
        position += size
    return fields


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise WireError("truncated varint")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise WireError("varint longer than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _expect_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise WireError("number where bytes are due")
    return value


def _expect_int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise WireError("bytes where a number is due")
    return value


def _text(value: int | bytes) -> str:
    # Paths are bytes to the kernel: undecodable ones survive as surrogates.
    return _expect_bytes(value)[:_MAX_TEXT].decode("utf-8", "surrogateescape")
