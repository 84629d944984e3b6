"""What a run ends with, as a table, and what it puts on the bus."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.events import CollectingSink, Emitter, EventBus
from omnibase.core.sandbox.databases.copying import DatabaseCopied
from omnibase.core.sandbox.monitor.reads import SecretReading
from omnibase.core.sandbox.monitor.violations import Violation
from omnibase.core.sandbox.record import Recorder, sandbox_start
from omnibase.core.sandbox.result import RunResult, Usage
from omnibase.core.sandbox.runner import Ended, RunRequest
from omnibase.core.sandbox.verdict import spec_limits, verdict
from omnibase.errors import (
    OmniBaseError,
    ResourceLimitExceeded,
    SandboxError,
    SandboxStartError,
    SandboxTimeout,
    SandboxViolationError,
)
from tests.helpers.specs import compiled

PASSWD = Violation(
    capability="FILE_READ:/etc/passwd", operation="open", resource="/etc/passwd", errno=13,
    pid=2, process_name="python3", first_seen=1.0, last_seen=1.0,
)  # fmt: skip
MOUNT = Violation(capability=None, operation="mount", resource="mount", errno=1)
CONTEXT = ExecutionContext()
REQUEST = RunRequest(spec=compiled(), script=b"print(1)")
LIMITS = spec_limits(REQUEST)
FAULT = SandboxStartError("the sandbox did not start")


def ended(cause: str = "exit", fault: SandboxError | None = None, **result: Any) -> Ended:
    values = {"run_id": "0" * 32, "exit_code": 0, **result}
    return Ended(result=RunResult(**values), cause=cause, fault=fault)


@pytest.mark.parametrize(
    ("end", "options", "kind"),
    [
        pytest.param(ended(), {}, None, id="ok"),
        pytest.param(ended(exit_code=3), {}, None, id="non-zero-is-a-result"),
        pytest.param(ended(fault=FAULT), {}, SandboxStartError, id="fault"),
        pytest.param(
            ended(fault=FAULT, violations=(PASSWD,)), {}, SandboxStartError, id="fault-first"
        ),
        pytest.param(ended("cancelled"), {}, SandboxError, id="cancelled"),
        pytest.param(
            ended("cancelled", violations=(PASSWD,)), {}, SandboxError, id="cancelled-first"
        ),
        pytest.param(ended(violations=(PASSWD,)), {}, SandboxViolationError, id="violation"),
        pytest.param(
            ended("violation", violations=(PASSWD,)), {"on_violation": "kill"},
            SandboxViolationError, id="killed",
        ),
        pytest.param(
            ended(violations=(PASSWD,)), {"on_violation": "record"}, None, id="recorded"
        ),
        pytest.param(
            ended("time", violations=(PASSWD,), limits=("time",)), {}, SandboxViolationError,
            id="violation-before-timeout",
        ),
        pytest.param(
            ended("time", violations=(PASSWD,), limits=("time",)), {"on_violation": "record"},
            SandboxTimeout, id="recorded-timeout",
        ),
        pytest.param(ended("time", limits=("time",)), {}, SandboxTimeout, id="timeout"),
        pytest.param(
            ended("memory", exit_code=137, limits=("memory",)), {}, "memory", id="out-of-memory"
        ),
        pytest.param(ended(limits=("memory",)), {}, None, id="a-child-out-of-memory"),
        pytest.param(
            ended(exit_code=1, limits=("memory",)), {}, "memory", id="a-child-out-of-memory-fails"
        ),
        pytest.param(ended("cpu", exit_code=137, limits=("cpu",)), {}, "cpu", id="cpu"),
        pytest.param(ended(limits=("pids",)), {}, None, id="pids-survived"),
        pytest.param(ended(exit_code=1, limits=("pids",)), {}, "pids", id="pids"),
        pytest.param(ended(limits=("disk",)), {}, None, id="disk-survived"),
        pytest.param(ended(exit_code=1, limits=("disk",)), {}, "disk", id="disk"),
        pytest.param(ended("output", limits=("output",), truncated=True), {}, "output", id="cut"),
        pytest.param(ended(limits=("output",), truncated=True), {}, "output", id="cut-late"),
        pytest.param(
            ended(limits=("output",), truncated=True), {"on_output_limit": "truncate"}, None,
            id="output-truncated",
        ),
        pytest.param(
            ended(exit_code=1, limits=("output", "pids")), {"on_output_limit": "truncate"}, "pids",
            id="the-next-limit-counts",
        ),
    ],
)  # fmt: skip
def test_verdicts(end: Ended, options: dict[str, Any], kind: object) -> None:
    error = verdict(end, ExecutionContext(**options), LIMITS)
    if kind is None:
        assert error is None
        return
    assert error is not None
    if isinstance(kind, str):
        assert isinstance(error, ResourceLimitExceeded)
        assert error.kind == kind
        assert error.details["limit"] == LIMITS[kind]  # type: ignore[index]
        assert error.hint is not None
        assert error.result is end.result
        assert f"its {kind} limit of" in error.message
    else:
        assert type(error) is kind
        if error is not FAULT:
            assert error.result is end.result  # type: ignore[attr-defined]


def test_a_violation_error_names_what_would_allow_it() -> None:
    error = verdict(ended(violations=(MOUNT, PASSWD, PASSWD, MOUNT, MOUNT)), CONTEXT, LIMITS)
    assert isinstance(error, SandboxViolationError)
    assert error.message == (
        "the script tried what it was not granted: `mount (mount)`, `FILE_READ:/etc/passwd`, "
        "`FILE_READ:/etc/passwd` and 2 more"
    )
    assert error.hint == "if it should be allowed, grant `FILE_READ:/etc/passwd`"
    assert len(error.violations) == len(error.details["violations"]) == 5


def test_without_a_capability_there_is_no_hint() -> None:
    error = verdict(ended(violations=(MOUNT,)), CONTEXT, LIMITS)
    assert error is not None
    assert error.hint is None


def test_long_capabilities_are_cut() -> None:
    long = Violation(
        capability="FILE_READ:/" + "x" * 9000, operation="open", resource="/", errno=2
    )  # fmt: skip
    error = verdict(ended(violations=(long,)), CONTEXT, LIMITS)
    assert isinstance(error, OmniBaseError)
    assert len(error.message) < 300
    assert error.hint is not None
    assert len(error.hint) < 300


def test_figures_are_plain() -> None:
    limits = spec_limits(
        RunRequest(spec=compiled(context=ExecutionContext(cpu_seconds=1.5)), script=b"")
    )
    error = verdict(ended("cpu", exit_code=137, limits=("cpu",)), CONTEXT, limits)
    assert error is not None
    assert error.message == "the run reached its cpu limit of 1.5 seconds"
    error = verdict(ended("time", limits=("time",)), CONTEXT, LIMITS)
    assert error is not None
    assert error.message == "the run took longer than 30 s"


class Recorded:
    """A recorder with a bus of its own."""

    def __init__(self, **options: Any) -> None:
        bus = EventBus()
        self.sink = CollectingSink()
        bus.subscribe(self.sink)
        enforcement = options.pop("enforcement", {})
        started = sandbox_start(REQUEST, "systrap", "release-1", enforcement)
        self.recorder = Recorder(Emitter(bus, subject="script.py"), REQUEST, started, **options)

    def after_the_start(self, end: Ended) -> list[events.Payload]:
        """Starts and ends a run; returns what came after its start."""
        self.recorder.on_started("id")
        self.recorder.ended(end)
        return self.data[1:]

    @property
    def data(self) -> list[events.Payload]:
        return [event.data for event in self.sink.events]


def test_the_start_is_recorded() -> None:
    recorded = Recorded()
    recorded.recorder.on_started("id")
    (start,) = recorded.data
    assert isinstance(start, events.SandboxStart)
    assert start.script == "script.py"
    assert start.script_sha256 == hashlib.sha256(b"print(1)").hexdigest()
    assert start.quotas["memory_bytes"] == 50_000_000
    assert (start.platform, start.runtime_version) == ("systrap", "release-1")


def test_output_reaches_the_caller_and_not_the_bus() -> None:
    seen = []
    recorded = Recorded(on_output=lambda stream, chunk: seen.append((stream, chunk)))
    recorded.recorder.on_output("stdout", b"x")
    Recorded().recorder.on_output("stdout", b"x")
    assert seen == [("stdout", b"x")]
    assert recorded.data == []


def test_violations_are_recorded_at_once_and_counted_at_the_end() -> None:
    recorded = Recorded()
    recorded.recorder.on_started("id")
    recorded.recorder.on_violation(PASSWD)
    recorded.recorder.on_violation(MOUNT)
    twice = replace(PASSWD, count=7, last_seen=2.0)
    recorded.recorder.ended(ended(violations=(twice, MOUNT)))
    _, first, second, total, end = recorded.data
    assert isinstance(first, events.SandboxViolation)
    assert (first.capability, first.count, first.errno_name) == (PASSWD.capability, 1, "EACCES")
    assert isinstance(second, events.SandboxViolation)
    assert second.capability is None
    assert isinstance(total, events.SandboxViolation)
    assert (total.capability, total.count) == (PASSWD.capability, 7)
    assert isinstance(end, events.SandboxExit)
    assert (end.outcome, end.violations) == ("violation", 8)


def test_readings_of_secrets_are_recorded() -> None:
    recorded = Recorded()
    recorded.recorder.on_started("id")
    reading = SecretReading(secret="TOKEN", operation="open", pid=2, process_name="python3")
    recorded.recorder.on_secret_read(reading)
    assert recorded.data[-1] == events.SecretRead(
        secret="TOKEN", operation="open", pid=2, process_name="python3"
    )


def test_copies_of_databases_are_recorded() -> None:
    recorded = Recorded()
    recorded.recorder.on_started("id")
    grant = "DATABASE_READ:sqlite:/data/app.db"
    recorded.recorder.on_staged(DatabaseCopied(capability=grant, path="/data/app.db", size=8192))
    assert recorded.data[-1] == events.DatabaseCopied(
        capability=grant, database="/data/app.db", size_bytes=8192
    )


def test_limits_and_gaps_are_recorded() -> None:
    memory, disk, gap, end = Recorded().after_the_start(
        ended("memory", exit_code=137, signal=9, limits=("memory", "disk"), trace_dropped=3)
    )
    assert memory == events.ResourceLimitExceeded(kind="memory", limit=50_000_000, unit="bytes")
    assert disk == events.ResourceLimitExceeded(kind="disk", limit=64 << 20, unit="bytes")
    assert isinstance(gap, events.MonitorGap)
    assert gap.dropped == 3
    assert isinstance(end, events.SandboxExit)
    assert (end.outcome, end.exit_code, end.signal) == ("limit", 137, 9)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (ended(), "ok"),
        (ended(exit_code=1), "failed"),
        (ended("time", exit_code=137), "timeout"),
        (ended("cpu", exit_code=137), "limit"),
        (ended("output", exit_code=137), "limit"),
        (ended("cancelled", exit_code=137, violations=(PASSWD,)), "cancelled"),
        (ended("time", violations=(PASSWD,)), "violation"),
        (ended(fault=FAULT), "aborted"),
    ],
)
def test_outcomes(end: Ended, outcome: str) -> None:
    (last,) = Recorded().after_the_start(end)
    assert isinstance(last, events.SandboxExit)
    assert last.outcome == outcome


def test_usage_is_recorded() -> None:
    usage = Usage(cpu_seconds=0.5, peak_memory_bytes=7, wall_seconds=1.5, output_bytes=9)
    (last,) = Recorded().after_the_start(ended(usage=usage))
    assert isinstance(last, events.SandboxExit)
    assert (last.cpu_seconds, last.peak_memory_bytes, last.wall_seconds, last.output_bytes) == (
        0.5, 7, 1.5, 9,
    )  # fmt: skip


def test_what_never_started_does_not_end() -> None:
    recorded = Recorded()
    recorded.recorder.ended(ended(fault=FAULT))
    recorded.recorder.abandoned(LookupError())
    assert recorded.data == []


@pytest.mark.parametrize(
    ("error", "outcome"), [(KeyboardInterrupt(), "cancelled"), (LookupError(), "aborted")]
)
def test_a_run_that_is_cut_short_ends_all_the_same(error: BaseException, outcome: str) -> None:
    recorded = Recorded()
    recorded.recorder.on_started("id")
    recorded.recorder.abandoned(error)
    _, last = recorded.data
    assert isinstance(last, events.SandboxExit)
    assert last.outcome == outcome


def test_what_the_script_chose_cannot_steer_a_terminal() -> None:
    hostile = Violation(
        capability="FILE_READ:/x\x1b[2J\nerror: fine", operation="open", resource="/x", errno=2
    )  # fmt: skip
    error = verdict(ended(violations=(hostile,)), CONTEXT, LIMITS)
    assert error is not None
    assert error.message.isprintable()
    assert error.hint is None or error.hint.isprintable()


def test_a_result_as_json() -> None:
    result = RunResult(
        run_id="r", exit_code=1, stdout=b"\xff", violations=(MOUNT,), limits=("pids",),
        usage=Usage(cpu_seconds=0.12345678, wall_seconds=1, scratch_bytes=7),
    )  # fmt: skip
    assert not result.ok
    data = json.loads(json.dumps(result.to_dict()))
    assert data["stdout"] == "�"
    assert data["usage"]["cpu_seconds"] == 0.123457
    assert data["usage"]["scratch_bytes"] == 7
    assert data["violations"] == [MOUNT.to_dict()]
    assert (data["limits"], data["denied"], data["truncated"]) == (["pids"], [], False)
