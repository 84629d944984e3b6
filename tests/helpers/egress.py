"""The guest's end of a broker's channel, spoken by a test, and servers for it to reach."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from omnibase.core.sandbox.egress import wire
from omnibase.core.sandbox.egress.broker import Broker
from omnibase.core.sandbox.egress.reports import Report
from omnibase.core.sandbox.spec import EgressGrant, EgressLimits
from omnibase.core.security.host_patterns import HostPattern

Names = Callable[..., None]


def grant(pattern: str) -> EgressGrant:
    """The grant of ``NETWORK_CONNECT:pattern``."""
    p = HostPattern.parse(pattern)
    return EgressGrant(host=p.host, low=p.low, high=p.high, capability=f"NETWORK_CONNECT:{p}")


class Guest:
    """A guest that sends what a test wants."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.socket = broker._channel.guest
        self.socket.setblocking(True)
        self.socket.settimeout(10)
        self.next = 1
        self.reports: list[Report] = []

    def send(self, kind: int, stream: int = 0, code: int = 0, payload: bytes = b"") -> None:
        """Sends a frame."""
        self.socket.send(wire.encode(kind, stream, code, payload))

    def receive(self) -> wire.Frame:
        """Takes the next frame."""
        return wire.decode(self.socket.recv(wire.MAX_FRAME + 1))

    def open(self, host: str | bytes, port: int) -> int:
        """Asks for a connection."""
        stream, self.next = self.next, self.next + 1
        self.send(wire.OPEN, stream, port, host.encode() if isinstance(host, str) else host)
        return stream

    def opened(self, host: str | bytes, port: int) -> int:
        """Asks for a connection, and gets it."""
        stream = self.open(host, port)
        assert self.receive() == wire.Frame(wire.OPENED, stream)
        return stream

    def refused(self, host: str | bytes, port: int) -> int:
        """Asks for a connection, and does not get it; returns the errno."""
        stream = self.open(host, port)
        frame = self.receive()
        assert (frame.kind, frame.stream) == (wire.REFUSED, stream)
        return frame.code

    def wait_for(self, kind: type[Report]) -> Report:
        """Waits for a report of a kind."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self.reports += self.broker.take()
            for report in self.reports:
                if isinstance(report, kind):
                    self.reports.remove(report)
                    return report
            time.sleep(0.01)
        raise AssertionError(f"no {kind.__name__} among {self.reports}")


@contextmanager
def broker(
    *patterns: str,
    look_up: Callable[[str], Sequence[str]] = lambda _name: [],
    **limits: float,
) -> Iterator[Guest]:
    """A broker that serves, with a guest to talk to it."""
    serving = Broker(
        [grant(pattern) for pattern in patterns],
        EgressLimits(**limits),  # type: ignore[arg-type]
        look_up=look_up,
    )
    try:
        serving.start()
        yield Guest(serving)
    finally:
        serving.close()


@contextmanager
def server(
    handle: Callable[[socket.socket], None], host: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """A TCP server whose connections are handled one thread each; yields its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        accepted: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def one(connection: socket.socket) -> None:
            try:
                with connection:
                    handle(connection)
            except OSError:
                pass

        def loop() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(connection)
                thread = threading.Thread(target=one, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=loop, daemon=True)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)
            for connection in accepted:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            for thread in threads:
                thread.join(5)


def echo(connection: socket.socket) -> None:
    """Sends back what comes, then its own end."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def unused_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
