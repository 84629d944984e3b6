"""One connection: frames of JSON and bytes, each bounded before it is read.

A frame is ``OBP1``, two lengths (32 bits, little-endian), a JSON object in ASCII and a
blob of bytes, of those lengths.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from omnibase.core.sandbox.remote.codec import WireError, parse

__all__ = ["MAX_BLOB_BYTES", "MAX_HEAD_BYTES", "Frame", "Link", "Peer", "peer_of"]

MAX_HEAD_BYTES: Final = 16 << 20
MAX_BLOB_BYTES: Final = 400 << 20
"""A script (64 MiB) and its standard input (256 MiB) at their largest, and more."""

_MAGIC: Final = b"OBP1"
_PREFIX: Final = struct.Struct("<4sII")
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred of unix(7)
_CHUNK: Final = 1 << 20
_HEAD_WEIGHT: Final = 24  # what a byte of JSON can become, once it is parsed
_DRAIN_SECONDS: Final = 30.0


class Peer(NamedTuple):
    """Who is at the other end, as the kernel noted it when they connected."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Asks the kernel (``SO_PEERCRED``)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


class Frame(NamedTuple):
    """What came in one piece."""

    head: dict[str, Any]
    blob: bytes


class Link:
    """Sends and receives frames; several threads may send.

    Args:
        connection: Connected, and blocking; closed by `close`.
        seconds: How long the other end may take to take one frame before it counts as gone.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Readable once there is something to receive."""
        return self._connection.fileno()

    def send(self, head: dict[str, Any], blob: bytes | bytearray = b"") -> None:
        """Sends one frame.

        Raises:
            BlockingIOError: The other end did not take it in time.
            OSError: The other end is gone.
            WireError: It would be larger than the other end takes.
        """
        text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode("ascii")
        if len(text) > MAX_HEAD_BYTES or len(blob) > MAX_BLOB_BYTES:
            raise WireError("it is too large")
        with self._lock:
            deadline = time.monotonic() + self._seconds
            self._write(_PREFIX.pack(_MAGIC, len(text), len(blob)) + text, deadline)
            self._write(blob, deadline)

    def receive(
        self,
        *,
        max_head: int = MAX_HEAD_BYTES,
        max_blob: int = MAX_BLOB_BYTES,
        admit: Callable[[int], None] = lambda _size: None,
        within: float | None = None,
        by: float = math.inf,
    ) -> Frame | None:
        """Waits for one frame; ``None`` at the end of the stream.

        Args:
            max_head: Longest head.
            max_blob: Longest blob.
            admit: Told how much memory it may take; what it raises refuses it.
            within: How many seconds all of it may take, from its first byte on.
            by: When all of it is to be here, on the monotonic clock, once it has begun.

        Raises:
            OSError: The connection broke, or nothing came in time.
            WireError: It is no frame, one that is too large, or one that took too long.
        """
        prefix = self._connection.recv(_PREFIX.size)
        if not prefix:
            return None
        deadline = by if within is None else min(by, time.monotonic() + within)
        prefix += self._read(_PREFIX.size - len(prefix), deadline)
        magic, head, blob = _PREFIX.unpack(prefix)
        if magic != _MAGIC or head > max_head or blob > max_blob:
            raise WireError("no frame, or one that is too large")
        admit(head * _HEAD_WEIGHT + blob)
        return Frame(parse(self._read(head, deadline)), self._read(blob, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            if not self._await(select.POLLIN, deadline):
                raise WireError("it took too long to come")
            part = self._connection.recv(min(size - len(parts), _CHUNK))
            if not part:
                raise WireError("it ended in the middle of a frame")
            parts += part
        return bytes(parts)

    def _write(self, data: bytes | bytearray, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._connection.send(view, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                if not self._await(select.POLLOUT, deadline):
                    raise

    def _await(self, event: int, deadline: float) -> bool:
        """Waits until there is something to be read, or room; without a deadline not at all."""
        if deadline == math.inf:
            return True
        left = deadline - time.monotonic()
        poller = select.poll()
        poller.register(self._connection, event)
        return left > 0 and bool(poller.poll(left * 1000))

    def limit_receiving(self, seconds: float | None) -> None:
        """Sets how long a `receive` waits for anything at all."""
        value = struct.pack("ll", int(seconds or 0), 0)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    def finish_sending(self) -> None:
        """Says that nothing more comes, which ends what was asked for."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def drain(self) -> None:
        """Waits for the other end to close, whatever it still has to say."""
        self.limit_receiving(_DRAIN_SECONDS)
        with contextlib.suppress(OSError):
            while os.read(self._connection.fileno(), _CHUNK):
                pass

    def interrupt(self) -> None:
        """Ends all waiting on it, in any thread."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()
