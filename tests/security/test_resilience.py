"""A runtime that fails, on a real one that is made to fail."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import backend as backends
from omnibase.core import events
from omnibase.core.resilience import Guard, RetryPolicy
from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.resilient import ResilientRunner

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-10")]

FAST = RetryPolicy(first_seconds=0.01, most_seconds=0.01, failures=4, recovery_seconds=1)
BRIEF = omnibase.ExecutionContext(wall_seconds=1)


class Switch:
    """A ``runsc`` that exits 128 as often as it is told."""

    def __init__(self, directory: Path, real: str) -> None:
        self._count = directory / "failures"
        self.path = directory / "runsc"
        self.path.write_text(
            "#!/bin/sh\n"
            f"left=$(cat {self._count})\n"
            'case " $* " in *" run "*)\n'
            f'  if [ "$left" -gt 0 ]; then echo $((left - 1)) > {self._count}; '
            "echo broken for a test >&2; exit 128; fi;;\n"
            "esac\n"
            f'exec {real} "$@"\n'
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.fail(0)

    def fail(self, times: int) -> None:
        self._count.write_text(str(times))


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    real = backends.backend().gvisor
    switch = Switch(tmp_path, real.runtime.path)
    monkeypatch.setenv("RUNSC", str(switch.path))
    made = backends.backend()
    assert isinstance(made.runner, ResilientRunner)
    object.__setattr__(made.runner, "guard", Guard("`runsc`", FAST))
    yield switch
    backends._cache.clear()


def run(source: str, **options: object) -> tuple[omnibase.RunResult, list[str]]:
    sink = events.CollectingSink()
    bus = omnibase.EventBus()
    with bus.subscribe(sink):
        try:
            result = omnibase.run(source.encode(), bus=bus, **options)  # type: ignore[arg-type]
        finally:
            run.names = [type(event.data).__name__ for event in sink.events]  # type: ignore[attr-defined]
    return result, run.names  # type: ignore[attr-defined]


def test_a_start_that_fails_twice_succeeds(switch: Switch) -> None:
    switch.fail(2)
    result, names = run("print('here')")
    assert result.stdout == b"here\n"
    assert names == ["RunRetried", "RunRetried", "SandboxStart", "SandboxExit"]


def test_a_broken_runtime_opens_the_circuit_and_recovers(switch: Switch) -> None:
    switch.fail(1000)
    with pytest.raises(omnibase.SandboxStartError, match="broken for a test"):
        run("print()")
    assert run.names == ["RunRetried", "RunRetried", "RunRefused"]  # type: ignore[attr-defined]
    with pytest.raises(omnibase.CircuitOpenError, match="broken for a test") as caught:
        run("print()")
    assert isinstance(caught.value.__cause__, omnibase.SandboxStartError)
    with pytest.raises(omnibase.CircuitOpenError):
        run("print()")
    assert run.names == ["RunRefused"]  # type: ignore[attr-defined]
    switch.fail(0)

    time.sleep(1.1)
    result, _ = run("print('back')")
    assert result.stdout == b"back\n"


@pytest.mark.parametrize(
    ("source", "options", "error"),
    [
        ("raise SystemExit(3)", {}, None),
        ("open('/etc/shadow')", {}, omnibase.SandboxViolationError),
        (
            "while True: pass",
            {"context": omnibase.ExecutionContext(wall_seconds=1)},
            omnibase.SandboxTimeout,
        ),
        ("x = bytearray(1 << 28)", {}, None),
    ],
)
def test_what_the_script_does_is_never_repeated(
    switch: Switch, source: str, options: dict[str, object], error: type[Exception] | None
) -> None:
    if error is None:
        try:
            result, names = run(source, **options)
            assert result.exit_code
        except omnibase.ResourceLimitExceeded:
            names = run.names  # type: ignore[attr-defined]
    else:
        with pytest.raises(error):
            run(source, **options)
        names = run.names  # type: ignore[attr-defined]
    assert names.count("SandboxStart") == 1
    assert "RunRetried" not in names


def test_draining_refuses_runs(switch: Switch) -> None:
    runner = backends.backend().runner
    assert isinstance(runner, ResilientRunner)
    object.__setattr__(runner, "admission", Admission(runs=1, memory_bytes=1 << 30))
    assert runner.admission.drain(1)
    with pytest.raises(omnibase.SandboxUnavailable, match="draining"):
        run("print()")
    assert run.names == ["RunRefused"]  # type: ignore[attr-defined]
    assert not any((Path(os.environ["OMNIBASE_STATE_DIR"]) / "runs").iterdir())
