"""A ``runsc`` that hangs, fails, lies or goes away."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import backend as backends
from omnibase.core.sandbox import lifecycle
from omnibase.core.sandbox.resilient import ResilientRunner
from tests.helpers import faults

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-10")]

_HELLO = b"print('hello')"


class Runtime:
    """A wrapper around the real one; what it does with ``run`` is a file's content."""

    def __init__(self, directory: Path, real: str) -> None:
        self.path = directory / "runsc"
        self._act = directory / "act"
        self.path.write_text(
            f'#!/bin/sh\ncase " $* " in *" run "*) . {self._act} ;; esac\nexec {real} "$@"\n'
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.does("")

    def does(self, act: str) -> None:
        self._act.write_text(act + "\n")


@pytest.fixture
def runtime(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path, backends.backend().gvisor.runtime.path)
    monkeypatch.setenv("RUNSC", str(runtime.path))
    yield runtime
    backends._cache.clear()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("echo no such thing >&2; exit 128", "no such thing"),
        ("exit 0", "runsc exited 0"),
        ("head -c 100000 /dev/urandom; exit 3", "did not start"),
        ("head -c 100000 /dev/zero >&2; exit 3", "did not start"),
        ("exec /nonexistent", "did not start"),
    ],
)
def test_one_that_fails(runtime: Runtime, state: Path, log: Path, act: str, says: str) -> None:
    runtime.does(act)
    outcome = faults.Outcome(log, _HELLO)
    error = outcome.assert_typed(omnibase.SandboxStartError)
    assert says in error.message
    assert error.message.isprintable()
    assert outcome.names() == ["RunRetried", "RunRetried", "RunRefused"]
    runtime.does("")
    faults.Outcome(log, _HELLO).assert_right("hello\n")
    faults.settled(log, state)


def test_one_that_hangs_costs_no_more_than_the_run_may_take(
    runtime: Runtime, state: Path, log: Path
) -> None:
    runtime.does("exec sleep 600")
    began = time.monotonic()
    outcome = faults.Outcome(log, _HELLO, context=omnibase.ExecutionContext(wall_seconds=1))
    assert time.monotonic() - began < 20
    error = outcome.assert_typed(omnibase.SandboxTimeout)
    assert error.result is None
    assert outcome.names() == ["RunRefused"]  # nothing of it was started, and that is on record
    runtime.does("")
    faults.Outcome(log, _HELLO).assert_right("hello\n")
    faults.settled(log, state)


def test_one_that_hangs_is_given_up_before_a_long_run_would_be(
    runtime: Runtime, state: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "START_SECONDS", 0.3)
    runtime.does("exec sleep 600")
    outcome = faults.Outcome(log, _HELLO, context=omnibase.ExecutionContext(wall_seconds=60))
    assert "no sign of life" in outcome.assert_typed(omnibase.SandboxStartError).message
    assert outcome.names() == ["RunRetried", "RunRetried", "RunRefused"]
    faults.settled(log, state)


def test_one_that_is_missing_half_way(
    runtime: Runtime, state: Path, log: Path, tmp_path: Path
) -> None:
    """It is there when it is looked for, gone when it is started, and comes back."""
    faults.Outcome(log, _HELLO).assert_right("hello\n")
    away = runtime.path.rename(tmp_path / "away")
    error = faults.Outcome(log, _HELLO).assert_typed(omnibase.SandboxStartError)
    assert "did not start" in error.message
    faults.Outcome(log, _HELLO).assert_typed(omnibase.SandboxStartError)
    error = faults.Outcome(log, _HELLO).assert_typed(omnibase.CircuitOpenError)
    assert isinstance(error.__cause__, omnibase.SandboxStartError)
    away.rename(runtime.path)
    made = backends.backend().runner
    assert isinstance(made, ResilientRunner)
    made.guard._breaker = None  # its time passes in another test
    faults.Outcome(log, _HELLO).assert_right("hello\n")
    faults.settled(log, state)


def test_one_that_goes_while_it_runs(
    runtime: Runtime, state: Path, log: Path, tmp_path: Path
) -> None:
    """It is asked nothing more once it runs."""

    def remove(stream: str, chunk: bytes) -> None:
        if runtime.path.exists():
            runtime.path.unlink()

    faults.Outcome(log, on_output=remove).assert_right()
    faults.settled(log, state)


@pytest.mark.parametrize("part", ["sentry", "gofer", "runsc"])
def test_a_part_that_stops_answering(state: Path, log: Path, part: str) -> None:
    """Stopped, it neither ends nor goes on: the deadline does not depend on it."""
    context = omnibase.ExecutionContext(wall_seconds=2)
    stop = faults.kill(part, signal.SIGSTOP)
    began = time.monotonic()
    with faults.Fault(0.45, stop) as fault:
        outcome = faults.Outcome(log, b"import time\nwhile True: time.sleep(0.01)", context=context)
    assert fault.struck
    outcome.assert_typed(omnibase.SandboxTimeout)
    assert time.monotonic() - began < 20
    assert os.listdir(state / "runs") == []
    faults.settled(log, state)
