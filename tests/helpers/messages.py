"""Trace messages as the Sentry would send them, with what matters to the test named."""

from __future__ import annotations

import errno as errors
import ipaddress
from typing import Any

from omnibase.core.sandbox.monitor.wire import Message, MessageType


def opened(path: str, errno: int = errors.EACCES, **fields: Any) -> Message:
    """``openat``."""
    return _message(MessageType.OPEN, path=path, errno=errno, **{"sysno": 257, **fields})


def changed_to(path: str, errno: int = errors.EACCES, **fields: Any) -> Message:
    """``chdir``."""
    return _message(MessageType.CHDIR, path=path, errno=errno, sysno=80, **fields)


def executed(path: str, *argv: str, errno: int = errors.EACCES, **fields: Any) -> Message:
    """``execve``, or ``execveat`` if there is an ``fd_path``."""
    sysno = 322 if "fd_path" in fields else 59
    return _message(MessageType.EXECVE, path=path, argv=argv, errno=errno, sysno=sysno, **fields)


def run(path: str, **fields: Any) -> Message:
    """What the kernel is about to execute, links followed."""
    return _message(MessageType.EXEC, path=path, **{"thread_id": 2, **fields})


def connected(address: bytes, errno: int = errors.ENETUNREACH, **fields: Any) -> Message:
    """``connect``."""
    return _message(MessageType.CONNECT, address=address, errno=errno, sysno=42, **fields)


def bound(address: bytes, errno: int = 0, **fields: Any) -> Message:
    """``bind``."""
    return _message(MessageType.BIND, address=address, errno=errno, sysno=49, **fields)


def raw(sysno: int, errno: int = errors.EPERM, **fields: Any) -> Message:
    """A system call of which the trace tells no more than number and errno."""
    return Message(type=MessageType.SYSCALL_RAW, sysno=sysno, errno=errno, **fields)


def ended(status: int, group_id: int = 2, thread_id: int | None = None) -> Message:
    """The end of a thread."""
    thread = group_id if thread_id is None else thread_id
    return Message(type=MessageType.TASK_EXIT, result=status, group_id=group_id, thread_id=thread)


def other(message_type: int, /, **fields: Any) -> Message:
    """Any other point of a system call."""
    return _message(message_type, **fields)


def inet(host: str, port: int) -> bytes:
    """An IPv4 or IPv6 socket address."""
    address = ipaddress.ip_address(host)
    where = port.to_bytes(2, "big")
    if address.version == 4:
        return b"\x02\0" + where + address.packed + bytes(8)
    return b"\x0a\0" + where + bytes(4) + address.packed + bytes(4)


def unix(path: str) -> bytes:
    """A Unix socket's address."""
    return b"\x01\0" + path.encode() + b"\0"


def _message(message_type: int, /, **fields: Any) -> Message:
    return Message(
        type=message_type, **{"group_id": 2, "process_name": "python3", "cwd": "/tmp", **fields}
    )
