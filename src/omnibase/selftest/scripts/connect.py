"""Reaches out: ADDRESS PORT WAY..., each way one after the other.

Threat: T-EXEC-06, T-EXEC-07
Expected: nothing arrives, and `NETWORK_CONNECT:` with the target is on record.
Granted: with that capability, what is sent arrives.
"""

import ctypes
import json
import socket
import struct
import sys
from collections.abc import Callable

address, port, *ways = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
got: list[str] = []
refused: dict[str, str] = {}


def tcp(host: str, number: int) -> None:
    with socket.create_connection((host, number), 5) as client:
        client.sendall(b"hello")


def raw() -> None:
    """By the system call itself: connect(2), number 42."""
    target = struct.pack("<H", 2) + struct.pack(">H", int(port)) + socket.inet_aton(address)
    with socket.socket() as client:
        if libc.syscall(42, client.fileno(), target.ljust(16, b"\0"), 16) != 0:
            raise OSError(ctypes.get_errno(), "connect")
        client.sendall(b"hello")


def udp() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", ("203.0.113.7", 53))  # an address for documentation: RFC 5737


WAYS: dict[str, Callable[[], object]] = {
    "tcp": lambda: tcp(address, int(port)),
    "raw": raw,
    "udp": udp,
    "public": lambda: tcp("203.0.113.7", 443),
    "metadata": lambda: tcp("169.254.169.254", 80),
    "name": lambda: socket.getaddrinfo("selftest.example", 443),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
}
for way in ways:
    try:
        WAYS[way]()
        got.append(way)
    except OSError as error:
        refused[way] = type(error).__name__
print(json.dumps({"got": got, "refused": refused}))
