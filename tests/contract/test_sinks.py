"""What every sink keeps to. A new sink adds one entry to `SINKS`."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from omnibase.core.audit import AuditLog
from omnibase.core.events import (
    CollectingSink,
    Emitter,
    Event,
    EventBus,
    JsonlSink,
    MonitorGap,
    SandboxViolation,
    Sink,
)
from omnibase.core.events.jetstream import JetStreamSink
from omnibase.core.printable import printable
from omnibase.core.telemetry import LogSink, OpenTelemetrySink
from tests.helpers import nats_server
from tests.helpers.audit import events

# For a process that is killed or out of disk: coverage's own file would be torn too.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
SRC = str(Path(__file__).parents[2] / "src")


def whole(event: Event) -> object:
    return event


def outline(event: Event) -> object:
    """What a sink for operators shows of an event: it is no record of all of it."""
    data = event.data
    text = data.resource if isinstance(data, SandboxViolation) else data.to_dict()["reason"]
    return event.name, event.runid, event.sequence, printable(text)


class Case(NamedTuple):
    """A sink, how to read back what it kept, and what that is of an event."""

    sink: Sink
    read: Callable[[], list[object]]
    kept: Callable[[Event], object] = whole


def collecting(_: Path) -> Case:
    sink = CollectingSink()
    return Case(sink, lambda: list(sink.events))


def jsonl(tmp_path: Path) -> Case:
    path = tmp_path / "events.jsonl"
    return Case(JsonlSink(path), lambda: read_log(path))


def jsonl_always(tmp_path: Path) -> Case:
    path = tmp_path / "events.jsonl"
    return Case(JsonlSink(path, fsync="always"), lambda: read_log(path))


def audit_log(tmp_path: Path) -> Case:
    directory = tmp_path / "audit"
    log = AuditLog(directory, segment_bytes=8000, checkpoint_every=20)
    return Case(log, lambda: list(events(directory)))


def audit_log_always(tmp_path: Path) -> Case:
    directory = tmp_path / "audit"
    return Case(AuditLog(directory, fsync="always"), lambda: list(events(directory)))


def jetstream(tmp_path: Path) -> Case:
    (server,) = NATS
    server.purge()
    sink = JetStreamSink(server.url, tmp_path / "outbox", close_timeout_seconds=30)
    return Case(sink, lambda: list(server.events()))


NATS: list[nats_server.Server] = []


@pytest.fixture(scope="module", autouse=True)
def nats() -> Iterator[None]:
    with nats_server.running() as server:
        NATS[:] = [server]
        yield
        NATS.clear()


def open_telemetry(_: Path) -> Case:
    """Spans in memory, behind a provider of the application's."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def read() -> list[object]:
        found = []
        for span in exporter.get_finished_spans():
            of_span = dict(span.attributes or {})
            for name, attributes in [
                (span.name, of_span),
                *((event.name, dict(event.attributes or {})) for event in span.events),
            ]:
                if "omnibase.sequence" in attributes:
                    text = attributes.get("omnibase.resource", attributes.get("omnibase.reason"))
                    found.append((
                        name.removeprefix("omnibase."), of_span["omnibase.run.id"],
                        attributes["omnibase.sequence"], text,
                    ))  # fmt: skip
        return found

    return Case(OpenTelemetrySink(tracer_provider=provider), read, outline)


def logs(_: Path) -> Case:
    """Lines in memory, of structlog."""
    kept = structlog.testing.CapturingLogger()
    logger = structlog.wrap_logger(kept, processors=[], wrapper_class=structlog.BoundLogger)

    def read() -> list[object]:
        lines = (call.kwargs for call in kept.calls)
        return [
            (line["event"], line["run_id"], line["sequence"],
             line.get("resource", line.get("reason")))
            for line in lines
        ]  # fmt: skip

    return Case(LogSink(logger), read, outline)


SINKS: tuple[Callable[[Path], Case], ...] = (
    collecting, jsonl, jsonl_always, audit_log, audit_log_always, open_telemetry, logs,
    jetstream,
)  # fmt: skip


def read_log(path: Path) -> list[Event]:
    return [Event.from_json(line) for line in path.read_bytes().splitlines()]


def event(number: int = 1, resource: str = "/etc/passwd") -> Event:
    violation = SandboxViolation(operation="openat", resource=resource, evidence="kernel")
    return Event(data=violation, source="urn:test", runid="r1", sequence=number)


def of_number(kept: object) -> int:
    return kept.sequence if isinstance(kept, Event) else kept[2]  # type: ignore[index,no-any-return]


@pytest.fixture(params=SINKS, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    made: Case = request.param(tmp_path)
    request.addfinalizer(made.sink.close)
    return made


class TestEverySink:
    def test_keeps_events_in_order(self, case: Case) -> None:
        events = [event(n) for n in range(1, 101)]
        for each in events:
            case.sink.emit(each)
        assert case.sink.flush(5)
        assert case.read() == [case.kept(each) for each in events]

    def test_keeps_hostile_text(self, case: Case) -> None:
        hostile = event(resource='\n\r\u2028\x1b[2J\x7f\udcff\u202e"\\\x00')
        case.sink.emit(hostile)
        assert case.sink.flush(5)
        assert case.read() == [case.kept(hostile)]

    def test_has_nothing_to_flush_at_first(self, case: Case) -> None:
        assert case.sink.flush(0)
        assert case.read() == []

    def test_keeps_everything_when_closed_without_a_flush(self, case: Case) -> None:
        case.sink.emit(event())
        case.sink.close()
        assert len(case.read()) == 1

    def test_refuses_events_once_closed_and_closes_twice(self, case: Case) -> None:
        case.sink.close()
        case.sink.close()
        with pytest.raises(RuntimeError, match="closed"):
            case.sink.emit(event())
        assert case.sink.flush(0)
        assert case.read() == []

    def test_takes_events_from_many_threads(self, case: Case) -> None:
        def emit(first: int) -> None:
            for number in range(first, first + 50):
                case.sink.emit(event(number))

        threads = [threading.Thread(target=emit, args=(1 + 50 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert case.sink.flush(5)
        kept = [case.kept(event(number)) for number in range(1, 401)]
        assert sorted(map(of_number, case.read())) == sorted(map(of_number, kept))

    def test_serves_a_bus(self, case: Case) -> None:
        bus = EventBus()
        bus.subscribe(case.sink)
        sent = [Emitter(bus).emit(MonitorGap(dropped=n, reason="test")) for n in range(3)]
        assert bus.close()
        assert case.read() == [case.kept(each) for each in sent]
        assert bus.failures == ()


class TestJsonlFile:
    def test_is_private_as_are_its_directories(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "events.jsonl"
        JsonlSink(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for directory in (path.parent, path.parent.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_is_appended_to(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        for number in (1, 2):
            sink = JsonlSink(path)
            sink.emit(event(number))
            sink.close()
        assert [each.sequence for each in read_log(path)] == [1, 2]

    def test_is_not_a_link_nor_a_fifo_nor_a_device(self, tmp_path: Path) -> None:
        target, link, fifo = tmp_path / "t", tmp_path / "link", tmp_path / "fifo"
        link.symlink_to(target)
        os.mkfifo(fifo)
        for path in (link, fifo, Path("/dev/null"), tmp_path):
            with pytest.raises(OSError):
                JsonlSink(path)
        assert not target.exists()

    def test_is_not_inherited_by_a_new_program(self, tmp_path: Path) -> None:
        sink = JsonlSink(tmp_path / "events.jsonl")
        assert not os.get_inheritable(sink._fd)
        sink.close()

    def test_a_torn_last_line_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(event(1).to_json().encode() + b'\n{"torn')
        sink = JsonlSink(path)
        sink.emit(event(2))
        with path.open("ab") as other:
            other.write(b"torn again")
        sink.emit(event(3))
        sink.close()
        lines = path.read_bytes().splitlines()
        assert [lines[1], lines[3]] == [b'{"torn', b"torn again"]
        assert [Event.from_json(lines[n]).sequence for n in (0, 2, 4)] == [1, 2, 3]

    def test_a_relative_path_stays_where_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        sink = JsonlSink("events.jsonl")
        assert sink.path == str(tmp_path / "events.jsonl")
        sink.close()


class TestJsonlErrors:
    def test_a_wrong_policy_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fsync=often"):
            JsonlSink(tmp_path / "x", fsync="often")  # type: ignore[arg-type]
        assert not (tmp_path / "x").exists()

    def test_a_held_lock_costs_a_bounded_time(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        sink = JsonlSink(path, lock_timeout_seconds=0.05)
        with path.open("rb") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                sink.emit(event(1))
            assert 0.04 < time.monotonic() - start < 20  # and not for ever
        sink.emit(event(2))
        sink.close()
        assert [each.sequence for each in read_log(path)] == [2]

    def test_a_full_disk_is_an_error_that_the_bus_counts(self, tmp_path: Path) -> None:
        # The size limit is the process's, so the disk fills up in one of its own.
        code = (
            "import resource, signal, sys\n"
            "from omnibase.core.events import *\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "bus = EventBus()\n"
            "bus.subscribe(JsonlSink(sys.argv[1]))\n"
            "sink = CollectingSink(); bus.subscribe(sink)\n"
            "for n in range(5): Emitter(bus).emit(MonitorGap(dropped=n, reason='test'))\n"
            "bus.close()\n"
            "(failure,) = bus.failures\n"
            "assert failure.lost >= 2 and 'File too large' in failure.error, failure\n"
            "lost = [p.dropped for p in sink.payloads(MonitorGap) if p.reason != 'test']\n"
            "assert sum(lost) == failure.lost, lost\n"
        )
        path = tmp_path / "events.jsonl"
        done = python(code, str(path), **UNMEASURED)
        assert done.wait(60) == 0
        assert path.stat().st_size == 1000
        sink = JsonlSink(path)
        sink.emit(event())
        sink.close()
        assert Event.from_json(path.read_bytes().splitlines()[-1]).runid == "r1"

    @pytest.mark.parametrize("policy", ["never", "close", "always"])
    def test_the_policy_says_when_the_disk_is_asked(
        self, policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        sink = JsonlSink(tmp_path / "events.jsonl", fsync=policy)  # type: ignore[arg-type]
        monkeypatch.setattr(os, "fdatasync", asked.append)
        counts = []
        for step in (lambda: sink.emit(event()), lambda: sink.flush(1), sink.close):
            step()
            counts.append(len(asked))
        assert counts == {"never": [0, 0, 0], "close": [0, 1, 2], "always": [1, 1, 1]}[policy]


def python(code: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=os.environ | {"PYTHONPATH": SRC} | environment
    )


# Lines from 0.4 KB to 50 KB, far past PIPE_BUF.
WRITER = """
import sys
from omnibase.core.events import *
sink = JsonlSink(sys.argv[1], fsync="never", lock_timeout_seconds=60)
for number in range(1, int(sys.argv[3]) + 1):
    size = 4096 if number % 7 == 0 else number % 50
    data = SandboxViolation(operation="o", resource="\\U0001f600" * size, evidence="kernel")
    sink.emit(Event(data=data, source="urn:test", runid=sys.argv[2], sequence=number))
"""


class TestJsonlProcesses:
    def test_eight_append_whole_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        writers = [python(WRITER, str(path), f"w{n}", "300") for n in range(8)]
        assert [writer.wait(120) for writer in writers] == [0] * 8
        by_writer: dict[str, list[int]] = {}
        for each in read_log(path):
            by_writer.setdefault(each.runid, []).append(each.sequence)
        assert by_writer == {f"w{n}": list(range(1, 301)) for n in range(8)}

    def test_one_that_is_killed_takes_at_most_its_last_line_along(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        for attempt in range(8):
            writer = python(WRITER, str(path), f"k{attempt}", str(10**6), **UNMEASURED)
            size = path.stat().st_size if path.exists() else 0
            deadline = time.monotonic() + 30
            while (not path.exists() or path.stat().st_size < size + 50_000 * (attempt + 1)) and (
                time.monotonic() < deadline
            ):
                time.sleep(0.001)
            writer.send_signal(signal.SIGKILL)
            assert writer.wait(30) == -signal.SIGKILL
        sink = JsonlSink(path)
        sink.emit(event())
        sink.close()
        *lines, last = path.read_bytes().split(b"\n")
        assert last == b""
        torn, by_writer = 0, dict[str, list[int]]()
        for line in lines:
            try:
                each = Event.from_json(line)
            except ValueError:
                torn += 1
            else:
                by_writer.setdefault(each.runid, []).append(each.sequence)
        assert torn <= 8
        assert by_writer.pop("r1") == [1]
        assert len(by_writer) == 8
        for numbers in by_writer.values():
            assert numbers == list(range(1, len(numbers) + 1))

    def test_a_forked_child_locks_for_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        code = (
            "import os, sys\n"
            "from omnibase.core.events import *\n"
            "sink = JsonlSink(sys.argv[1], lock_timeout_seconds=60)\n"
            "sink._lock.acquire()\n"  # as if another thread emitted at that moment
            "child = os.fork()\n"
            "if child: sink._lock.release()\n"
            "for n in range(1, 301):\n"
            "    data = MonitorGap(dropped=n, reason='x' * 4000)\n"
            "    run = 'p' if child else 'c'\n"
            "    sink.emit(Event(data=data, source='urn:test', runid=run, sequence=n))\n"
            "sink.close()\n"
            "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        assert python(code, str(path)).wait(60) == 0
        for run in "pc":
            numbers = [each.sequence for each in read_log(path) if each.runid == run]
            assert numbers == list(range(1, 301))
