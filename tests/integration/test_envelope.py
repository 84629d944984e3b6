"""What every event of a run carries, whatever becomes of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import omnibase
from omnibase import SandboxStartError
from omnibase.core.events import Event, RunRetried, SandboxExit, SandboxStart
from omnibase.core.events.tracing import parse
from omnibase.registries import open_registry
from tests.helpers.cli import omnibase as command
from tests.helpers.components import OneComponent
from tests.security.harness import Outcome, observed
from tests.security.test_resilience import Switch, switch  # noqa: F401

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b9c7c989f97918e1"
CALLER = f"00-{TRACE}-{SPAN}-01"
BRIEF = omnibase.ExecutionContext(wall_seconds=1)
READS = b"import sys\nprint(open(sys.argv[1]).read())"


def assert_one_run(events: Iterable[Event], last: str) -> tuple[str, str | None]:
    """Fails unless all is of one run and one span, in order; returns trace and parent."""
    events = tuple(events)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    (runid,) = {event.runid for event in events}
    assert {event.source for event in events} == {f"urn:omnibase:run:{runid}"}
    (traceparent,) = {event.traceparent for event in events}
    (parent,) = {event.parentspan for event in events}
    assert events[-1].name == last
    span = parse(traceparent)
    assert span is not None and span.spanid != parent
    return span.traceid, parent


def run(source: bytes = b"print(1)", **options: Any) -> Outcome:
    return observed(lambda bus: omnibase.run(source, bus=bus, **options))


class TestScripts:
    @pytest.mark.parametrize(
        ("outcome", "last"),
        [
            (run, "SandboxExit"),
            (lambda: run(b"open('/etc/passwd')\nopen('/etc/shadow')"), "SandboxExit"),
            (lambda: run(b"while True: pass", context=BRIEF), "SandboxExit"),
            (lambda: run(capabilities=["SECRET_ACCESS:ABSENT_HERE"]), "RunRefused"),
        ],
        ids=["plain", "violating", "killed", "denied"],
    )
    def test_each_run_has_a_trace_of_its_own(
        self, outcome: Callable[[], Outcome], last: str
    ) -> None:
        traces = {assert_one_run(outcome().events, last) for _ in range(2)}
        assert len(traces) == 2
        assert {parent for _, parent in traces} == {None}

    def test_a_span_around_it_is_its_parent(self) -> None:
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        with tracer.start_as_current_span("outer") as span:
            found = assert_one_run(run().events, "SandboxExit")
        context = span.get_span_context()
        assert found == (f"{context.trace_id:032x}", f"{context.span_id:016x}")

    def test_a_run_that_is_tried_again_stays_one(self, switch: Switch) -> None:  # noqa: F811
        switch.fail(1)
        events = run().events
        assert_one_run(events, "SandboxExit")
        assert [type(event.data) for event in events][:2] == [RunRetried, SandboxStart]
        assert isinstance(start := events[1].data, SandboxStart)
        # The try that failed, and the wait, were before this boot.
        assert start.prepare_seconds is not None and start.boot_seconds is not None
        switch.fail(1000)
        refused = run()
        assert isinstance(refused.error, SandboxStartError)
        assert_one_run(refused.events, "RunRefused")

    def test_times_add_up(self) -> None:
        start, end = (event.data for event in run(b"import time; time.sleep(0.3)").events)
        assert isinstance(start, SandboxStart) and isinstance(end, SandboxExit)
        assert start.prepare_seconds is not None and start.boot_seconds is not None
        assert end.script_seconds is not None and end.teardown_seconds is not None
        assert start.boot_seconds > 0.01
        assert 0.3 <= end.script_seconds < end.wall_seconds + end.teardown_seconds
        assert start.boot_seconds + end.script_seconds <= end.wall_seconds


class TestComponents:
    @pytest.fixture
    def report(self, tmp_path: Path) -> OneComponent:
        (tmp_path / "open.txt").write_text("content")
        return OneComponent(
            tmp_path / "registry",
            READS,
            requires=[f"FILE_READ:{tmp_path}/**"],
            policies=[f'permit FileRead when {{ resource.path like "{tmp_path}/*" }}'],
        )

    def test_they_carry_component_and_policy(self, report: OneComponent, tmp_path: Path) -> None:
        def outcome(**options: Any) -> Outcome:
            return observed(
                lambda bus: omnibase.run_component(
                    "report", registry=report.directory, bus=bus,
                    args=[f"{tmp_path}/open.txt"], **options,
                )
            )  # fmt: skip

        state = report.component.policy
        assert state is not None
        for found, last in (
            (outcome(), "SandboxExit"),
            (outcome(capabilities=["FILE_READ:/etc/hostname"]), "RunRefused"),
        ):
            assert_one_run(found.events, last)
            assert {event.componentid for event in found.events} == {str(report.uuid)}
            assert {event.policydigest for event in found.events} == {f"sha256:{state.sha256}"}
            assert found.events[0].name == "PolicyDecided"
            assert found.events[0].data.to_dict()["seconds"] > 0

    def test_a_policy_that_was_tampered_with(self, report: OneComponent) -> None:
        file = report.directory / "policies" / f"{report.uuid}.cedar.json"
        file.write_bytes(file.read_bytes().replace(b"permit", b"forbid"))
        found = observed(
            lambda bus: omnibase.run_component("report", registry=report.directory, bus=bus)
        )
        assert_one_run(found.events, "RunRefused")
        assert {event.componentid for event in found.events} == {str(report.uuid)}
        assert found.events[-1].data.to_dict()["seconds"] > 0

    def test_a_component_that_is_not_there(self, tmp_path: Path) -> None:
        open_registry(tmp_path / "registry").close()
        found = observed(
            lambda bus: omnibase.run_component("gone", registry=tmp_path / "registry", bus=bus)
        )
        assert_one_run(found.events, "RunRefused")


class TestCommandLine:
    @pytest.mark.parametrize(
        ("header", "found"), [(CALLER, (TRACE, SPAN)), ("00-nonsense", None), ("", None)]
    )
    def test_the_caller_is_named_by_the_environment(
        self, header: str, found: tuple[str, str] | None, tmp_path: Path
    ) -> None:
        script, log = tmp_path / "x.py", tmp_path / "events.jsonl"
        script.write_text("print(1)")
        said = command("sandbox", "run", script, "--events", log, TRACEPARENT=header)
        assert (said.code, said.err) == (0, "")
        events = [Event.from_json(line) for line in log.read_bytes().splitlines()]
        assert (assert_one_run(events, "SandboxExit") == found) is (found is not None)
