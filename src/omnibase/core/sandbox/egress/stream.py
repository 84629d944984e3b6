"""One connection of the broker: its state, and what is under way in it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import struct
import threading
from typing import Final

from omnibase.core.sandbox.egress import wire
from omnibase.core.sandbox.egress.allowlist import Address, Target
from omnibase.core.sandbox.egress.reports import Closed, Failed, Limit, Opened, Reason
from omnibase.core.sandbox.spec import EgressGrant

__all__ = ["Sockets", "Stream"]

# `struct linger`: on, for no time: closing resets.
_RESET: Final = struct.pack("ii", 1, 0)


class Sockets:
    """Counts the brokers' sockets of this process, so that no run takes the last descriptor."""

    _lock = threading.Lock()
    _open = 0

    @classmethod
    def take(cls) -> bool:
        """Takes one of the places, if there is one."""
        with cls._lock:
            if cls._open >= cls.most() * 2:
                return False
            cls._open += 1
            return True

    @classmethod
    def give(cls) -> None:
        """Gives a place back."""
        with cls._lock:
            cls._open -= 1

    @staticmethod
    def most() -> int:
        """The most that one run may have: a quarter of the process's descriptors."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 1 << 16 if soft == resource.RLIM_INFINITY else max(4, soft // 4)


# A child forked while another thread holds the lock would wait for it for ever.
os.register_at_fork(after_in_child=Sockets._lock._at_fork_reinit)  # type: ignore[attr-defined]


class Stream:
    """A connection from the guest's OPEN to its end on both sides.

    Attributes:
        number: The guest's.
        target: What the guest asked for.
        grant: What covers it.
        candidates: Checked addresses that are still to be tried.
        address: The one that is tried or connected.
        peer: The socket to it.
        connected: Whether it is up.
        mask: What the peer's socket is polled for.
        pending: Bytes for the peer that it did not take yet.
        window: Bytes that the guest may still send.
        owed: Bytes passed on to the peer and not yet credited to the guest.
        credit: Bytes that may still be sent to the guest.
        guest_done: The guest has sent its END.
        peer_done: The peer has, and was passed on.
        sent: Bytes passed to the peer.
        received: Bytes passed to the guest.
        began: When it was asked for, on the monotonic clock.
        moved: When anything last moved.
        fault: Errno of the address that was tried last.
    """

    __slots__ = (
        "address", "began", "candidates", "connected", "credit", "fault", "grant", "guest_done",
        "mask", "moved", "number", "owed", "peer", "peer_done", "pending", "received", "sent",
        "target", "window",
    )  # fmt: skip

    def __init__(self, number: int, target: Target, grant: EgressGrant, now: float) -> None:
        self.number = number
        self.target = target
        self.grant = grant
        self.candidates: list[Address] = []
        self.address: Address | None = None
        self.peer: socket.socket | None = None
        self.connected = False
        self.mask = 0
        self.pending = bytearray()
        self.window = wire.WINDOW
        self.owed = 0
        self.credit = wire.WINDOW
        self.guest_done = False
        self.peer_done = False
        self.sent = 0
        self.received = 0
        self.began = now
        self.moved = now
        self.fault = errno.EHOSTUNREACH

    def connect(self) -> bool:
        """Starts connecting to the next candidate; returns whether one is under way."""
        self.drop(reset=True)
        while self.candidates:
            self.address = self.candidates.pop(0)
            family = socket.AF_INET if self.address.version == 4 else socket.AF_INET6
            try:
                peer = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError as error:
                self.fault = error.errno or errno.ECONNREFUSED
                return False
            self.peer = peer
            self.fault = peer.connect_ex((str(self.address), self.target.port))
            if self.fault in (0, errno.EINPROGRESS):
                with contextlib.suppress(OSError):
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return True
            self.drop(reset=True)
        return False

    def settle(self) -> bool:
        """Asks how the connect ended; returns whether the connection is up."""
        peer = self.peer
        if peer is None:
            return False
        self.fault = peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self.fault == 0:
            try:
                # With no listener, a connect to a port of the host's own may meet itself.
                self.connected = peer.getsockname() != peer.getpeername()
                self.fault = 0 if self.connected else errno.ECONNREFUSED
            except OSError as error:
                self.fault = error.errno or errno.ECONNREFUSED
        return self.connected

    def push(self, data: bytes | bytearray | memoryview) -> int:
        """Writes to the peer; returns how much it took.

        Raises:
            OSError: The connection is broken.
        """
        try:
            taken = self.peer.send(data) if self.peer is not None else 0
        except BlockingIOError:
            return 0
        self.sent += taken
        self.owed += taken
        return taken

    def shut(self) -> None:
        """Tells the peer that nothing more is coming."""
        if self.peer is not None:
            with contextlib.suppress(OSError):
                self.peer.shutdown(socket.SHUT_WR)

    def drop(self, *, reset: bool) -> None:
        """Closes the socket; a reset tells the peer that something is missing."""
        if self.peer is not None:
            if reset:
                with contextlib.suppress(OSError):
                    self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.peer.close()
            self.peer = None

    # What there is to report of it

    def opened(self) -> Opened:
        """That it is up."""
        return Opened(
            connection=self.number,
            target=str(self.target),
            address=str(self.address),
            capability=self.grant.capability,
        )

    def closed(self, reason: Reason, now: float) -> Closed:
        """That it was up, and is over."""
        return Closed(
            connection=self.number,
            target=str(self.target),
            address=str(self.address),
            capability=self.grant.capability,
            sent=self.sent,
            received=self.received,
            seconds=now - self.began,
            reason=reason,
        )

    def failed(self, reason: str, limit: Limit | None = None) -> Failed:
        """That it was never up, and why, for a person; and which limit it was, if one."""
        return Failed(
            target=str(self.target),
            capability=self.grant.capability,
            reason=reason,
            limit=limit,
        )
