"""The broker against real sockets, with a test in the guest's place."""

from __future__ import annotations

import errno
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnibase.core.sandbox.egress import wire
from omnibase.core.sandbox.egress.reports import Closed, Denied, Failed, Opened
from omnibase.core.sandbox.egress.stream import Sockets
from tests.helpers import egress
from tests.helpers.egress import broker, echo, server


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No descriptor, no thread and no counted socket outlives a broker."""

    def stock() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), Sockets._open

    before = stock()
    yield
    deadline = time.monotonic() + 5
    while stock() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stock() == before


def test_a_granted_connection_is_made_and_relayed_both_ways() -> None:
    with server(echo) as port, broker(f"127.0.0.1:{port}") as guest:
        stream = guest.opened("127.0.0.1", port)
        guest.send(wire.DATA, stream, payload=b"hello")
        assert bytes(guest.receive().payload) == b"hello"
        guest.send(wire.END, stream)
        assert guest.receive() == wire.Frame(wire.END, stream)

        opened, closed = guest.wait_for(Opened), guest.wait_for(Closed)
    assert opened == Opened(
        connection=stream,
        target=f"127.0.0.1:{port}",
        address="127.0.0.1",
        capability=f"NETWORK_CONNECT:127.0.0.1:{port}",
    )
    assert isinstance(closed, Closed)
    assert (closed.sent, closed.received, closed.reason) == (5, 5, "end")


def test_ipv6() -> None:
    with server(echo, "::1") as port, broker(f"[::1]:{port}") as guest:
        stream = guest.opened("[::1]", port)
        guest.send(wire.DATA, stream, payload=b"six")
        assert bytes(guest.receive().payload) == b"six"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "localhost", "[::1]", "127.1", "2130706433", "0x7f000001", "127.0.0.1.",
     "[::ffff:127.0.0.1]", "user@127.0.0.1", "127.0.0.1\0.example", "other.example"],
)  # fmt: skip
def test_what_no_grant_covers_is_denied_and_told(host: str) -> None:
    with server(echo) as port, broker(f"127.0.0.1:{port}", "granted.example:80") as guest:
        assert guest.refused(host, port) == errno.EACCES
        denied = guest.wait_for(Denied)
    assert isinstance(denied, Denied)
    assert denied.operation == "connect"
    assert denied.host.isprintable()
    assert denied.port == port


def test_another_port_is_denied() -> None:
    with server(echo) as port, server(echo) as other, broker(f"127.0.0.1:{port}") as guest:
        assert guest.refused("127.0.0.1", other) == errno.EACCES
        guest.opened("127.0.0.1", port)


def test_a_target_that_refuses_is_no_violation() -> None:
    port = egress.unused_port()
    with broker(f"127.0.0.1:{port}") as guest:
        assert guest.refused("127.0.0.1", port) == errno.ECONNREFUSED
        failed = guest.wait_for(Failed)
        assert isinstance(failed, Failed)
        assert failed.reason == "connection refused"
        assert guest.reports == []


def test_a_connect_never_meets_itself() -> None:
    """A connect to a free port of the own host can be given that very port as its source."""
    low, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    with broker(f"127.0.0.1:{low}-{low + 4000}", connections=10**6) as guest:
        codes = {guest.refused("127.0.0.1", low + n) for n in range(4000) if n % 8 == 0}
    assert codes <= {errno.ECONNREFUSED}


class TestNames:
    def test_a_name_is_resolved_on_the_host_and_the_checked_address_is_used(self) -> None:
        asked: list[str] = []

        def look_up(name: str) -> list[str]:
            asked.append(name)
            return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.99"]

        with (
            server(echo) as port,
            broker(f"db.example:{port}", f"127.0.0.1:{port}", look_up=look_up) as guest,
        ):
            guest.opened("DB.example", port)
            opened = guest.wait_for(Opened)
        assert isinstance(opened, Opened)
        assert (opened.target, opened.address) == (f"db.example:{port}", "127.0.0.1")
        assert asked == ["db.example"]

    @pytest.mark.parametrize(
        "answer",
        ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "fe80::1%lo", "::ffff:127.0.0.1",
         "0.0.0.0", "100.64.0.1", "224.0.0.1", "nonsense"],
    )  # fmt: skip
    def test_a_name_may_not_stand_for_a_special_address(self, answer: str) -> None:
        with (
            server(echo) as port,
            broker(f"*.example:{port}", look_up=lambda _: ["8.8.8.8", answer]) as guest,
        ):
            assert guest.refused("rebound.example", port) == errno.EACCES
            denied = guest.wait_for(Denied)
        assert isinstance(denied, Denied)
        assert (denied.host, denied.port) == ("rebound.example", port)
        assert denied.reason is not None
        assert f"`{answer}`" in denied.reason

    def test_a_literal_grant_opens_its_own_port_only(self) -> None:
        with (
            server(echo) as port,
            broker(f"a.example:{port}", "127.0.0.1:1", look_up=lambda _: ["127.0.0.1"]) as guest,
        ):
            assert guest.refused("a.example", port) == errno.EACCES

    def test_this_hosts_own_address_is_special_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from omnibase.core.sandbox.egress import allowlist

        monkeypatch.setattr(allowlist, "is_public", lambda _address: True)
        with server(echo) as port, broker(f"*:{port}", look_up=lambda _: ["127.0.0.1"]) as guest:
            assert guest.refused("a.example", port) == errno.EACCES
            denied = guest.wait_for(Denied)
        assert isinstance(denied, Denied)
        assert denied.reason is not None
        assert "this host" in denied.reason

    def test_a_wildcard_for_any_host_opens_no_special_address(self) -> None:
        with server(echo) as port, broker(f"*:{port}") as guest:
            assert guest.refused("127.0.0.1", port) == errno.EACCES
            assert guest.refused("[::1]", port) == errno.EACCES

    def test_the_next_address_is_tried(self) -> None:
        with (
            server(echo, "127.0.0.2") as port,
            broker(
                f"a.example:{port}", f"127.0.0.1:{port}", f"127.0.0.2:{port}",
                look_up=lambda _: ["127.0.0.1", "127.0.0.2"],
            ) as guest,
        ):  # fmt: skip
            guest.opened("a.example", port)
            opened = guest.wait_for(Opened)
        assert isinstance(opened, Opened)
        assert opened.address == "127.0.0.2"

    def test_a_name_without_an_address_fails(self) -> None:
        def look_up(_name: str) -> list[str]:
            raise socket.gaierror("no such name")

        with broker("a.example:80", look_up=look_up) as guest:
            assert guest.refused("a.example", 80) == errno.EHOSTUNREACH
            guest.wait_for(Failed)

    def test_a_name_server_that_does_not_answer_holds_up_nothing_else(self) -> None:
        hold = threading.Event()

        def look_up(_name: str) -> list[str]:
            hold.wait(20)
            return []

        with (
            server(echo) as port,
            broker(
                "slow.example:80", f"127.0.0.1:{port}", look_up=look_up, connect_seconds=0.3
            ) as guest,
        ):
            for _ in range(20):
                guest.open("slow.example", 80)
            assert guest.open("127.0.0.1", port)
            assert guest.receive().kind == wire.OPENED
            assert {guest.receive().code for _ in range(20)} == {errno.ETIMEDOUT}
            hold.set()

    def test_look_ups_are_judged_again(self) -> None:
        with broker("*.granted.example:80") as guest:
            guest.send(wire.LOOKUP, 0, 1, b"x.granted.example")
            guest.send(wire.LOOKUP, 0, 1, b"Exfil\0.example")
            denied = guest.wait_for(Denied)
            assert denied == Denied(operation="lookup", host="exfil\\x00.example")
            assert guest.reports == []


class TestLimits:
    def test_connections_at_once(self) -> None:
        with server(echo) as port, broker(f"127.0.0.1:{port}", at_once=2) as guest:
            first = guest.opened("127.0.0.1", port)
            guest.opened("127.0.0.1", port)
            assert guest.refused("127.0.0.1", port) == errno.EMFILE
            failed = guest.wait_for(Failed)
            assert isinstance(failed, Failed)
            assert failed.reason == "the limit of 2 connections at once (`egress_connections`)"
            assert failed.limit == "egress_connections"
            guest.send(wire.RESET, first)
            guest.opened("127.0.0.1", port)

    def test_connections_in_all(self) -> None:
        with server(echo) as port, broker(f"127.0.0.1:{port}", connections=2) as guest:
            for _ in range(2):
                guest.send(wire.RESET, guest.opened("127.0.0.1", port))
            for _ in range(5):
                assert guest.refused("127.0.0.1", port) == errno.EMFILE
            guest.wait_for(Failed)
            assert not [r for r in guest.broker.take() if isinstance(r, Failed)]

    def test_each_grant_has_its_own(self) -> None:
        with (
            server(echo) as one,
            server(echo) as two,
            broker(f"127.0.0.1:{one}", f"127.0.0.1:{two}", connections=1) as guest,
        ):
            guest.opened("127.0.0.1", one)
            guest.opened("127.0.0.1", two)
            assert guest.refused("127.0.0.1", one) == errno.EMFILE

    def test_bytes(self) -> None:
        with server(echo) as port, broker(f"127.0.0.1:{port}", total_bytes=1000) as guest:
            stream = guest.opened("127.0.0.1", port)
            guest.send(wire.DATA, stream, payload=bytes(600))
            while (frame := guest.receive()).kind == wire.DATA:
                pass
            assert frame == wire.Frame(wire.RESET, stream)
            closed = guest.wait_for(Closed)
            assert isinstance(closed, Closed)
            assert closed.reason == "bytes"
            assert guest.refused("127.0.0.1", port) == errno.EMFILE

    @pytest.mark.parametrize(
        ("limit", "reason"), [("idle_seconds", "idle"), ("connection_seconds", "time")]
    )
    def test_time(self, limit: str, reason: str) -> None:
        with server(echo) as port, broker(f"127.0.0.1:{port}", **{limit: 0.4}) as guest:
            stream = guest.opened("127.0.0.1", port)
            assert guest.receive() == wire.Frame(wire.RESET, stream)
            closed = guest.wait_for(Closed)
        assert isinstance(closed, Closed)
        assert closed.reason == reason

    def test_a_peer_that_does_not_answer_is_given_up(self) -> None:
        with socket.socket() as deaf:  # bound, its queue full: no answer to a SYN
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            with (
                socket.create_connection(("127.0.0.1", port)),
                broker(f"127.0.0.1:{port}", connect_seconds=0.5) as guest,
            ):
                assert guest.refused("127.0.0.1", port) == errno.ETIMEDOUT


class TestFlow:
    def test_a_slow_peer_holds_back_the_guest(self) -> None:
        """Of a stream whose peer reads nothing, one window is held and no more."""
        go = threading.Event()
        got: list[int] = []

        def slow(connection: socket.socket) -> None:
            go.wait(10)
            size = 0
            while data := connection.recv(65536):
                size += len(data)
            got.append(size)

        total = 40 << 20
        with server(slow) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.opened("127.0.0.1", port)
            sent, window = 0, wire.WINDOW
            chunk = bytes(wire.MAX_PAYLOAD)
            while sent < total:
                if window >= len(chunk):
                    guest.send(wire.DATA, stream, payload=chunk)
                    sent, window = sent + len(chunk), window - len(chunk)
                    continue
                guest.socket.settimeout(0.3 if not go.is_set() else 10)
                try:
                    window += guest.receive().credit
                except TimeoutError:
                    held = guest.broker._relay._held
                    assert held <= wire.WINDOW
                    go.set()
            assert go.is_set()
            guest.send(wire.END, stream)
            while guest.receive().kind != wire.END:
                pass
            guest.wait_for(Closed)
        assert got == [total]

    def test_a_guest_that_does_not_read_holds_back_the_peer(self) -> None:
        sent: list[int] = []

        def gush(connection: socket.socket) -> None:
            connection.settimeout(0.5)
            size = 0
            try:
                while True:
                    size += connection.send(bytes(65536))
            except OSError:
                sent.append(size)

        with server(gush) as port, broker(f"127.0.0.1:{port}") as guest:
            guest.opened("127.0.0.1", port)
            deadline = time.monotonic() + 10
            while not sent and time.monotonic() < deadline:
                time.sleep(0.05)
        assert sent[0] < 64 << 20  # what the kernel's own buffers took

    def test_half_close_by_the_guest(self) -> None:
        def answer(connection: socket.socket) -> None:
            size = 0
            while data := connection.recv(65536):
                size += len(data)
            connection.sendall(b"%d" % size)

        with server(answer) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.open("127.0.0.1", port)
            guest.send(wire.DATA, stream, payload=b"early")  # before it is connected
            guest.send(wire.END, stream)
            assert guest.receive().kind == wire.OPENED
            assert bytes(guest.receive().payload) == b"5"
            assert guest.receive().kind == wire.END

    def test_half_close_by_the_peer(self) -> None:
        got: list[bytes] = []

        def greet(connection: socket.socket) -> None:
            connection.sendall(b"hi")
            connection.shutdown(socket.SHUT_WR)
            got.append(connection.recv(100))

        with server(greet) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.opened("127.0.0.1", port)
            assert bytes(guest.receive().payload) == b"hi"
            assert guest.receive().kind == wire.END
            guest.send(wire.DATA, stream, payload=b"later")
            guest.send(wire.END, stream)
            guest.wait_for(Closed)
        assert got == [b"later"]

    def test_a_reset_goes_through_in_both_directions(self) -> None:
        errors: list[int | None] = []

        def by_guest(connection: socket.socket) -> None:
            try:
                connection.recv(1)
                connection.recv(1)
            except OSError as error:
                errors.append(error.errno)

        def by_peer(connection: socket.socket) -> None:
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        with server(by_guest) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.opened("127.0.0.1", port)
            guest.send(wire.DATA, stream, payload=b"x")
            guest.send(wire.RESET, stream)
            guest.wait_for(Closed)
        assert errors == [errno.ECONNRESET]
        with server(by_peer) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.opened("127.0.0.1", port)
            guest.send(wire.DATA, stream, payload=b"x")
            assert guest.receive() == wire.Frame(wire.RESET, stream)

    def test_what_the_guest_had_finished_sending_arrives_after_its_death(self) -> None:
        got: list[int] = []

        def slow(connection: socket.socket) -> None:
            time.sleep(0.5)
            size = 0
            while data := connection.recv(65536):
                size += len(data)
            got.append(size)

        with server(slow) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.opened("127.0.0.1", port)
            for _ in range(wire.WINDOW // wire.MAX_PAYLOAD):
                guest.send(wire.DATA, stream, payload=bytes(wire.MAX_PAYLOAD))
            guest.send(wire.END, stream)
            reports = guest.broker.finish()
            deadline = time.monotonic() + 10
            while not got and time.monotonic() < deadline:
                time.sleep(0.02)
        assert got == [wire.WINDOW]
        closed = [report for report in reports if isinstance(report, Closed)]
        assert [report.sent for report in closed] == [wire.WINDOW]

    def test_likewise_if_the_connection_was_not_up_yet(self) -> None:
        """The script's connect and sends were done long ago, on the guest's loopback."""
        got: list[bytes] = []

        def look_up(_name: str) -> list[str]:
            time.sleep(0.5)
            return ["127.0.0.1"]

        def keep(connection: socket.socket) -> None:
            got.append(connection.recv(64))

        with server(keep) as port:
            grants = (f"log.example:{port}", f"127.0.0.1:{port}")
            with broker(*grants, look_up=look_up) as guest:
                stream = guest.open("log.example", port)
                guest.send(wire.DATA, stream, payload=b"a last word")
                guest.send(wire.END, stream)
                reports = guest.broker.finish()
                deadline = time.monotonic() + 10
                while not got and time.monotonic() < deadline:
                    time.sleep(0.02)
        assert got == [b"a last word"]
        assert [type(report) for report in reports] == [Opened, Closed]

    def test_what_was_not_made_by_the_end_of_the_run_is_told(self) -> None:
        asked, go_on = threading.Event(), threading.Event()

        def look_up(_name: str) -> list[str]:
            asked.set()
            go_on.wait(10)
            return ["127.0.0.1"]

        with broker("db.example:80", look_up=look_up) as guest:
            guest.send(wire.DATA, guest.open("db.example", 80), payload=b"half of a")
            assert asked.wait(10)
            reports = guest.broker.finish()
            go_on.set()
        assert reports == [
            Failed(
                target="db.example:80",
                capability="NETWORK_CONNECT:db.example:80",
                reason="the run ended first",
            )
        ]

    def test_what_sends_too_much_before_it_is_up_is_told_with_the_limit(self) -> None:
        go_on = threading.Event()

        def look_up(_name: str) -> list[str]:
            go_on.wait(10)
            return ["127.0.0.1"]

        with broker("db.example:80", look_up=look_up, total_bytes=10) as guest:
            stream = guest.open("db.example", 80)
            guest.send(wire.DATA, stream, payload=bytes(11))
            assert guest.receive() == wire.Frame(wire.RESET, stream)
            failed = guest.wait_for(Failed)
            go_on.set()
        assert isinstance(failed, Failed)
        assert (failed.reason, failed.limit) == ("the limit of bytes", "egress_bytes")

    def test_what_the_script_gives_up_is_told(self) -> None:
        go_on = threading.Event()

        def look_up(_name: str) -> list[str]:
            go_on.wait(10)
            return ["127.0.0.1"]

        with broker("db.example:80", look_up=look_up) as guest:
            guest.send(wire.RESET, guest.open("db.example", 80))
            failed = guest.wait_for(Failed)
            go_on.set()
        assert isinstance(failed, Failed)
        assert failed.reason == "given up by the script"

    def test_the_end_of_the_run_is_a_reset(self) -> None:
        ends: queue.SimpleQueue[int | None] = queue.SimpleQueue()

        def wait(connection: socket.socket) -> None:
            try:
                ends.put(len(connection.recv(1)))
            except OSError as error:
                ends.put(error.errno)

        with server(wait) as port, broker(f"127.0.0.1:{port}") as guest:
            guest.opened("127.0.0.1", port)
            reports = guest.broker.finish()
            assert ends.get(timeout=10) == errno.ECONNRESET
        assert [r.reason for r in reports if isinstance(r, Closed)] == ["run"]


class TestHostileGuests:
    @pytest.mark.parametrize(
        "frames",
        [
            [b"garbage"],
            [bytes(wire.MAX_FRAME + 1)],
            [wire.encode(wire.READY), wire.encode(wire.READY)],
            [wire.encode(wire.OPENED, 1)],
            [wire.encode(wire.REFUSED, 1)],
            [wire.encode(wire.DATA, 1, payload=b"x")],
            [wire.encode(wire.CREDIT, 9, payload=b"\1\0\0\0")],
            [wire.encode(wire.END, 1)],
            [wire.encode(wire.RESET, 4_000_000_000)],
            [wire.encode(wire.OPEN, 2, 80, b"a"), wire.encode(wire.OPEN, 2, 80, b"a")],
            [wire.encode(wire.OPEN, 2, 80, b"a"), wire.encode(wire.OPEN, 1, 80, b"a")],
            [wire.encode(wire.OPEN, 1, 80, b"h.example"), wire.encode(wire.END, 1),
             wire.encode(wire.END, 1)],
            [wire.encode(wire.OPEN, 1, 80, b"h.example"), wire.encode(wire.END, 1),
             wire.encode(wire.DATA, 1, payload=b"x")],
            [wire.encode(wire.OPEN, 1, 80, b"h.example"),
             *[wire.encode(wire.DATA, 1, payload=bytes(wire.MAX_PAYLOAD))] * 3],
            [wire.encode(wire.OPEN, 1, 80, b"h.example"),
             wire.encode(wire.CREDIT, 1, payload=b"\1\0\0\0")],
        ],
    )  # fmt: skip
    def test_what_is_not_the_protocol_ends_the_channel(self, frames: list[bytes]) -> None:
        hold = threading.Event()

        def look_up(_name: str) -> list[str]:
            hold.wait(10)
            return []

        with broker("h.example:80", look_up=look_up) as guest:
            for frame in frames:
                try:
                    guest.socket.send(frame)
                except OSError:
                    break
            with pytest.raises((wire.WireError, ConnectionError)):
                while True:
                    guest.receive()
            hold.set()
            guest.broker.finish()
            assert guest.broker.error is not None

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.builds(
                    wire.encode,
                    st.integers(1, 9),
                    st.integers(0, 4),
                    st.sampled_from([0, 0, 1, 80]),
                    st.sampled_from(
                        [b"", b"x", b"127.0.0.1", b"h.example", bytes(4), b"\1\0\0\0", bytes(9000)]
                    ),
                ),
            ),
            max_size=30,
        )
    )
    def test_any_frames_in_any_order_end_in_order(self, frames: list[bytes]) -> None:
        with broker("127.0.0.1:1", "h.example:80", look_up=lambda _: ["127.0.0.1"]) as guest:
            guest.socket.setblocking(False)
            for frame in frames:
                if not frame:
                    continue
                try:
                    guest.socket.send(frame)
                except BlockingIOError:
                    select.select([], [guest.socket], [], 1)
                except OSError:
                    break
            guest.broker.finish()
            error = guest.broker.error
            assert error is None or "Error:" not in error, error
            assert guest.broker._relay._streams == {}
            assert guest.broker._relay._held == 0

    def test_a_flood_of_denied_connects_is_bounded(self) -> None:
        """Nobody takes the reports, nobody reads the answers: then nothing more is read."""
        with broker("127.0.0.1:1") as guest:
            guest.socket.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                for number in range(1, 100_000):
                    guest.send(wire.OPEN, number, 80, b"a")
                    sent = number
            assert sent < 5000
            assert len(guest.broker._reports) < 2500
            assert guest.broker._channel.waiting < 500

    def test_small_pieces_for_a_deaf_peer_do_not_pile_up(self) -> None:
        def deaf(connection: socket.socket) -> None:
            threading.Event().wait(0.1)
            time.sleep(1)

        with server(deaf) as port, broker(f"127.0.0.1:{port}") as guest:
            stream = guest.opened("127.0.0.1", port)
            for _ in range(20_000):
                guest.send(wire.DATA, stream, payload=b"x")
            assert guest.broker._relay._held <= wire.WINDOW
