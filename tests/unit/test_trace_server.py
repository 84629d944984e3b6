"""The host's end of the trace: what comes over the socket, and what is believed of it."""

from __future__ import annotations

import contextlib
import errno as errors
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox.monitor import server as module
from omnibase.core.sandbox.monitor import wire
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.core.sandbox.monitor.reads import SecretReading
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.core.sandbox.monitor.wire import MessageType
from omnibase.errors import ConfigurationError
from tests.helpers import protobuf as pb
from tests.helpers.datagrams import CAPTURED
from tests.helpers.specs import compiled

RULES = compiled().watch
START = pb.datagram(MessageType.CONTAINER_START, b"")


class Sentry:
    """A server, and the socket of one that connects to it."""

    def __init__(self, path: str) -> None:
        self.seen: list[Violation] = []
        self.server = TraceServer(path, Judge(RULES), self.seen.append)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)

    def connect(self, path: str) -> None:
        self.socket.connect(path)
        assert self.server.on_readable()

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.socket.send(datagram)
        assert not self.server.on_readable()


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as directory:
        yield f"{directory}/trace"


@pytest.fixture
def sentry(path: str) -> Iterator[Sentry]:
    sentry = Sentry(path)
    try:
        sentry.connect(path)
        sentry.send(wire.HANDSHAKE)
        assert sentry.socket.recv(64) == wire.HANDSHAKE
        yield sentry
    finally:
        sentry.server.close()
        sentry.socket.close()


def denied(path: str, *, group: int = 2, dropped: int = 0) -> bytes:
    body = pb.message((1, pb.context(group)), (2, pb.failure(13)), (3, 257), (6, path))
    return pb.datagram(MessageType.OPEN, body, dropped=dropped)


def refused(sysno: int, errno: int) -> bytes:
    return pb.datagram(MessageType.SYSCALL_RAW, pb.message((2, pb.failure(errno)), (4, sysno)))


def test_the_socket_is_for_its_owner_only(path: str) -> None:
    server = TraceServer(path, Judge(RULES), print)
    try:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert not server.on_readable()  # nobody there yet
        assert not server.started
    finally:
        server.close()
    assert server.closed


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigurationError, match="too long") as caught:
        TraceServer(str(tmp_path / ("x" * 200)), Judge(RULES), print)
    assert caught.value.hint
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_path_that_is_taken(path: str) -> None:
    Path(path).touch()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="in use"):
        TraceServer(path, Judge(RULES), print)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_only_one_may_connect(sentry: Sentry, path: str) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second,
        pytest.raises(ConnectionRefusedError),
    ):
        second.connect(path)


def test_a_sentry_that_starts(sentry: Sentry) -> None:
    assert not sentry.server.started
    sentry.send(CAPTURED["container_start"])
    assert sentry.server.started
    assert sentry.server.error is None


def test_violations_are_told_at_once_and_counted(sentry: Sentry) -> None:
    sentry.send(START, denied("/etc/passwd"), denied("/etc/passwd"), denied("/etc/passwd", group=3))
    assert [v.capability for v in sentry.seen] == ["FILE_READ:/etc/passwd"]
    assert sentry.seen[0].evidence == "kernel"
    assert [v.count for v in sentry.server.ledger.violations()] == [3]


def test_real_datagrams_make_violations(sentry: Sentry) -> None:
    sentry.send(*CAPTURED.values())
    assert {violation.operation for violation in sentry.seen} >= {
        "open", "chdir", "execve", "connect", "bind", "socket", "chroot", "setuid", "mount",
        "seccomp",
    }  # fmt: skip


@pytest.mark.parametrize("first", [b"\x08\0", b"garbage", b"\xff" * 20])
def test_a_handshake_that_is_none(path: str, first: bytes) -> None:
    sentry = Sentry(path)
    try:
        sentry.connect(path)
        sentry.send(first)
        assert sentry.server.error
        assert not sentry.server.started
    finally:
        sentry.server.close()
        sentry.socket.close()


@pytest.mark.parametrize(
    "datagram", [b"x", pb.datagram(MessageType.OPEN, b"\xff"), b"\xff\xff" + bytes(6)]
)
def test_a_malformed_message_is_the_end_of_trust(sentry: Sentry, datagram: bytes) -> None:
    sentry.send(START, datagram)
    assert sentry.server.error
    sentry.socket.send(denied("/etc/passwd"))
    sentry.server.drain()
    assert sentry.seen == []


def test_unknown_messages_are_skipped(sentry: Sentry) -> None:
    sentry.send(pb.datagram(999, b"\xff\xff"), START)
    assert sentry.server.started
    assert sentry.server.error is None


def test_a_large_datagram_is_read_whole(sentry: Sentry) -> None:
    argv = [(7, "x" * 1000)] * 150
    body = pb.message((1, pb.context()), (2, pb.failure(13)), (3, 59), (6, "/bin/sh"), *argv)
    sentry.send(START, pb.datagram(MessageType.EXECVE, body))
    assert sentry.server.error is None
    assert [v.capability for v in sentry.seen] == ["EXTERNAL_COMMAND:sh"]


def test_what_the_sentry_dropped_is_a_violation_at_the_end(sentry: Sentry) -> None:
    sentry.send(START, denied("/x", dropped=3), denied("/x", dropped=2))
    assert sentry.server.dropped == 3
    assert len(sentry.seen) == 1
    sentry.server.finish()
    assert [v.operation for v in sentry.seen] == ["open", "trace"]
    assert "lost" in sentry.seen[-1].resource


def test_ends_are_noted(sentry: Sentry) -> None:
    def ended(group: int, status: int, thread: int = 0) -> bytes:
        body = pb.message((1, pb.message((2, thread or group), (4, group))), (2, status))
        return pb.datagram(MessageType.TASK_EXIT, body)

    sentry.send(START, ended(5, 9), ended(1, 0, thread=3))
    assert (sentry.server.script_status, sentry.server.agent_status) == (None, None)
    sentry.send(ended(2, 7 << 8), ended(1, 7 << 8))
    assert (sentry.server.script_status, sentry.server.agent_status) == (7 << 8, 7 << 8)


def test_the_end_of_the_stream(sentry: Sentry) -> None:
    sentry.socket.send(denied("/x"))
    sentry.socket.close()
    sentry.server.drain()
    assert sentry.server.closed
    assert len(sentry.seen) == 1


def test_a_sentry_that_is_gone_before_it_is_greeted(path: str) -> None:
    sentry = Sentry(path)
    try:
        sentry.connect(path)
        sentry.socket.send(wire.HANDSHAKE)
        sentry.socket.close()
        sentry.server.on_readable()
        assert sentry.server.closed
        assert sentry.server.error is None
    finally:
        sentry.server.close()


def test_signs_are_the_agents_alone(sentry: Sentry) -> None:
    signs = ("/.disk-full", "/.agent-failed")
    sentry.send(START, *(denied(sign) for sign in signs))
    assert (sentry.server.disk_full, sentry.server.agent_failed) == (False, False)
    sentry.send(*(denied(sign, group=1) for sign in signs))
    assert (sentry.server.disk_full, sentry.server.agent_failed) == (True, True)


def test_draining_without_a_connection_ends(path: str) -> None:
    server = TraceServer(path, Judge(RULES), print)
    server.drain()
    server.finish()
    assert server.closed


def test_draining_reads_more_than_one_batch(sentry: Sentry) -> None:
    sentry.socket.setblocking(False)
    sent = 0
    for number in range(module._BATCH + 200):
        try:
            sentry.socket.send(denied(f"/x{number}"))
        except BlockingIOError:
            sentry.server.on_readable()
            sentry.socket.send(denied(f"/x{number}"))
        sent += 1
    sentry.server.drain()
    ledger = sentry.server.ledger
    assert len(ledger) + ledger.overflow == sent


def test_what_only_the_end_tells_is_told_at_the_end(sentry: Sentry) -> None:
    sentry.send(START, refused(257, errors.EACCES), refused(57, errors.EAGAIN))
    assert sentry.seen == []
    assert sentry.server.pids_refused
    sentry.server.finish()
    assert [v.operation for v in sentry.seen] == ["open"]
    assert "withheld" in sentry.seen[0].resource


def test_answers_are_remembered_to_a_bound(sentry: Sentry) -> None:
    sentry.socket.setblocking(False)
    remembered = sentry.server._remembered
    largest = 0
    for number in range(module._REMEMBERED + 50):
        sentry.send(denied(f"/x{number}", group=1))
        largest = max(largest, len(remembered))
    assert largest == module._REMEMBERED
    assert len(remembered) <= 50
    remembered.clear()
    sentry.send(denied("/" + "x" * 3000))
    assert len(remembered) == 0  # too long to keep
    assert len(sentry.seen) == 1


def test_a_remembered_answer_is_the_same_answer(sentry: Sentry) -> None:
    for _ in range(3):
        sentry.send(denied("/x"), denied("/x", group=1), refused(257, errors.EACCES))
    (violation,) = sentry.server.ledger.violations()
    assert violation.count == 3
    sentry.server.finish()
    assert [v.resource for v in sentry.seen] == ["/x"]


def opened(path: str, *, name: bytes = b"python3") -> bytes:
    context = pb.message((4, 2), (9, name))
    body = pb.message((1, context), (2, b""), (3, 257), (6, path))
    return pb.datagram(MessageType.OPEN, body)


class TestSecrets:
    def test_readings_are_told_once_and_scrubbed(self, path: str) -> None:
        told: list[SecretReading] = []
        server = TraceServer(
            path,
            Judge(RULES, secrets=("KEY", "TOKEN")),
            print,
            on_secret_read=told.append,
            scrub=lambda text: text.replace("hunter22", "***"),
        )
        with (
            contextlib.closing(server),
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sentry,
        ):
            sentry.connect(path)
            assert server.on_readable()
            for datagram in (
                wire.HANDSHAKE, START, opened("/run/secrets/TOKEN", name=b"hunter22"),
                opened("/run/secrets/TOKEN"), denied("/data/hunter22"),
                denied("/.secret-read/", group=1),
            ):  # fmt: skip
                sentry.send(datagram)
            assert not server.on_readable()
            assert [(r.secret, r.process_name) for r in told] == [("TOKEN", "***")]
            assert [v.resource for v in server.ledger.violations()] == ["/data/***"]
            server.finish()
            assert [(r.secret, r.operation) for r in told] == [("TOKEN", "open")]

    @pytest.mark.parametrize("how", ["dropped", "no last word", "never started"])
    def test_what_the_trace_lost_counts_as_a_reading(self, path: str, how: str) -> None:
        told: list[SecretReading] = []
        server = TraceServer(
            path, Judge(RULES, secrets=("TOKEN",)), lambda _: None, on_secret_read=told.append
        )
        with (
            contextlib.closing(server),
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sentry,
        ):
            sentry.connect(path)
            assert server.on_readable()
            last = denied("/.secret-read/", group=1, dropped=int(how == "dropped"))
            for datagram in {
                "dropped": (wire.HANDSHAKE, START, last),
                "no last word": (wire.HANDSHAKE, START),
                "never started": (wire.HANDSHAKE,),
            }[how]:
                sentry.send(datagram)
            assert not server.on_readable()
            assert told == []
            server.finish()
            expected = [] if how == "never started" else [("TOKEN", "withheld")]
            assert [(r.secret, r.operation) for r in told] == expected


def starts(group: int, flags: int, child: int) -> tuple[bytes, bytes]:
    """What comes of one clone: without its circumstances, and with them."""
    done = pb.message((1, child))
    raw = pb.message((2, done), (4, 56))
    told = pb.message((1, pb.context(group)), (2, done), (3, 56), (4, flags))
    return pb.datagram(MessageType.SYSCALL_RAW, raw), pb.datagram(MessageType.CLONE, told)


def test_a_process_that_is_not_the_agents_is_noticed(sentry: Sentry) -> None:
    thread, process = 0x3D0F00, 0x1200011  # CLONE_THREAD and what goes with it; SIGCHLD
    server = sentry.server
    sentry.send(*starts(1, process, 2), *starts(1, thread, 3))
    assert (server.forked, server.threaded) == (False, False)
    raw, told = starts(2, thread, 4)
    sentry.send(raw)
    assert server.forked  # until the rest comes
    sentry.send(told)
    assert (server.forked, server.threaded) == (False, True)
    sentry.send(*starts(2, process, 5))
    assert server.forked


@pytest.mark.parametrize("sysno", [56, 57, 58])
def test_a_start_whose_circumstances_are_hidden_is_one_of_a_process(
    sentry: Sentry, sysno: int
) -> None:
    body = pb.message((2, pb.message((1, 7))), (4, sysno))
    sentry.send(pb.datagram(MessageType.SYSCALL_RAW, body))
    assert sentry.server.forked
