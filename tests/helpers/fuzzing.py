"""What is fuzzed of network grants: any bytes in, and an `AssertionError` if something is wrong.

`tests/property` gives them hypothesis's bytes on every run, `make fuzz` atheris's.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any
from unittest import mock

from omnibase.core.sandbox.egress import relay, stream, wire
from omnibase.core.sandbox.egress.gate import Gate
from omnibase.core.sandbox.egress.relay import Relay
from omnibase.core.sandbox.egress.reports import Closed, Opened, Report
from omnibase.core.sandbox.spec import EgressGrant, EgressLimits

_GRANTS = [
    EgressGrant(host=host, low=80, high=81, capability=f"NETWORK_CONNECT:{host}:80-81")
    for host in ("h.example", "*.wild.example", "192.0.2.7")
]
_HOSTS = (b"h.example", b"192.0.2.7", b"a.wild.example", b"evil.example", b"\xff", b"127.1")
_CODES = (0, 80, 81, 256, 65535)
_SIZES = (1, 300, 70_000, 70_000, wire.MAX_PAYLOAD, 0)
_KINDS = (
    wire.OPEN, wire.DATA, wire.DATA, wire.DATA, wire.OPEN, wire.END, wire.RESET, wire.CREDIT,
    wire.LOOKUP, wire.ASSIGNED, wire.READY,
)  # fmt: skip
_MAX_STEPS = 200


def frames(data: bytes) -> None:
    """Any message is a frame, which is written back to the same bytes, or a `WireError`."""
    try:
        frame = wire.decode(data)
    except wire.WireError:
        return
    payload = bytes(frame.payload)
    assert wire.encode(frame.kind, frame.stream, frame.code, payload) == data
    assert b"".join(bytes(wire.decode(one).payload) for one in wire.pieces(data)) == payload


class _Channel:
    """Takes what is said to the guest, and checks that it is said in the protocol."""

    def __init__(self) -> None:
        self.waiting = 0

    def send(self, kind: int, stream: int, code: int = 0, payload: bytes = b"") -> None:
        self.transmit(wire.encode(kind, stream, code, payload))

    def transmit(self, frame: bytes | memoryview) -> None:
        wire.decode(frame)


class _Resolver:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.found: Sequence[str] = ()

    def ask(self, key: int, _name: str) -> bool:
        self.asked.append(key)
        return len(self.asked) < 64

    def answers(self) -> list[tuple[int, Sequence[str]]]:
        taken, self.asked = [(key, self.found) for key in self.asked], []
        return taken


class _Piped(stream.Stream):
    """Its peer is the other end of a pair of sockets: nothing goes to any network."""

    __slots__ = ("far",)
    ends: list[socket.socket] = []  # noqa: RUF012 - of the one that runs

    def connect(self) -> bool:
        self.drop(reset=True)
        if not self.candidates:
            return False
        self.candidates.clear()
        self.peer, far = socket.socketpair()
        self.peer.setblocking(False)
        far.setblocking(False)
        self.ends.append(far)
        return True

    def settle(self) -> bool:
        self.fault, self.connected = 0, True
        return True


def conversation(data: bytes) -> list[Report]:
    """Whatever the guest, the resolver and peers do, in any order: no fault but a `WireError`.

    Returns:
        What was reported.
    """
    reports: list[Report] = []
    steps = iter(data[: 4 * _MAX_STEPS])

    def pick(choices: Sequence[Any]) -> Any:
        return choices[next(steps, 0) % len(choices)]

    limits = EgressLimits(at_once=4, connections=32, total_bytes=8 << 20)
    resolver, gate, before = _Resolver(), Gate(_GRANTS, limits), stream.Sockets._open
    with _peers() as ends, mock.patch.object(relay, "Stream", _Piped):
        serving = Relay(_Channel(), gate, limits, resolver, reports.append)  # type: ignore[arg-type]

        def frame() -> None:
            kind, odd = pick(_KINDS), next(steps, 0)
            number = 0 if kind in (wire.LOOKUP, wire.ASSIGNED) else serving._last_stream
            if kind == wire.OPEN:
                number += 1
            elif number:
                number -= odd % min(number, 5)
            number += odd > 250  # mostly as a guest would that keeps to the protocol
            code, payload = 0, b""
            if kind in (wire.OPEN, wire.LOOKUP, wire.ASSIGNED):
                code, payload = pick(_CODES), pick(_HOSTS)
            elif kind == wire.CREDIT:
                payload = bytes([odd | 1, next(steps, 0), 0, 0])
            elif kind == wire.DATA:
                payload = bytes(pick(_SIZES))
            serving.take(wire.decode(wire.encode(kind, number, code, payload)))

        def resolve() -> None:
            resolver.found = pick(((), ("192.0.2.7",), ("127.0.0.1",), ("nonsense",)))
            serving.resolved()

        def peer(act: Callable[[socket.socket], object]) -> None:
            if ends:
                with contextlib.suppress(OSError):
                    act(pick(ends))

        def wait() -> None:
            now = relay.time.monotonic() + 3600 * 2
            with mock.patch.object(relay.time, "monotonic", lambda: now):
                serving._next_check = 0.0
                serving.check_times()

        acts: tuple[Callable[[], object], ...] = (
            frame, frame, frame, frame, frame, frame, resolve, serving.serve_peers,
            serving.serve_peers, lambda: peer(lambda end: end.send(bytes(pick(_SIZES) or 1))),
            lambda: peer(lambda end: end.recv(1 << 20)), lambda: peer(socket.socket.close),
            lambda: peer(lambda end: end.shutdown(socket.SHUT_WR)), wait,
        )  # fmt: skip
        try:
            for step in steps:
                acts[step % len(acts)]()
                _consistent(serving)
            serving.hang_up()
            _consistent(serving)
        except wire.WireError:
            pass
        finally:
            serving.close()
    assert not serving._streams
    assert not serving._by_fd
    assert stream.Sockets._open == before
    assert not any(gate._at_once.values())
    assert sum(isinstance(one, Opened) for one in reports) == sum(
        isinstance(one, Closed) for one in reports
    )
    return reports


@contextlib.contextmanager
def _peers() -> Iterator[list[socket.socket]]:
    _Piped.ends = []
    try:
        yield _Piped.ends
    finally:
        for end in _Piped.ends:
            end.close()


def _consistent(serving: Relay) -> None:
    streams = serving._streams.values()
    assert serving._held == sum(len(one.pending) for one in streams)
    for one in streams:
        assert 0 <= one.window <= wire.WINDOW
        assert 0 <= one.credit <= wire.WINDOW
        assert len(one.pending) + one.window + one.owed <= wire.WINDOW
    assert set(serving._by_fd.values()) == {one for one in streams if one.peer is not None}


def queries(dns: ModuleType) -> Callable[[bytes], None]:
    """Any datagram gets an answer to itself, bounded, that gives no address away, or none."""

    def target(data: bytes) -> None:
        refused: list[bytes] = []
        known = {"granted.example": "198.18.0.1"}
        reply = dns.answer(
            data, known.get, {"198.18.0.1": "granted.example"}.get,
            lambda name, _kind: refused.append(name),
        )  # fmt: skip
        assert len(refused) <= 1
        assert all(len(name) <= 255 for name in refused)
        if reply is None:
            return
        assert reply[:2] == data[:2]
        assert reply[2] & 0x80
        assert len(reply) <= dns.MAX_QUERY + 64
        if reply[7]:  # it has an answer
            assert not refused
            assert b"\x07example\x00" in data.lower() or b"in-addr" in data.lower()

    return target
