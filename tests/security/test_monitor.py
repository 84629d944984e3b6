"""The monitor: it cannot be silenced, flooded, fed or started without."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from omnibase import EventBus, ExecutionContext, JsonlSink, SandboxStartError
from omnibase import run as omnibase_run
from omnibase.core import events
from omnibase.core.events import Event
from omnibase.core.sandbox import _runsc, bundle, lifecycle
from omnibase.core.sandbox.monitor.ledger import MAX_DISTINCT
from tests.security.harness import SCRIPTS, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.audit, pytest.mark.threat("T-EXEC-17")]


@pytest.fixture(scope="module")
def points() -> dict[str, tuple[set[str], set[str]]]:
    """What the runtime can trace: point → (optional fields, context fields)."""
    listing = subprocess.run(
        [_runsc.find_runtime().path, "trace", "metadata"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    pattern = r"^Name: (\S+), optional fields: \[(.*?)\], context fields: \[(.*?)\]$"
    return {
        name: (set(optional.split("|")), set(context.split("|")))
        for name, optional, context in re.findall(pattern, listing, re.MULTILINE)
    }


@pytest.mark.threat("T-ORCH-07")
def test_every_point_and_field_exists(points: dict[str, tuple[set[str], set[str]]]) -> None:
    session = bundle.trace_config("/x")["trace_session"]

    assert [sink["name"] for sink in session["sinks"]] == ["remote"]
    names = [point["name"] for point in session["points"]]
    assert len(set(names)) == len(names)
    for point in session["points"]:
        assert point["name"] in points, point
        optional, context = points[point["name"]]
        assert set(point.get("optional_fields", [])) <= optional, point
        assert set(point.get("context_fields", [])) <= context, point


def _spoil_context(session: dict[str, Any]) -> None:
    session["points"][1]["context_fields"] = ["thread_group_id"]


def _spoil_point(session: dict[str, Any]) -> None:
    session["points"].append({"name": "syscall/no_such_call/exit"})


def _spoil_sink(session: dict[str, Any]) -> None:
    session["sinks"][0]["config"]["endpoint"] += ".elsewhere"


def _spoil_start(session: dict[str, Any]) -> None:
    del session["points"][0]


@pytest.mark.cold
@pytest.mark.threat("T-ORCH-07")
@pytest.mark.parametrize("spoil", [_spoil_context, _spoil_point, _spoil_sink, _spoil_start])
def test_without_a_trace_nothing_runs(
    sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    genuine = bundle.trace_config

    def spoilt(endpoint: str) -> dict[str, Any]:
        config = genuine(endpoint)
        spoil(config["trace_session"])
        return config

    monkeypatch.setattr(bundle, "trace_config", spoilt)
    monkeypatch.setattr(lifecycle, "START_SECONDS", 3)

    outcome = sandbox("one_denial", args=["1"])

    assert isinstance(outcome.error, SandboxStartError), outcome.error
    assert outcome.events == () or outcome.events[0].name != "SandboxStart"
    assert outcome.result is None or outcome.result.stdout == b""


@pytest.mark.parametrize("way", ["name", "cwd", "path"])
def test_a_name_that_is_no_text_hides_no_attempt(sandbox: SandboxFixture, way: str) -> None:
    outcome = sandbox("withheld", args=[way])

    assert outcome.stdout.startswith("denied\n")
    outcome.assert_raised()
    outcome.assert_violation(operation="open")
    if way == "name":
        outcome.assert_violation(operation="connect")


def test_great_arguments_hide_no_attempt(sandbox: SandboxFixture) -> None:
    outcome = sandbox("withheld", args=["argv"])

    assert outcome.stdout == "denied\n" + "not executed\n" * 4
    outcome.assert_raised()
    outcome.assert_violation("EXTERNAL_COMMAND:tool", operation="execve")
    executions = [v for v in outcome.violations if v.operation == "execve"]
    assert sum(violation.count for violation in executions) >= 3


def test_what_is_missing_behind_a_descriptor_is_no_secret(sandbox: SandboxFixture) -> None:
    """Below `/proc` and `/dev` a missing file is the guest's own, but not behind its links."""
    outcome = sandbox.source(b"""
import os
root, own = os.open("/", os.O_PATH), os.open("/tmp", os.O_RDONLY)
os.dup2(root, 0)
assert (root, own) == (3, 4)
for path in ("/dev/fd/3/a/b", "/proc/self/fd/4/../a/c", "/dev/fd/../root/a/d", "/dev/stdin/a/e",
             "/dev/fd/4/../../proc/../a/f", "/dev/fd/77", "/proc/self/fd/78"):
    try:
        os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        continue
    raise SystemExit(path)
os.close(os.open("/dev/fd/4", os.O_RDONLY))
""")
    outcome.assert_raised()
    assert [violation.capability for violation in outcome.violations] == [
        "FILE_READ:/proc/self/fd/3/a/b",
        "FILE_READ:/proc/self/fd/4/a/c",
        "FILE_READ:/a/d",
        "FILE_READ:/proc/self/fd/0/a/e",
        "FILE_READ:/proc/self/fd/4/a/f",
    ]
    assert outcome.finished.exit_code == 0


def test_a_tight_loop_is_one_violation_with_a_count(sandbox: SandboxFixture) -> None:
    outcome = sandbox("flood", args=["200000", "same"], wall_seconds=120.0)

    assert outcome.stdout == "done\n"
    violation = outcome.assert_violation("FILE_READ:/etc/passwd")
    assert violation.count + outcome.finished.trace_dropped >= 200_000
    assert violation.count > 1
    assert violation.last_seen >= violation.first_seen
    # At the first, and once more at the end with the count.
    told = [v for v in outcome.reported(events.SandboxViolation) if v.operation == "open"]
    assert [told[0].count, told[-1].count] == [1, violation.count]
    assert len(outcome.events) <= 8
    gaps = outcome.reported(events.MonitorGap)
    assert [gap.dropped for gap in gaps] == [outcome.finished.trace_dropped] * len(gaps)
    assert bool(gaps) == bool(outcome.finished.trace_dropped)


def test_distinct_attempts_are_bounded(sandbox: SandboxFixture) -> None:
    outcome = sandbox("flood", args=["5000", "distinct"], wall_seconds=60.0)

    outcome.assert_raised()
    outcome.assert_violation("FILE_READ:/srv/0")
    assert len(outcome.violations) <= MAX_DISTINCT + 1
    assert len(outcome.events) <= MAX_DISTINCT + 8
    gaps = outcome.reported(events.MonitorGap)
    assert len(gaps) == 1
    assert gaps[0].dropped >= 5000 - MAX_DISTINCT - 1


def test_an_attempt_does_not_drown(sandbox: SandboxFixture) -> None:
    outcome = sandbox("drown", ["MEMORY:250MiB"], wall_seconds=60.0)

    assert int(outcome.stdout) > 0
    # Whatever the Sentry had to drop, the run is not a clean one.
    outcome.assert_raised()
    outcome.assert_violation("FILE_READ:/etc/passwd")


@pytest.mark.threat("T-ORCH-09")
def test_hostile_names_break_no_line(sandbox: SandboxFixture, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    bus = EventBus()
    bus.subscribe(JsonlSink(log))

    result = omnibase_run(
        (SCRIPTS / "hostile_names.py").read_bytes(),
        context=ExecutionContext(on_violation="record"),
        bus=bus,
    )
    bus.close()

    assert result.stdout == b"done\n"
    lines = log.read_bytes().split(b"\n")
    assert lines.pop() == b""
    told = [Event.from_json(line) for line in lines]
    assert [event.name for event in told if event.name != "SandboxViolation"] == [
        "SandboxStart",
        "SandboxExit",
    ]
    assert all(32 <= byte < 127 for line in lines for byte in line)
    assert len([v for v in result.violations if v.operation == "open"]) >= 18
    assert {v.operation for v in result.violations} >= {"open", "execve"}


@pytest.mark.threat("T-ORCH-09")
def test_hostile_names_are_bounded_in_the_error(sandbox: SandboxFixture) -> None:
    outcome = sandbox("hostile_names")

    error = outcome.assert_raised()
    assert len(error.message) < 2000
    assert len(error.hint or "") < 1000
    assert all(character.isprintable() for character in error.message)
    assert all(character.isprintable() for character in error.hint or "")


@pytest.mark.threat("T-EXEC-12")
def test_a_flood_leaves_the_deadline_in_force(sandbox: SandboxFixture) -> None:
    began = time.monotonic()
    outcome = sandbox("flood", args=["100000000", "missing"], wall_seconds=3.0)

    assert time.monotonic() - began < 20
    assert "time" in outcome.finished.limits
    outcome.assert_raised()
