"""The OpenTelemetry sink, against a receiver that works, is slow, fails, or is not there."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from omnibase.core import telemetry
from omnibase.core.events import (
    CollectingSink,
    Emitter,
    EventBus,
    MonitorGap,
    ResourceLimitExceeded,
    SinkLag,
)
from omnibase.core.sandbox.pool_stats import PoolStats
from omnibase.core.telemetry import OpenTelemetrySink, queued
from omnibase.errors import ConfigurationError
from tests.helpers.cli import eventually
from tests.helpers.otlp import Receiver, plain, tree
from tests.unit.test_telemetry_spans import (
    ATTEMPT,
    DECIDED,
    DENIED,
    REFUSED,
    RETRIED,
    START,
    exit_of,
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests counts."""
    for name in tuple(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def held() -> tuple[list[str], set[str]]:
    """What this process has open, and what runs in it."""
    gc.collect()
    return sorted(os.listdir("/proc/self/fd")), {thread.name for thread in threading.enumerate()}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a descriptor or a thread behind, however its collector behaved."""
    before = held()
    yield
    assert eventually(lambda: held() == before, 20), (before, held())


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


class Bus:
    """A bus with the sink, and another that sees what it tells."""

    def __init__(self, sink: OpenTelemetrySink) -> None:
        self.bus = EventBus()
        self.others = CollectingSink()
        self.bus.subscribe(self.others)
        self.bus.subscribe(sink)

    def run(self) -> Emitter:
        emitter = Emitter(self.bus, subject="x.py")
        for payload in (DECIDED, START, ATTEMPT, exit_of("violation", teardown_seconds=0.0)):
            emitter.emit(payload)
        return emitter


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


class TestDelivery:
    def test_a_run_arrives_with_its_tree(self, receiver: Receiver) -> None:
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        emitter = bus.run()
        assert sink.flush(10)
        assert list(tree(receiver.spans)) == [
            ("omnibase.run", None),
            ("omnibase.boot", "omnibase.run"),
            ("omnibase.policy", "omnibase.run"),
            ("omnibase.execution", "omnibase.run"),
            ("omnibase.teardown", "omnibase.run"),
        ]
        (run,) = [span for span in receiver.spans if span.name == "omnibase.run"]
        assert f"00-{run.trace_id.hex()}-{run.span_id.hex()}-01" == emitter.traceparent
        assert plain(run.attributes)["omnibase.run.id"] == emitter.runid
        assert receiver.resources[0]["service.name"] == "omnibase"
        assert (sink.lost, sink.pending, sink.error) == (0, 0, "")
        assert bus.bus.close() and bus.bus.failures == ()
        assert bus.others.payloads(MonitorGap) == bus.others.payloads(SinkLag) == ()

    def test_what_is_left_arrives_when_it_is_closed(self, receiver: Receiver) -> None:
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        bus.run()
        Emitter(bus.bus).emit(START)
        sink.close()
        assert len([span for span in receiver.spans if span.name == "omnibase.run"]) == 2
        assert sink.lost == 0

    def test_the_service_is_named_by_the_environment(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=ci")
        sink = OpenTelemetrySink()
        Bus(sink).run()
        sink.close()
        assert receiver.resources[0]["service.name"] == "mine"
        assert receiver.resources[0]["deployment.environment.name"] == "ci"

    def test_metrics_arrive(self, receiver: Receiver) -> None:
        sink = OpenTelemetrySink(pool_size=PoolStats(size=4, ready=3, running=1).by_state)
        bus = Bus(sink)
        bus.run()
        denied = Emitter(bus.bus)
        for payload in (DENIED, DENIED, REFUSED):
            denied.emit(payload)
        retried = Emitter(bus.bus)
        limit = ResourceLimitExceeded(kind="pids", limit=3, unit="processes")
        lost = MonitorGap(dropped=7, reason="full")
        many = replace(ATTEMPT, count=10)
        for payload in (RETRIED, START, ATTEMPT, many, limit, lost, exit_of()):
            retried.emit(payload)
        assert sink.flush(10)

        def points(name: str) -> dict[tuple[Any, ...], float]:
            data = receiver.metrics[name].sum.data_points
            return {tuple(plain(each.attributes).values()): each.as_int for each in data}

        assert points("omnibase.runs") == {
            ("violation", "violation"): 1, ("refused", "policy_error"): 1, ("ok",): 1,
        }  # fmt: skip
        assert points("omnibase.denials") == {("FILE_READ",): 2}
        # Told at once with a count of 1, and at the end with all ten.
        assert points("omnibase.violations") == {("FILE_READ",): 11}
        assert points("omnibase.retries") == {(): 1}
        assert points("omnibase.limits") == {("pids",): 1}
        assert points("omnibase.events.lost") == {(): 7}
        assert points("omnibase.pool.size") == {
            ("ready",): 3, ("booting",): 0, ("running",): 1, ("ending",): 0,
        }  # fmt: skip
        boot = receiver.metrics["omnibase.boot.duration"]
        (point,) = boot.histogram.data_points
        assert plain(point.attributes) == {"omnibase.sandbox.start": "cold"}
        assert (boot.unit, point.count, point.sum) == ("s", 2, 1.0)
        sink.close()

    def test_only_what_is_asked_for(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        sink = OpenTelemetrySink()
        Bus(sink).run()
        assert sink.flush(10)
        sink.close()
        assert receiver.spans == [] and "omnibase.runs" in receiver.metrics

    def test_disabled_it_makes_nothing(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        sink = OpenTelemetrySink()
        Bus(sink).run()
        assert sink.flush(5)
        sink.close()
        assert receiver.requests == 0

    def test_nothing_of_it_stays(self, receiver: Receiver) -> None:
        before = threads()
        sink = OpenTelemetrySink()
        Bus(sink).run()
        sink.close()
        left = {name for name in threads() - before if "process_request" not in name}
        assert left == set()


class TestTrouble:
    def test_a_collector_that_hangs_holds_up_no_run(self, receiver: Receiver) -> None:
        receiver.delay = 30
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        began = time.monotonic()
        emitter = bus.run()
        assert not sink.flush(0.3)
        assert time.monotonic() - began < 10  # and not 30
        (lag,) = bus.others.payloads(SinkLag)
        assert (lag.sink, lag.state, lag.pending) == ("OpenTelemetrySink", "lagging", 5)
        # Once for each time that it falls behind; an advisory sink fails no flush of the bus.
        assert bus.bus.flush(0.2)
        assert len(bus.others.payloads(SinkLag)) == 1
        assert bus.others.events[-1].traceparent == emitter.traceparent
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 10
        assert sink.lost == 5

    def test_one_that_answers_in_the_end_has_caught_up(self, receiver: Receiver) -> None:
        receiver.delay = 30
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        bus.run()
        assert not sink.flush(0.2)
        receiver.released.set()
        assert sink.flush(10)
        assert [lag.state for lag in bus.others.payloads(SinkLag)] == ["lagging", "caught-up"]
        assert len(receiver.spans) == 5 and sink.lost == 0
        sink.close()

    @pytest.mark.parametrize("status", [400, 500])
    def test_refused_spans_are_told_as_lost(self, receiver: Receiver, status: int) -> None:
        receiver.status = status
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        emitter = bus.run()
        assert not sink.flush(10)
        (gap,) = bus.others.payloads(MonitorGap)
        assert gap.dropped == sink.lost == 5
        assert gap.reason.startswith("OpenTelemetrySink: spans were lost")
        assert bus.others.events[-1].runid == emitter.runid
        receiver.status = 200
        bus.run()
        assert sink.flush(10), "what was lost before is not lost again"
        assert len(bus.others.payloads(MonitorGap)) == 1
        sink.close()

    def test_a_service_that_never_flushes_hears_of_it_too(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        monkeypatch.setattr(queued, "_CHECK_SECONDS", 0.02)
        receiver.status = 400
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        bus.run()
        assert eventually(
            lambda: sum(gap.dropped for gap in bus.others.payloads(MonitorGap)) == 5, 10
        )
        receiver.status = 200
        sink.close()

    def test_nobody_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv(
                "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}"
            )
        sink = OpenTelemetrySink(timeout_seconds=0.3)
        bus = Bus(sink)
        bus.run()
        began = time.monotonic()
        assert not sink.flush(5)
        assert time.monotonic() - began < 4
        assert [gap.dropped for gap in bus.others.payloads(MonitorGap)] == [5]
        sink.close()

    def test_a_dropped_span_is_counted(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        receiver.delay = 30
        sink = OpenTelemetrySink()
        bus = Bus(sink)
        for _ in range(20):
            bus.run()
        assert not sink.flush(0.5)
        receiver.released.set()
        assert not sink.flush(10)
        (gap,) = bus.others.payloads(MonitorGap)
        assert gap.dropped == 100 - len(receiver.spans) > 0
        assert "dropped before it was exported" in gap.reason
        sink.close()

    def test_a_full_queue_is_told_by_the_bus(self, receiver: Receiver) -> None:
        go = threading.Event()

        class Stuck(SpanProcessor):
            def on_start(self, *_: Any, **__: Any) -> None:
                go.wait(30)

        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(Stuck())
        sink = OpenTelemetrySink(tracer_provider=provider, queue_events=4)
        bus = Bus(sink)
        began = time.monotonic()
        for _ in range(3):
            bus.run()
        assert time.monotonic() - began < 10  # and not 30
        (failure,) = bus.bus.failures
        assert failure.lost > 0 and "the queue is full: 4 events" in failure.error
        assert bus.others.payloads(MonitorGap)[0].dropped >= 1
        go.set()
        sink.close()
        provider.shutdown()

    def test_a_processor_that_raises_costs_no_more_than_its_events(self) -> None:
        class Broken(SpanProcessor):
            def on_start(self, *_: Any, **__: Any) -> None:
                raise ValueError("broken")

        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(Broken())
        sink = OpenTelemetrySink(tracer_provider=provider)
        bus = Bus(sink)
        bus.run()
        assert not sink.flush(5)
        assert sink.error == "ValueError: broken" and sink.lost > 0
        assert bus.others.payloads(MonitorGap)
        assert bus.bus.failures == ()
        sink.close()
        provider.shutdown()


class TestProviders:
    def test_the_applications_own_is_used_and_left_open(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
        sink = OpenTelemetrySink()
        Bus(sink).run()
        sink.close()
        assert len(exporter.get_finished_spans()) == 5
        assert reader.get_metrics_data() is not None
        tracers.get_tracer("app").start_span("after").end()
        assert exporter.get_finished_spans()[-1].name == "after"
        tracers.shutdown()
        meters.shutdown()

    def test_one_that_is_passed_comes_first(self, receiver: Receiver) -> None:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        sink = OpenTelemetrySink(tracer_provider=provider)
        Bus(sink).run()
        sink.close()
        assert len(exporter.get_finished_spans()) == 5 and receiver.requests == 0

    def test_providers_of_ours_are_not_the_applications(self, receiver: Receiver) -> None:
        sink = OpenTelemetrySink()
        assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        sink.close()

    @pytest.mark.parametrize(
        ("variables", "text"),
        [
            ({"OTEL_TRACES_EXPORTER": "zipkin"}, "for traces is called `zipkin`"),
            ({"OTEL_METRICS_EXPORTER": "prometheus"}, "for metrics is called `prometheus`"),
            (
                {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
                r"with this protocol \(`otlp_proto_grpc`\)",
            ),
            ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "cannot be set up"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_had_is_an_error(
        self, variables: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=text) as caught:
            OpenTelemetrySink()
        assert caught.value.hint

    def test_an_exporter_of_another_package_is_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = tmp_path / "other-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            "[opentelemetry_traces_exporter]\nother = other_exporter:Exporter\n"
            "broken = other_exporter:broken\nmissing = other_exporter.missing:x\n"
        )
        (tmp_path / "other_exporter.py").write_text(
            "from opentelemetry.sdk.trace.export.in_memory_span_exporter import *\n"
            "kept = []\n"
            "class Exporter(InMemorySpanExporter):\n"
            "    def export(self, spans):\n"
            "        kept.extend(spans)\n"
            "        return super().export(spans)\n"
            "def broken(): raise OSError('no such collector')\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "other")
        sink = OpenTelemetrySink()
        Bus(sink).run()
        sink.close()
        import other_exporter  # type: ignore[import-not-found]

        assert len(other_exporter.kept) == 5
        for name, text in (("broken", "no such collector"), ("missing", "not installed here")):
            monkeypatch.setenv("OTEL_TRACES_EXPORTER", name)
            with pytest.raises(ConfigurationError, match=text):
                OpenTelemetrySink()

    def test_the_package_names_its_sinks_and_nothing_else(self) -> None:
        assert set(telemetry.__all__) == {"LogSink", "OpenTelemetrySink"}
        with pytest.raises(AttributeError, match="nothing_such"):
            telemetry.nothing_such  # noqa: B018

    @pytest.mark.parametrize(
        ("name", "library", "extra"),
        [("OpenTelemetrySink", "opentelemetry", "otel"), ("LogSink", "structlog", "logs")],
    )
    def test_a_missing_library_is_named(
        self, name: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sys

        for module in ("sink", "logs"):
            monkeypatch.delitem(sys.modules, f"omnibase.core.telemetry.{module}", raising=False)
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigurationError, match=library) as caught:
            getattr(telemetry, name)
        assert caught.value.hint == f"`pip install 'omnibase[{extra}]'`"


def test_a_forked_child_has_a_thread_of_its_own(receiver: Receiver) -> None:
    sink = OpenTelemetrySink()
    bus = Bus(sink)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # the parent's receiver serves it
        os.close(read)
        code = 1
        try:
            bus.run()
            code = 0 if sink.flush(10) else 2
            os.write(write, str(sink.lost).encode())
        finally:
            os._exit(code)
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.read(read, 9) == b"0"
    os.close(read)
    bus.run()
    assert sink.flush(10)
    assert len(receiver.spans) == 10
    sink.close()
