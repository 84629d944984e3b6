"""Who watches is slow, or stops for a while: nothing is lost in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import omnibase
from omnibase.core.events import MonitorGap, SandboxExit
from omnibase.core.sandbox.monitor.server import TraceServer
from tests.helpers import faults
from tests.helpers.audit import events
from tests.helpers.cli import heed_signals

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-17")]

_EMBEDDED = """
import sys, omnibase
try:
    result = omnibase.run(
        open(sys.argv[1], "rb").read(),
        context=omnibase.ExecutionContext(wall_seconds=float(sys.argv[2])),
        on_output=lambda stream, chunk: print("up", flush=True),
    )
    print(result.exit_code, result.stdout.decode().count("line"), result.trace_dropped)
except omnibase.OmniBaseError as error:
    print(type(error).__name__, 0, 0)
"""
_BUSY = b"""
import os
print("line", flush=True)
for _ in range(30_000):
    try:
        os.stat("/nowhere")
        os.open("/nowhere", os.O_RDONLY)
    except OSError:
        pass
print("line")
"""


def _stopped(script: Path, log: Path, wall: float, seconds: float) -> list[str]:
    """Runs a script in a process that is stopped once the script is at work."""
    with subprocess.Popen(
        [sys.executable, "-c", _EMBEDDED, str(script), str(wall)], stdout=subprocess.PIPE,
        text=True, preexec_fn=heed_signals,  # noqa: PLW1509
        env={**os.environ, "OMNIBASE_AUDIT": str(log)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        lines = process.stdout.read().split("\n")
        assert process.wait(60) == 0
    return [line for line in lines if line not in ("", "up")]


def test_a_host_process_that_is_stopped_for_a_while(state: Path, log: Path, tmp_path: Path) -> None:
    script = tmp_path / "busy.py"
    script.write_bytes(_BUSY)
    (said,) = _stopped(script, log, 60, faults.often(2, 10))
    code, lines, dropped = said.split()
    told = [event.data for event in events(log)]
    gaps = [data for data in told if isinstance(data, MonitorGap)]
    if code == "SandboxViolationError":  # what was lost may have been an attempt
        assert gaps
    else:
        assert (code, lines) == ("0", "2")
        assert sum(gap.dropped for gap in gaps) == int(dropped)
    assert isinstance(told[-1], SandboxExit)
    faults.settled(log, state)


def test_a_host_process_that_is_stopped_past_the_deadline(
    state: Path, log: Path, tmp_path: Path
) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text("import time\nprint('line', flush=True)\ntime.sleep(60)\n")
    began = time.monotonic()
    assert _stopped(script, log, 2, 3) == ["SandboxTimeout 0 0"]
    assert time.monotonic() - began < 40  # and not 60
    (run,) = faults.settled(log, state).values()
    assert isinstance(run[-1].data, SandboxExit)
    assert run[-1].data.outcome == "timeout"


def test_a_reader_of_the_trace_that_is_slow(
    state: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = TraceServer._read

    def slowly(self: TraceServer, connection: object) -> bool:
        time.sleep(0.05)
        return read(self, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(TraceServer, "_read", slowly)
    context = omnibase.ExecutionContext(wall_seconds=60)
    began = time.monotonic()
    outcome = faults.Outcome(log, _BUSY, context=context)
    assert time.monotonic() - began < 60
    result = outcome.result or (outcome.error and outcome.error.result)
    assert result is not None
    assert result.stdout == b"line\nline\n"
    gaps = [event.data for event in outcome.events if isinstance(event.data, MonitorGap)]
    assert sum(gap.dropped for gap in gaps) == result.trace_dropped
    # Nothing was tried that is not granted: what is reported can only be the gap.
    assert {violation.operation for violation in result.violations} <= {"trace"}
    assert bool(result.violations) == bool(result.trace_dropped)
    faults.settled(log, state)


def test_a_listener_that_is_slow_costs_the_run_no_deadline(state: Path, log: Path) -> None:
    slow = lambda stream, chunk: time.sleep(0.5)  # noqa: E731
    context = omnibase.ExecutionContext(wall_seconds=1)
    outcome = faults.Outcome(
        log, b"while True: print('x', flush=True)", context=context, on_output=slow
    )
    outcome.assert_typed(omnibase.SandboxTimeout)
    faults.settled(log, state)
