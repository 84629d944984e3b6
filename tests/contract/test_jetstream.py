"""The JetStream sink against a real server: whatever happens, each event is stored once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from omnibase.core.events import (
    CollectingSink,
    Event,
    EventBus,
    MonitorGap,
    SandboxStart,
    SandboxViolation,
    SinkLag,
)
from omnibase.core.events.jetstream import JetStreamSink
from omnibase.core.events.nats_settings import NatsSettings
from omnibase.errors import ConfigurationError
from tests.helpers import nats_server, tls
from tests.helpers.cli import eventually

SRC = str(Path(__file__).parents[2] / "src")
# For a process that is killed: coverage's own file would be torn.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
# What `emit` may take at most, on a machine that does other things besides.
EMIT_SECONDS = 2.0


def event(number: int, run: str = "r1", resource: str = "/etc/passwd") -> Event:
    violation = SandboxViolation(operation="openat", resource=resource, evidence="kernel")
    return Event(data=violation, source="urn:test", runid=run, sequence=number)


@pytest.fixture
def server() -> Iterator[nats_server.Server]:
    with nats_server.running() as running:
        yield running


@pytest.fixture
def place() -> Iterator[Path]:
    """An outbox's directory, on a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ob-outbox-", dir="/tmp"))
    yield folder / "outbox"
    shutil.rmtree(folder)


@contextlib.contextmanager
def sink(url: str, place: Path, **options: object) -> Iterator[JetStreamSink]:
    made = JetStreamSink(url, place, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def emit(sink: JetStreamSink, events: list[Event]) -> None:
    """Emits, and holds each to its bound."""
    for each in events:
        before = time.monotonic()
        sink.emit(each)
        assert time.monotonic() - before < EMIT_SECONDS


def flow(sink: JetStreamSink, runs: int, count: int, meanwhile: Callable[[], None]) -> list[Event]:
    """Emits the events of several runs at once, while something happens."""
    batches = [[event(n, f"r{run}") for n in range(1, count + 1)] for run in range(runs)]
    failures: list[BaseException] = []

    def one(events: list[Event]) -> None:
        try:
            for each in events:
                emit(sink, [each])
                time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(events,)) for events in batches]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()
    assert not failures
    return [each for batch in batches for each in batch]


def by_run(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for each in events:
        found.setdefault(each.runid, []).append(each)
    return found


def stored_exactly(server: nats_server.Server, events: list[Event]) -> None:
    """Every event is in the stream once, and those of a run are in order."""
    assert by_run(server.events()) == by_run(events)


def spools(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.suffix == ".spool")


class TestWhatIsStored:
    def test_is_the_event_with_its_headers_below_its_subject(
        self, server: nats_server.Server, place: Path
    ) -> None:
        with sink(server.url, place) as made:
            made.emit(event(1))
            assert made.flush(10)
            assert (made.pending, made.delivered, made.problem) == (0, 1, "")
        (message,) = server.messages()
        assert message.subject == "omnibase.events.SandboxViolation"
        found = Event.from_json(message.data)
        assert message.headers["Nats-Msg-Id"] == found.id
        assert message.headers["Content-Type"] == "application/cloudevents+json"
        assert spools(place) == []

    def test_goes_below_the_subject_that_is_named(
        self, server: nats_server.Server, place: Path
    ) -> None:
        server.remove_stream()
        server.make_stream("audit.prod.*")
        with sink(server.url, place, subject="audit.prod") as made:
            made.emit(event(1))
            assert made.flush(10)
        assert [each.subject for each in server.messages()] == ["audit.prod.SandboxViolation"]

    def test_hostile_names_stay_in_the_event(self, server: nats_server.Server, place: Path) -> None:
        hostile = [
            event(1, "a.*.>", "x\r\nNats-Msg-Id: y\r\n\r\n\x00\u2028\udcff"),
            event(2, "$JS.API.STREAM.DELETE.OMNIBASE", '"}\n{"id":"'),
            event(3, "-" * 256, "\U0001f600" * 4096),
        ]
        with sink(server.url, place) as made:
            emit(made, hostile)
            assert made.flush(10)
        stored_exactly(server, hostile)
        assert {each.subject for each in server.messages()} == {"omnibase.events.SandboxViolation"}

    def test_what_is_too_large_for_the_server_is_reported_and_keeps_nothing_back(
        self, server: nats_server.Server, place: Path
    ) -> None:
        large = Event(
            data=SandboxStart(
                script="job.py", script_sha256="0" * 64, platform="systrap", runtime_version="1",
                grants=("\U0001f600" * 1024,) * 128,
            ),
            source="urn:test:r1", runid="r1", sequence=2,
        )  # fmt: skip
        bus, other = EventBus(), CollectingSink()
        bus.subscribe(other)
        with sink(server.url, place) as made:
            bus.subscribe(made)
            for each in (event(1), large, event(3)):
                bus.publish(each)
            assert eventually(lambda: len(server.messages()) == 3)
        *kept, gap = server.events()
        assert [each.sequence for each in kept] == [1, 3]
        assert isinstance(gap.data, MonitorGap)
        assert gap.data.dropped == 1
        assert large.id in gap.data.reason
        assert "1048576" in gap.data.reason
        (reported,) = other.payloads(MonitorGap)
        assert reported.dropped == 1


class TestAnOutage:
    def test_of_a_server_that_is_down_at_first(
        self, server: nats_server.Server, place: Path
    ) -> None:
        server.kill()
        bus, other = EventBus(), CollectingSink()
        bus.subscribe(other)
        events = [event(n) for n in range(1, 51)]
        with sink(server.url, place, lag_seconds=0.4) as made:
            bus.subscribe(made)
            emit(made, events)
            assert not made.flush(0.05)
            assert made.pending == 50
            assert "connection refused" in made.problem.lower()
            assert eventually(lambda: len(other.payloads(SinkLag)) == 1)
            time.sleep(1)
            (lag,) = other.payloads(SinkLag)
            assert (lag.state, lag.pending, lag.sink) == ("lagging", 50, "JetStreamSink")
            assert "refused" in lag.reason.lower()
            server.start()
            assert made.flush(20)
        _, caught_up = other.payloads(SinkLag)
        assert (caught_up.state, caught_up.pending, caught_up.oldest_seconds) == ("caught-up", 0, 0)
        stored_exactly(server, events)

    def test_of_a_server_that_is_killed_and_comes_back(
        self, server: nats_server.Server, place: Path
    ) -> None:
        def again() -> None:
            for _ in range(2):
                time.sleep(0.2)
                server.kill()
                time.sleep(0.2)
                server.start()

        with sink(server.url, place, ack_timeout_seconds=1) as made:
            events = flow(made, 5, 200, again)
            assert made.flush(30)
        stored_exactly(server, events)

    def test_of_a_server_that_is_paused(self, server: nats_server.Server, place: Path) -> None:
        def pause() -> None:
            time.sleep(0.1)
            server.pause()
            time.sleep(1)
            server.resume()

        with sink(server.url, place, ack_timeout_seconds=0.3) as made:
            events = flow(made, 5, 100, pause)
            assert made.flush(30)
        stored_exactly(server, events)

    def test_of_a_stream_that_is_full(self, server: nats_server.Server, place: Path) -> None:
        server.remove_stream()
        # By number: a 2.9 server that is full by bytes drops what it has for what it refuses.
        server.make_stream(max_msgs=7, discard=DiscardPolicy.NEW)
        events = [event(n, f"r{n % 3}", "x" * (n * 37 % 1500)) for n in range(1, 40)]
        with sink(server.url, place) as made:
            emit(made, events)
            assert eventually(lambda: "maximum messages exceeded" in made.problem)
            assert not made.flush(0.1)
            config = StreamConfig(
                name=nats_server.STREAM, subjects=["omnibase.events.>"], max_msgs=100,
                discard=DiscardPolicy.NEW,
            )  # fmt: skip
            server.ask(lambda stream: stream.update_stream(config))
            assert made.flush(20)
        stored_exactly(server, events)

    def test_of_a_stream_that_is_not_there(self, server: nats_server.Server, place: Path) -> None:
        server.remove_stream()
        events = [event(n) for n in range(1, 6)]
        with sink(server.url, place) as made:
            emit(made, events)
            assert eventually(lambda: "no stream takes" in made.problem)
            server.make_stream()
            assert made.flush(20)
        stored_exactly(server, events)

    def test_of_a_name_that_nobody_knows(self, place: Path) -> None:
        with sink("nats://nats.invalid", place, patience_seconds=5) as made:
            made.emit(event(1))
            assert not made.flush(5)
            assert made.problem.startswith("nats.invalid:4222: ")
            assert "errno" not in made.problem
            assert made.pending == 1

    def test_keeps_no_bus_from_being_flushed(self, place: Path) -> None:
        bus = EventBus()
        with sink(f"nats://127.0.0.1:{nats_server.free_port()}", place, patience_seconds=0) as made:
            bus.subscribe(made)
            bus.publish(event(1))
            assert bus.flush()  # a run without a sandbox asks that: the event is kept
            assert not made.flush(0)
            assert made.pending == 1

    def test_costs_a_command_no_more_than_its_patience(self, place: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
            port = silent.getsockname()[1]
            with sink(f"nats://127.0.0.1:{port}", place, patience_seconds=0.5) as made:
                made.emit(event(1))
                before = time.monotonic()
                assert not made.flush(10)
                made.close()
                assert 0.4 < time.monotonic() - before < 8  # and not 10
        before = time.monotonic()
        with sink(f"nats://127.0.0.1:{port}", place, patience_seconds=60) as made:
            made.emit(event(2))
            assert not made.flush(60)
        assert time.monotonic() - before < 30  # and not 60

    def test_of_one_server_of_two_costs_nothing(
        self, server: nats_server.Server, place: Path
    ) -> None:
        dead = nats_server.free_port()
        with sink(f"nats://127.0.0.1:{dead},{server.url}", place) as made:
            made.emit(event(1))
            assert made.flush(20)
        assert len(server.messages()) == 1


class Proxy:
    """Passes everything on to a server, and what it says only while it is asked to."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self.deaf = threading.Event()
        self.published = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for one in self._open:
            one.close()
        self._open.clear()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            self._start(self._pass, client, server, True)
            self._start(self._pass, server, client, False)

    def _pass(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if asks:
                    self.published += data.count(b"HPUB omnibase.events.")
                if asks or not (self.deaf.is_set() and b"OMNIBASE" in data):
                    sink.sendall(data)


class TestALostAcknowledgement:
    """The stream has the event, and nobody told us: it is sent again, and stored once."""

    @pytest.fixture
    def proxy(self, server: nats_server.Server) -> Iterator[Proxy]:
        made = Proxy(server.port)
        yield made
        made.close()

    def test_within_the_memory_of_the_stream(
        self, server: nats_server.Server, place: Path, proxy: Proxy
    ) -> None:
        events = [event(n, f"r{n % 3}") for n in range(1, 31)]
        with sink(proxy.url, place, ack_timeout_seconds=0.2) as made:
            emit(made, events[:3])
            assert made.flush(10)
            proxy.deaf.set()
            emit(made, events[3:])
            assert eventually(lambda: len(server.messages()) == 6)
            assert not made.flush(0.5)
            proxy.deaf.clear()
            assert made.flush(20)
            assert proxy.published > len(events)
        stored_exactly(server, events)

    @pytest.mark.parametrize("killed", [False, True], ids=["same process", "next process"])
    def test_beyond_the_memory_of_the_stream(
        self, server: nats_server.Server, place: Path, proxy: Proxy, killed: bool
    ) -> None:
        server.remove_stream()
        server.make_stream(duplicate_window=0.2)
        others = [event(n, "other") for n in range(1, 400)]
        with sink(server.url, place.with_name("other")) as other:
            emit(other, others)
            assert other.flush(10)
        events = [event(n) for n in range(1, 11)]
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(sink(proxy.url, place, ack_timeout_seconds=0.2))
            emit(made, events[:1])
            assert made.flush(10)
            proxy.deaf.set()
            emit(made, events[1:])
            assert eventually(lambda: len(server.messages()) == 401)
            # The next does not come through until the stream has forgotten this one.
            target, proxy._target = proxy._target, nats_server.free_port()
            proxy.cut()
            if killed:
                stack.close()
                assert spools(place)
            time.sleep(0.5)
            proxy._target = target
            proxy.deaf.clear()
            if killed:
                made = stack.enter_context(sink(server.url, place))
            assert eventually(lambda: made.pending == 0 and len(server.messages()) >= 409)
        stored_exactly(server, others + events)


# Emits the events of a run of its own until it is killed, or COUNT of them.
WRITER = """
import sys, time
from omnibase.core.events import *
from omnibase.core.events.jetstream import JetStreamSink
url, place, run, count, pause = sys.argv[1:6]
sink = JetStreamSink(url, place)
for number in range(1, int(count) + 1):
    data = SandboxViolation(operation="openat", resource="x" * (number % 300), evidence="kernel")
    sink.emit(Event(data=data, source="urn:test", runid=run, sequence=number))
    print(number, flush=True)
    time.sleep(float(pause))
sink.flush(30)
sink.close()
"""


@contextlib.contextmanager
def writer(
    url: str, place: Path, run: str, count: int, pause: float = 0
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", WRITER, url, str(place), run, str(count), str(pause)]
    environment = os.environ | {"PYTHONPATH": SRC} | UNMEASURED
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> int:
    """The last number that a writer printed: that many events were emitted for certain."""
    assert process.stdout is not None
    lines = process.stdout.read().split(b"\n")
    return int(lines[-2]) if len(lines) > 1 else 0


def numbers(server: nats_server.Server) -> dict[str, list[int]]:
    return {
        run: [each.sequence for each in found] for run, found in by_run(server.events()).items()
    }


class TestProcesses:
    def test_one_that_is_killed_leaves_the_rest_to_the_next(
        self, server: nats_server.Server, place: Path
    ) -> None:
        emitted = {}
        for attempt in range(5):
            with writer(server.url, place, f"k{attempt}", 10**6) as process:
                assert process.stdout is not None
                for _ in range(150 * attempt + 20):
                    process.stdout.readline()
                process.send_signal(signal.SIGKILL)
                process.wait()
                emitted[f"k{attempt}"] = max(said(process), 150 * attempt + 20)
        assert len(spools(place)) == 1  # each goes on where the one before ended
        other = CollectingSink()
        bus = EventBus()
        bus.subscribe(other)
        with sink(server.url, place) as made:
            bus.subscribe(made)
            assert eventually(lambda: spools(place) == [])
        found = numbers(server)
        assert found.keys() == emitted.keys()
        for run, count in emitted.items():
            # The one that was being emitted may be there, too.
            assert found[run] in ([*range(1, count + 1)], [*range(1, count + 2)])
        (lag,) = other.payloads(SinkLag)
        assert lag.state == "caught-up"
        assert "earlier process had left" in lag.reason

    def test_several_share_an_outbox(self, server: nats_server.Server, place: Path) -> None:
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(writer(server.url, place, f"w{n}", 300)) for n in range(4)
            ]
            assert [said(process) for process in writers] == [300] * 4
            assert [process.wait(60) for process in writers] == [0] * 4
        assert numbers(server) == {f"w{n}": [*range(1, 301)] for n in range(4)}
        assert spools(place) == []

    def test_several_that_follow_each_other_in_an_outage_leave_one_file(
        self, server: nats_server.Server, place: Path
    ) -> None:
        server.kill()
        events = [event(n, f"r{n}") for n in range(1, 21)]
        for each in events:
            with sink(server.url, place, patience_seconds=0.1) as made:
                made.emit(each)
        assert len(spools(place)) == 1
        server.start()
        with sink(server.url, place) as made:
            assert eventually(lambda: spools(place) == [])
        assert server.events() == events

    def test_what_is_no_event_is_passed_over_and_told(
        self, server: nats_server.Server, place: Path
    ) -> None:
        server.kill()
        with sink(server.url, place, patience_seconds=0) as made:
            made.emit(event(1))
        with (place / spools(place)[0]).open("ab") as file:  # as a power cut leaves it
            file.write(b"\0" * 5000 + b"\n" + event(2).to_json().encode()[:100])
        server.start()
        with sink(server.url, place) as made:
            made.emit(event(3))
            assert eventually(lambda: len(server.messages()) == 3)
        kept, last, gap = server.events()
        assert (kept.sequence, last.sequence) == (1, 3)
        assert isinstance(gap.data, MonitorGap)
        assert gap.data.dropped == 2
        assert "is no event" in gap.data.reason

    def test_one_that_lives_delivers_what_another_leaves(
        self, server: nats_server.Server, place: Path
    ) -> None:
        with sink(server.url, place) as made:
            made.emit(event(1, "mine"))
            assert made.flush(10)
            with sink(
                f"nats://127.0.0.1:{nats_server.free_port()}", place, patience_seconds=0
            ) as other:
                other.emit(event(1, "theirs"))
            assert eventually(lambda: numbers(server).keys() == {"mine", "theirs"})
        assert spools(place) == []

    def test_a_forked_child_has_a_file_and_a_thread_of_its_own(
        self, server: nats_server.Server, place: Path
    ) -> None:
        code = (
            "import os, sys\n"
            "from omnibase.core.events import *\n"
            "from omnibase.core.events.jetstream import JetStreamSink\n"
            "def emit(run, first, last):\n"
            "    for n in range(first, last):\n"
            "        data = MonitorGap(dropped=n, reason='x')\n"
            "        sink.emit(Event(data=data, source='urn:test', runid=run, sequence=n))\n"
            "sink = JetStreamSink(sys.argv[1], sys.argv[2])\n"
            "emit('p', 1, 100)\n"
            "child = os.fork()\n"
            "emit('p', 100, 200) if child else emit('c', 1, 200)\n"
            "assert sink.flush(30)\n"
            "sink.close()\n"
            "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        command = [sys.executable, "-c", code, server.url, str(place)]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": SRC}, timeout=60, check=False
        )
        assert done.returncode == 0
        assert numbers(server) == {run: [*range(1, 200)] for run in "pc"}
        assert spools(place) == []


class TestAFullOutbox:
    def test_counts_what_it_cannot_take_and_tells_it_later(
        self, server: nats_server.Server, place: Path
    ) -> None:
        server.kill()
        kept: list[Event] = []
        for _ in range(2):  # two processes after each other, as far as the outbox knows
            bus, other = EventBus(), CollectingSink()
            bus.subscribe(other)
            with sink(server.url, place, max_bytes=5000, patience_seconds=0) as made:
                bus.subscribe(made)
                for n in range(1, 21):
                    each = event(n)
                    before = sum(failure.lost for failure in bus.failures)
                    bus.publish(each)
                    if sum(failure.lost for failure in bus.failures) == before:
                        kept.append(each)
                bus.close()
            lost = sum(gap.dropped for gap in other.payloads(MonitorGap))
            assert [failure.lost for failure in bus.failures] == [lost]
            assert "the outbox has its 5000 bytes" in bus.failures[0].error
        assert 0 < len(kept) < 20
        assert sum(path.stat().st_size for path in place.glob("*.spool")) < 5000 + 256
        server.start()
        with sink(server.url, place) as made:
            assert eventually(lambda: len(server.messages()) == len(kept) + 1)
        *found, gap = server.events()
        assert found == kept
        assert isinstance(gap.data, MonitorGap)
        assert gap.data.dropped == 40 - len(kept)
        assert gap.runid == "r1"
        with sink(server.url, place) as made:  # it is told once
            made.emit(event(1))
            assert made.flush(10)
        assert len(server.messages()) == len(kept) + 2

    def test_so_does_one_whose_disk_is_full(self, server: nats_server.Server, place: Path) -> None:
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(place)]
        subprocess.run(mount, check=True)
        try:
            server.kill()
            kept: list[Event] = []
            with sink(server.url, place) as made:
                for n in range(1, 201):
                    each = event(n)
                    try:
                        made.emit(each)
                    except OSError as error:
                        assert error.errno == 28
                    else:
                        kept.append(each)
                server.start()
                assert made.flush(20)
                emitted = [event(n, "r2") for n in range(1, 11)]
                emit(made, emitted)
                assert eventually(lambda: len(server.messages()) == len(kept) + 11)
            assert 10 < len(kept) < 200
            found = by_run(server.events())
            gap = next(each for each in server.events() if isinstance(each.data, MonitorGap))
            assert isinstance(gap.data, MonitorGap)
            assert gap.data.dropped == 200 - len(kept)
            assert [
                each for each in found["r1"] if each is not gap and each.data != gap.data
            ] == kept
            assert found["r2"] == emitted
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def test_so_does_one_whose_disk_is_full_of_other_things(
        self, server: nats_server.Server, place: Path
    ) -> None:
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(place)]
        subprocess.run(mount, check=True)
        try:
            with sink(server.url, place) as made:
                with contextlib.suppress(OSError), (place / "other").open("wb", 0) as other:
                    while True:
                        other.write(b"x" * 4096)
                for n in range(1, 6):
                    with pytest.raises(OSError, match="No space"):
                        made.emit(event(n))
                assert spools(place) == []
                (place / "other").unlink()
                emit(made, [event(6)])
                assert eventually(lambda: len(server.messages()) == 2)
            first, gap = server.events()
            assert first.sequence == 6
            assert gap.data == MonitorGap(dropped=5, reason="outbox: No space left on device")
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def test_what_is_delivered_gives_its_room_back(
        self, server: nats_server.Server, place: Path
    ) -> None:
        with sink(server.url, place, max_bytes=20_000) as made:
            for n in range(1, 201):
                made.emit(event(n, resource="x" * 400))
                assert n % 10 or made.flush(10)
        assert numbers(server) == {"r1": [*range(1, 201)]}


class TestLoggingIn:
    AUTHORIZED = """
authorization { users = [
  { user: admin, password: "top secret" }
  { user: omnibase, password: "pa ss/w@rd:*",
    permissions: { publish: "omnibase.events.>", subscribe: "_INBOX.>" } }
] }
"""

    @pytest.fixture
    def closed(self) -> Iterator[nats_server.Server]:
        with nats_server.running(self.AUTHORIZED, user=("admin", "top secret")) as running:
            yield running

    def test_needs_no_more_than_to_publish(self, closed: nats_server.Server, place: Path) -> None:
        events = [event(n) for n in range(1, 4)]
        url = f"nats://omnibase:pa%20ss%2Fw%40rd%3A%2A@127.0.0.1:{closed.port}"
        with sink(url, place) as made:
            emit(made, events)
            assert made.flush(20)
            assert "pa ss" not in repr(made.settings)
        stored_exactly(closed, events)

    def test_that_is_refused_shows_no_password_and_loses_nothing(
        self, closed: nats_server.Server, place: Path
    ) -> None:
        url = f"nats://omnibase:Tr0ub4dor@127.0.0.1:{closed.port}"
        with sink(url, place, patience_seconds=1) as made:
            made.emit(event(1))
            assert eventually(lambda: "authorization" in made.problem.lower())
            assert "Tr0ub4dor" not in made.problem
            assert not made.flush(1)
        with sink(f"nats://admin:top%20secret@127.0.0.1:{closed.port}", place):
            assert eventually(lambda: len(closed.messages()) == 1)

    def test_that_may_not_publish_is_told_so(self, closed: nats_server.Server, place: Path) -> None:
        url = f"nats://omnibase:pa%20ss%2Fw%40rd%3A%2A@127.0.0.1:{closed.port}"
        with sink(url, place, subject="elsewhere", ack_timeout_seconds=0.5) as made:
            made.emit(event(1))
            assert eventually(lambda: "permissions violation" in made.problem.lower())

    def test_over_tls_checks_who_the_server_is(self, tmp_path: Path, place: Path) -> None:
        tls.certificate(tmp_path, "localhost")
        secured = (
            f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key" }}\n'
        )
        with nats_server.running(secured, stream=False) as server:
            server.trust = str(tmp_path / "ca.pem")
            server.make_stream()
            trusted = NatsSettings.of(f"tls://localhost:{server.port}", ca=str(tmp_path / "ca.pem"))
            with contextlib.closing(JetStreamSink(trusted, place)) as made:
                made.emit(event(1))
                assert made.flush(20)
            with sink(f"tls://localhost:{server.port}", place.with_name("x")) as made:
                assert eventually(lambda: "issuer" in made.problem), made.problem
            stranger = NatsSettings.of(
                f"tls://127.0.0.1:{server.port}", ca=str(tmp_path / "ca.pem")
            )
            with contextlib.closing(JetStreamSink(stranger, place.with_name("x"))) as made:
                assert eventually(lambda: "mismatch" in made.problem), made.problem
            assert len(server.messages()) == 1

    def test_over_tls_sends_no_password_to_who_offers_none(self, place: Path) -> None:
        heard: list[bytes] = []

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = plain.accept()
                    with client:
                        client.settimeout(1)
                        client.sendall(
                            b'INFO {"server_id":"x","version":"2.9.10","headers":true}\r\n'
                        )
                        heard.append(client.recv(4096))

        with socket.create_server(("127.0.0.1", 0)) as plain:
            thread = threading.Thread(target=greet)
            thread.start()
            url = f"tls://user:Tr0ub4dor@127.0.0.1:{plain.getsockname()[1]}"
            with sink(url, place, patience_seconds=0) as made:
                made.emit(event(1))
                assert eventually(lambda: "secure connection" in made.problem), made.problem
            plain.shutdown(socket.SHUT_RDWR)
            thread.join()
        assert heard
        assert b"".join(heard) == b""


class TestOpening:
    def test_is_refused_if_others_may_write_there(self, place: Path) -> None:
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        with pytest.raises(OSError, match="others may write"):
            JetStreamSink("nats://127.0.0.1", place)

    def test_follows_no_link(self, place: Path, tmp_path: Path) -> None:
        place.symlink_to(tmp_path)
        with pytest.raises(OSError):
            JetStreamSink("nats://127.0.0.1", place)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("options", [{"fsync": "often"}, {"max_bytes": 0}, {"lag_seconds": 0}])
    def test_refuses_what_is_out_of_range(self, place: Path, options: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            JetStreamSink("nats://127.0.0.1", place, **options)  # type: ignore[arg-type]
        assert not place.exists()

    def test_needs_the_library(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigurationError, match="nats-py") as raised:
            JetStreamSink("nats://127.0.0.1", place)
        assert "omnibase[nats]" in (raised.value.hint or "")

    def test_leaves_nothing_open(self, server: nats_server.Server, place: Path) -> None:
        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        with sink(server.url, place) as made:  # what is imported stays
            made.emit(event(1))
            assert made.flush(10)
        before = held()
        for url in (server.url, f"nats://127.0.0.1:{nats_server.free_port()}"):
            with sink(url, place, patience_seconds=0.1) as made:
                made.emit(event(1))
                made.flush(10)
        assert held() == before

    def test_ends_at_any_moment(self, server: nats_server.Server, place: Path) -> None:
        before = threading.active_count()
        dice = random.Random(5)
        dead = f"nats://127.0.0.1:{nats_server.free_port()}"
        for url in (server.url, dead) * 40:
            made = JetStreamSink(url, place)
            time.sleep(dice.uniform(0, 0.02))
            begin = time.monotonic()
            made.close()
            assert time.monotonic() - begin < 10
        assert threading.active_count() == before


def test_whatever_is_killed_and_paused_each_event_is_stored_once(
    server: nats_server.Server, place: Path
) -> None:
    """``OMNIBASE_CHAOS_SECONDS=300`` goes on for longer; the seed is printed."""
    seconds = float(os.environ.get("OMNIBASE_CHAOS_SECONDS", "6"))
    seed = int(os.environ.get("OMNIBASE_CHAOS_SEED", time.time_ns() % 10**6))
    print(f"OMNIBASE_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    server.remove_stream()
    server.make_stream(duplicate_window=dice.choice([0.2, 120.0]))
    emitted: dict[str, int] = {}
    alive: list[tuple[str, subprocess.Popen[bytes]]] = []

    def reap(run: str, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        emitted[run] = said(process)

    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(dice.uniform(0, 0.3))
            match dice.randrange(5):
                case 0 | 1 if len(alive) < 3:
                    run = f"c{len(emitted) + len(alive)}"
                    alive.append(
                        (run, stack.enter_context(writer(server.url, place, run, 10**6, 0.003)))
                    )
                case 2 if alive:
                    reap(*alive.pop(dice.randrange(len(alive))))
                case 3:
                    server.kill()
                    time.sleep(dice.uniform(0, 0.3))
                    server.start()
                case 4:
                    server.pause()
                    time.sleep(dice.uniform(0, 0.3))
                    server.resume()
        while alive:
            reap(*alive.pop())
        with sink(server.url, place):
            assert eventually(lambda: spools(place) == [], 120)
    found = numbers(server)
    for run, count in emitted.items():
        # The one that was being emitted may be there, too.
        assert found.get(run, []) in ([*range(1, count + 1)], [*range(1, count + 2)]), (run, seed)
    assert found.keys() <= emitted.keys()
