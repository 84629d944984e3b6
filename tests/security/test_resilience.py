"""A runtime that fails, on a real one that is made to fail."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import backend as backends
from omnibase.asked import Authority, Options
from omnibase.call import Call
from omnibase.core import events
from omnibase.core.audit import AuditLog
from omnibase.core.resilience import Guard, RetryPolicy
from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.resilient import ResilientRunner
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.security.capabilities import CapabilitySet
from tests.helpers import faults
from tests.helpers.audit import check

# Cold: what breaks is a sandbox that is started for a run. For those of a pool: test_pool.py.
pytestmark = [pytest.mark.sandbox, pytest.mark.cold, pytest.mark.threat("T-ORCH-10")]

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


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_sandbox_that_dies_half_way(tmp_path: Path, idempotent: bool) -> None:
    """It is another try if that does no harm, and one run on record either way."""
    log, killed = tmp_path / "log", []
    sink, bus = events.CollectingSink(), omnibase.EventBus()
    bus.subscribe(sink)
    bus.subscribe(AuditLog(log))

    def kill_once(stream: str, chunk: bytes) -> None:
        if not killed:
            killed.append(sink.events[-1].runid)
            assert faults.kill("sentry")(killed[0])

    options = Options(bus=bus, on_output=kill_once)
    call = Call("job.py", faults.SCRIPT, CapabilitySet(), options, Authority(idempotent=idempotent))
    with contextlib.closing(Cancel()) as cancel:
        if idempotent:
            assert call.execute(cancel).stdout.decode() == faults.OUTPUT
        else:
            with pytest.raises(omnibase.SandboxError, match="died before") as caught:
                call.execute(cancel)
            assert caught.value.result is not None
            assert caught.value.result.stdout.startswith(b"line 0\n")
    bus.close()
    names = [event.name for event in sink.events]
    if idempotent:
        assert names == ["SandboxStart", "RunRetried", "SandboxStart", "SandboxExit"]
    else:
        assert names == ["SandboxStart", "SandboxExit"]
    assert {event.runid for event in sink.events} == set(killed)
    end = sink.events[-1].data
    assert isinstance(end, events.SandboxExit)
    assert end.outcome == ("ok" if idempotent else "aborted")
    assert check(log).unended == ()


@pytest.mark.parametrize(
    "kind",
    [
        omnibase.ConfigurationError,
        omnibase.CapabilityError,
        omnibase.SandboxError,
        omnibase.RegistryError,
    ],
)
def test_an_error_of_ours_comes_through_as_it_is(kind: type[omnibase.OmniBaseError]) -> None:
    """From the caller's function, through the run's thread and back: the same, with its cause."""
    cause = LookupError("inner")
    error = kind("outer", hint="mend it", details={"a": 1})

    def fails(stream: str, chunk: bytes) -> None:
        raise error from cause

    with pytest.raises(kind) as caught:
        run("print('x')", on_output=fails)
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert caught.value.details == {"a": 1}
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "fails"
    assert run.names == ["SandboxStart", "SandboxExit"]  # type: ignore[attr-defined]


def test_an_exception_of_the_script_is_data() -> None:
    source = (
        "try:\n    {}['k']\nexcept KeyError as inner:\n    raise ValueError('outer') from inner\n"
    )
    result, _ = run(source)
    assert result.exit_code == 1
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ValueError", "outer")
    assert "KeyError: 'k'" in result.error.traceback
    assert "direct cause" in result.error.traceback


def test_a_deadline_passes_in_the_queue(switch: Switch) -> None:
    """One place: who waits longer than its run may take never starts, and hears why."""
    runner = backends.backend().runner
    assert isinstance(runner, ResilientRunner)
    object.__setattr__(runner, "admission", Admission(runs=1, memory_bytes=1 << 30))
    up = threading.Event()
    first = threading.Thread(
        target=lambda: omnibase.run(
            b"import time; print('up', flush=True); time.sleep(5)",
            on_output=lambda *_: up.set(),
        )
    )
    first.start()
    assert up.wait(30)
    began = time.monotonic()
    with pytest.raises(omnibase.SandboxTimeout, match="no place for the run within 1 s") as caught:
        run("print()", context=BRIEF)
    assert time.monotonic() - began < 4.5
    assert caught.value.details["queued"] is True
    assert run.names == ["RunRefused"]  # type: ignore[attr-defined]
    first.join(30)
    assert run("print('now')", context=BRIEF)[0].stdout == b"now\n"
