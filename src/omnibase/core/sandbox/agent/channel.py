"""The guest's end of the channel to the broker: frames out, frames in, what waits, the streams.

It runs inside the sandbox and uses the standard library only. The frames are
those of `egress.wire`, where their meaning is described.
"""

from __future__ import annotations

import _socket as sockets
import _struct as struct
import errno
import os
import select

VERSION, MAX_PAYLOAD, PIECE, WINDOW = 1, 1048576, 65536, 2097152
READY, OPEN, OPENED, REFUSED, DATA, END, RESET, CREDIT, LOOKUP, ASSIGNED = range(1, 11)
HEADER = struct.Struct("<BBHI")
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_NO_ROOM = (errno.ENOBUFS, errno.EMSGSIZE)


def pieces(frame: bytes | memoryview) -> list[bytes]:
    """Splits a frame with much data, as `egress.wire.pieces` does."""
    head = HEADER.size
    if len(frame) <= head + PIECE:
        return [bytes(frame)]
    start = bytes(frame[:head])
    return [start + frame[at : at + PIECE] for at in range(head, len(frame), PIECE)]


class Stream:
    """One connection of the script's."""

    __slots__ = ("credit", "fd", "host_done", "mask", "number", "owed", "pending", "script_done",
                 "socket")  # fmt: skip

    def __init__(self, number: int, socket: sockets.socket) -> None:
        self.number = number
        self.socket = socket
        self.fd = socket.fileno()
        self.credit = WINDOW  # what may still be sent to the host
        self.owed = 0  # what the script has taken and the host was not credited with
        self.pending = bytearray()  # what the script has not taken yet
        self.script_done = False
        self.host_done = False
        self.mask = 0


class Channel:
    """A socket of messages.

    Attributes:
        fd: The socket.
        queue: What the host has not taken yet.
        view: Where messages are received, and where data is read to be sent.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.queue: list[bytes] = []
        self.view = memoryview(bytearray(HEADER.size + MAX_PAYLOAD))
        self.epoll = select.epoll()

    def send(self, kind: int, stream: int, code: int = 0, payload: bytes = b"") -> None:
        """Sends a frame, or keeps it until the host reads."""
        self.transmit(HEADER.pack(VERSION, kind, code, stream) + payload)

    def transmit(self, frame: bytes | memoryview) -> None:
        """Likewise for a frame that is made already."""
        if not self.queue:
            try:
                os.write(self.fd, frame)
                return
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
            self.epoll.register(self.fd, _IN | _OUT)
        self.queue += pieces(frame)

    def flush(self) -> None:
        """Sends what waits, as far as the host reads."""
        sent = 0
        try:
            for frame in self.queue:
                os.write(self.fd, frame)
                sent += 1
        except OSError as error:
            if error.errno not in (errno.EAGAIN, *_NO_ROOM):
                raise
        del self.queue[:sent]
        if not self.queue:
            # Polled for room without need, it would wake at each frame that the host takes.
            self.epoll.unregister(self.fd)

    def wait(self) -> bool:
        """Waits until the host reads or sends; returns whether it has sent."""
        readable = False
        for _, events in self.epoll.poll():
            if events & _OUT:
                self.flush()
            readable = bool(events & ~_OUT)
        return readable

    def receive(self) -> int:
        """Takes a message into `view`; returns its size, 0 if the host is gone.

        Raises:
            BlockingIOError: There is none.
        """
        return os.readv(self.fd, [self.view])
