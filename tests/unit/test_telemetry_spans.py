"""Spans of runs, made from their events."""

from __future__ import annotations

import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from omnibase.core import events
from omnibase.core.events import Emitter, Event, EventBus
from omnibase.core.telemetry.attributes import capability_type, of_event
from omnibase.core.telemetry.spans import Runs

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b9c7c989f97918e1"
START = events.SandboxStart(
    script="x.py", script_sha256="0" * 64, platform="systrap", runtime_version="1",
    grants=("FILE_READ:/a",), quotas={"pids": 3}, prepare_seconds=2.0, boot_seconds=0.5,
)  # fmt: skip
DECIDED = events.PolicyDecided(
    requested=("FILE_READ:/a",), granted=("FILE_READ:/a",), trust="untrusted",
    lifecycle="active", environment="ci", policy_version=1, seconds=0.25,
)  # fmt: skip
DENIED = events.CapabilityDenied(capability="FILE_READ:/a", reason="no policy permits it")
ATTEMPT = events.SandboxViolation(
    capability="FILE_READ:/etc/x", operation="open", resource="/etc/x\n\x1b[2J", pid=7,
    process_name="evil", evidence="kernel",
)  # fmt: skip
REFUSED = events.RunRefused(code="policy_error", reason="broken", seconds=3.0)
RETRIED = events.RunRetried(attempt=1, reason="died", delay_seconds=0.1)


def exit_of(outcome: str = "ok", **fields: Any) -> events.SandboxExit:
    usual = {"exit_code": 0, "script_seconds": 1.0, "teardown_seconds": 0.25}
    return events.SandboxExit(outcome=outcome, wall_seconds=1.5, **(usual | fields))


class Scene:
    """An emitter whose events become spans at once."""

    def __init__(self, tracer: trace.Tracer | None = None, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.runs = Runs(tracer or self.provider.get_tracer("omnibase"), **options)
        self.bus = EventBus()
        self.bus.subscribe(self.runs.take)

    def emitter(self, **options: Any) -> Emitter:
        return Emitter(self.bus, subject="x.py", **options)

    def tell(self, *payloads: events.Payload, **options: Any) -> Emitter:
        emitter = self.emitter(**options)
        for payload in payloads:
            emitter.emit(payload)
        assert self.bus.failures == ()
        return emitter

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None and span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_run_has_its_parts_as_children() -> None:
    scene = Scene()
    emitter = scene.tell(DECIDED, START, ATTEMPT, componentid="c", policydigest="d")
    time.sleep(0.03)
    emitter.emit(exit_of(teardown_seconds=0.01))
    spans = scene.spans
    assert list(spans) == [
        "omnibase.policy", "omnibase.boot", "omnibase.execution", "omnibase.teardown",
        "omnibase.run",
    ]  # fmt: skip
    run = spans.pop("omnibase.run")
    assert run.context is not None
    _, traceid, spanid, _ = emitter.traceparent.split("-")
    assert (f"{run.context.trace_id:032x}", f"{run.context.span_id:016x}") == (traceid, spanid)
    assert run.parent is None
    for child in spans.values():
        assert child.parent is not None and child.context is not None
        assert child.parent.span_id == run.context.span_id
        assert child.context.trace_id == run.context.trace_id
        assert child.context.span_id != run.context.span_id
    assert seconds(spans["omnibase.policy"]) == pytest.approx(0.25)
    assert seconds(spans["omnibase.boot"]) == pytest.approx(0.5)
    assert seconds(spans["omnibase.teardown"]) == pytest.approx(0.01)
    assert spans["omnibase.execution"].end_time == spans["omnibase.teardown"].start_time
    assert spans["omnibase.boot"].end_time == spans["omnibase.execution"].start_time
    assert 2.5 <= seconds(run) < 3.5
    assert run.attributes is not None
    expected = {
        "omnibase.run.id": emitter.runid, "omnibase.component.id": "c",
        "omnibase.policy.digest": "d", "container.id": emitter.runid,
        "container.runtime.name": "runsc", "process.exit.code": 0, "omnibase.outcome": "ok",
        "omnibase.grants": ("FILE_READ:/a",), "omnibase.quotas.pids": 3,
        "omnibase.sandboxed": True, "omnibase.sandbox.start": "cold",
    }  # fmt: skip
    assert expected.items() <= dict(run.attributes).items()
    assert "error.type" not in run.attributes
    assert run.status.status_code is trace.StatusCode.UNSET


def test_what_happens_while_it_runs_is_an_event_of_the_execution() -> None:
    scene = Scene()
    scene.tell(START, ATTEMPT, exit_of("violation", exit_code=1, violations=1))
    execution, run = scene.spans["omnibase.execution"], scene.spans["omnibase.run"]
    (event,) = execution.events
    assert event.name == "omnibase.SandboxViolation" and event.attributes is not None
    expected = {
        "omnibase.resource": "/etc/x\\n\\x1b[2J", "process.vpid": 7,
        "process.executable.name": "evil",
        "cloudevents.event_type": "dev.omnibase.sandbox.violation.v1",
    }  # fmt: skip
    assert expected.items() <= dict(event.attributes).items()
    for span in (execution, run):
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.status.description == "violation"
        assert span.attributes is not None and span.attributes["error.type"] == "violation"


def test_a_denied_run_is_a_span_that_failed() -> None:
    scene = Scene()
    decided = events.PolicyDecided(
        requested=("FILE_READ:/a",), denied=("FILE_READ:/a",), trust="untrusted",
        lifecycle="active", environment="ci", seconds=0.25,
    )  # fmt: skip
    scene.tell(decided, DENIED, REFUSED)
    assert list(scene.spans) == ["omnibase.policy", "omnibase.run"]
    run = scene.spans["omnibase.run"]
    assert [event.name for event in run.events] == [
        "omnibase.CapabilityDenied", "omnibase.RunRefused",
    ]  # fmt: skip
    assert run.status.description == "policy_error"
    assert run.attributes is not None and run.attributes["omnibase.outcome"] == "refused"
    assert seconds(run) == pytest.approx(3.0, abs=0.5)


def test_a_run_that_died_half_way_has_two_executions() -> None:
    scene = Scene()
    scene.tell(START, RETRIED, START, exit_of())
    names = [span.name for span in scene.exporter.get_finished_spans()]
    assert names.count("omnibase.execution") == names.count("omnibase.boot") == 2
    first = next(s for s in scene.exporter.get_finished_spans() if s.name == "omnibase.execution")
    assert first.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in scene.spans["omnibase.run"].events] == ["omnibase.RunRetried"]


def test_a_run_without_a_sandbox_has_no_boot() -> None:
    scene = Scene()
    start = events.UnsandboxedStart(
        script="x", script_sha256="0" * 64, python="/py", policies=("p",), prepare_seconds=1.0
    )
    scene.tell(start, exit_of(teardown_seconds=None, script_seconds=None))
    assert list(scene.spans) == ["omnibase.execution", "omnibase.run"]
    run = scene.spans["omnibase.run"]
    assert run.attributes is not None and run.attributes["omnibase.sandboxed"] is False
    assert seconds(run) >= 1.0


def test_the_callers_span_is_its_parent() -> None:
    scene = Scene()
    scene.tell(START, exit_of(), traceparent=f"00-{TRACE}-{SPAN}-01")
    run = scene.spans["omnibase.run"]
    assert run.parent is not None and run.context is not None
    assert f"{run.parent.span_id:016x}" == SPAN
    assert f"{run.context.trace_id:032x}" == TRACE


def test_a_caller_that_is_not_sampled_is_heeded() -> None:
    scene = Scene()
    scene.tell(START, exit_of(), traceparent=f"00-{TRACE}-{SPAN}-00")
    assert scene.spans == {}


def test_a_tracer_of_another_make_keeps_the_trace() -> None:
    made = TracerProvider(shutdown_on_exit=False, sampler=sampling.ALWAYS_ON)
    exporter = InMemorySpanExporter()
    made.add_span_processor(SimpleSpanProcessor(exporter))

    class Other:
        """Has nothing but what the API promises."""

        def start_span(self, *args: Any, **options: Any) -> trace.Span:
            return made.get_tracer("inner").start_span(*args, **options)

    scene = Scene(Other())  # type: ignore[arg-type]
    emitter = scene.tell(START, exit_of())
    run = next(span for span in exporter.get_finished_spans() if span.name == "omnibase.run")
    assert run.context is not None and run.parent is not None
    assert f"{run.context.trace_id:032x}" == emitter.traceparent.split("-")[1]
    assert f"{run.parent.span_id:016x}" == emitter.traceparent.split("-")[2]


def test_other_spans_of_the_application_have_ids_of_their_own() -> None:
    scene = Scene()
    emitter = scene.tell(START)
    with scene.provider.get_tracer("omnibase").start_as_current_span("other"):
        pass
    scene.runs.end_all()
    other, run = scene.spans["other"], scene.spans["omnibase.run"]
    assert other.context is not None and run.context is not None
    assert other.context.trace_id != run.context.trace_id
    assert f"{run.context.span_id:016x}" == emitter.traceparent.split("-")[2]
    assert Runs(scene.provider.get_tracer("omnibase"))._ids is scene.runs._ids


def test_an_installation_of_packages_is_a_span_of_its_own() -> None:
    scene = Scene()
    resolved = events.PackagesResolved(lock_digest="0" * 64, seconds=1.0)
    built = events.LayerBuilt(lock_digest="0" * 64, files=1, layer_bytes=2, seconds=4.0)
    emitter = scene.tell(resolved, built)
    scene.tell(START, exit_of(), traceparent=emitter.traceparent)
    install, run = scene.spans["omnibase.packages.install"], scene.spans["omnibase.run"]
    assert seconds(install) == pytest.approx(4.0, abs=0.5)
    assert install.context is not None and run.parent is not None
    assert run.parent.span_id == install.context.span_id


def test_a_run_that_never_ends_is_ended_with_the_sink() -> None:
    scene = Scene()
    scene.tell(START, ATTEMPT)
    scene.tell(DENIED)
    assert "omnibase.run" not in scene.spans
    scene.runs.end_all()
    runs = [span for span in scene.exporter.get_finished_spans() if span.name == "omnibase.run"]
    assert len(runs) == 2
    for run in runs:
        assert run.attributes is not None and run.attributes["omnibase.outcome"] == "unknown"


def test_open_runs_are_bounded() -> None:
    scene = Scene(max_open=2)
    emitters = [scene.tell(START) for _ in range(4)]
    assert len(scene.runs._open) == 2 and len(scene.exporter.get_finished_spans()) == 8
    for emitter in emitters:
        emitter.emit(exit_of())
    assert len(scene.runs._open) == 0 and len(scene.runs._ended) == 2
    # The two that were ended early have their end as a span of no length.
    names = [span.name for span in scene.exporter.get_finished_spans()]
    assert names.count("omnibase.run") == 4 and names.count("omnibase.SandboxExit") == 2


def test_waiting_events_are_bounded() -> None:
    scene = Scene()
    emitter = scene.tell(*[DENIED] * 400)
    emitter.emit(REFUSED)
    run = scene.spans["omnibase.run"]
    assert len(run.events) + run.dropped_events == 401


def test_what_comes_after_the_end_is_a_span_below_the_run() -> None:
    scene = Scene()
    emitter = scene.tell(START, exit_of())
    gap = events.MonitorGap(dropped=2, reason="full")
    late = Event(
        data=gap, source="urn:omnibase:sink:1", runid=emitter.runid, sequence=1,
        traceparent=emitter.traceparent,
    )  # fmt: skip
    scene.runs.take(late)
    scene.runs.take(Event(data=gap, source="urn:omnibase:sink:1", runid="other", sequence=2))
    first, second = scene.exporter.get_finished_spans()[-2:]
    assert first.name == second.name == "omnibase.MonitorGap"
    assert first.parent is not None and second.parent is None
    assert f"{first.parent.span_id:016x}" == emitter.traceparent.split("-")[2]
    assert first.attributes is not None and first.attributes["omnibase.dropped"] == 2


def test_a_clock_that_was_set_back_does_not_turn_the_tree_over() -> None:
    scene = Scene()
    scene.tell(START, exit_of(teardown_seconds=100.0))
    execution, teardown = scene.spans["omnibase.execution"], scene.spans["omnibase.teardown"]
    assert execution.start_time == execution.end_time == teardown.start_time


def test_the_start_of_a_start_without_times() -> None:
    scene = Scene()
    bare = events.SandboxStart(
        script="x.py", script_sha256="0" * 64, platform="systrap", runtime_version="1"
    )
    scene.tell(bare, exit_of())
    assert "omnibase.boot" not in scene.spans and "omnibase.run" in scene.spans


class TestAttributes:
    def test_connections_are_named_as_the_conventions_say(self) -> None:
        opened = events.EgressOpened(
            connection=1, target="[2001:db8::1]:443", address="2001:db8::1", capability="c"
        )
        found = of_event(Event(data=opened, source="x", runid="r", sequence=1))
        assert found["server.address"] == "2001:db8::1" and found["server.port"] == 443
        assert found["network.peer.address"] == "2001:db8::1" and "omnibase.target" not in found

    def test_a_target_without_a_port(self) -> None:
        failed = events.EgressFailed(target="nowhere", capability="c", reason="r")
        found = of_event(Event(data=failed, source="x", runid="r", sequence=1))
        assert found["server.address"] == "nowhere" and "server.port" not in found

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("FILE_READ:/x", "FILE_READ"), (None, "none"), ("", "none"), ("x", "none"),
            ("A" * 50 + ":", "none"), ("\u00c9:", "none"),
        ],
    )  # fmt: skip
    def test_types_of_capabilities_are_few(self, text: str | None, word: str) -> None:
        assert capability_type(text) == word
