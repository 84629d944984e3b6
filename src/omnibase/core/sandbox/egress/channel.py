"""The host's end of the channel to the guest: frames out, frames in, and what waits."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import deque
from typing import Final

from omnibase.core.sandbox.egress import wire

__all__ = ["Channel", "Ends", "make_ends"]

_SO_SNDBUFFORCE: Final = 32  # socket(7)
_BUFFER_BYTES: Final = 2 << 20
_MAX_QUEUED: Final = 256
_NO_ROOM: Final = (errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE)


Ends = tuple[socket.socket, socket.socket]


def make_ends() -> Ends:
    """Makes the pair of sockets: the guest's end, and the host's."""
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    ends = socket.socketpair(socket.AF_UNIX, kind)
    for end in ends:
        with contextlib.suppress(OSError):  # without the right to, it is merely slower
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    return ends


class Channel:
    """A pair of sockets, of which the guest gets one.

    Args:
        ends: What `make_ends` has made, if that was done before.

    Attributes:
        guest: The guest's end.
        gone: Nobody is at the guest's end any more.
    """

    def __init__(self, ends: Ends | None = None) -> None:
        self.guest, self._host = ends or make_ends()
        self.gone = False
        self._queue: deque[bytes] = deque()
        self._buffer = memoryview(bytearray(wire.MAX_FRAME + 1))

    def fileno(self) -> int:
        """The host's end."""
        return self._host.fileno()

    @property
    def waiting(self) -> int:
        """How many frames wait for the guest to read."""
        return len(self._queue)

    @property
    def crowded(self) -> bool:
        """Whether so many wait that the guest should not be asked for more."""
        return len(self._queue) > _MAX_QUEUED

    def send(self, kind: int, stream: int, code: int = 0, payload: bytes = b"") -> None:
        """Sends a frame, or keeps it until the guest reads."""
        self.transmit(wire.encode(kind, stream, code, payload))

    def transmit(self, frame: bytes | memoryview) -> None:
        """Likewise for a frame that is made already."""
        if self.gone:
            return
        if not self._queue:
            try:
                self._host.send(frame)
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    return  # reading tells that the guest is gone
        self._queue.extend(wire.pieces(frame))

    def flush(self) -> None:
        """Sends what waits, as far as the guest reads."""
        while self._queue:
            try:
                self._host.send(self._queue[0])
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    self._queue.clear()
                return
            self._queue.popleft()

    def receive(self) -> wire.Frame | None:
        """Takes a frame, whose payload is valid until the next one; ``None`` if there is none.

        Raises:
            WireError: It is no frame.
        """
        try:
            size = self._receive()
        except BlockingIOError:
            return None
        except OSError:
            size = 0
        if size == 0:
            self.gone = True
            return None
        return wire.decode(self._buffer[:size])

    def _receive(self) -> int:
        try:
            return self._host.recv_into(self._buffer)
        except ConnectionResetError:
            # The guest is gone and had not read all: that is told once, before what it
            # had sent, which is still to come.
            return self._host.recv_into(self._buffer)

    def hang_up(self) -> None:
        """Closes the host's end."""
        self.gone = True
        self._queue.clear()
        self._host.close()

    def close(self) -> None:
        """Closes both ends."""
        self.hang_up()
        self.guest.close()
