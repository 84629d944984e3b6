"""SIGTERM: what runs may end well, what waits is refused, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnibase.core.events import SandboxExit
from tests.helpers import faults
from tests.helpers.cli import heed_signals, omnibase, started

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-11")]

# As docs/resilience.md shows it.
_SERVICE = """
import json, signal, sys, threading
import omnibase

def on_term(*_):
    threading.Thread(target=omnibase.drain, args=(30,)).start()

signal.signal(signal.SIGTERM, on_term)
told = {}

def serve(name):
    try:
        said = lambda *_: print("up", flush=True)
        told[name] = omnibase.run(sys.argv[1], on_output=said).stdout.decode()
    except omnibase.OmniBaseError as error:
        told[name] = type(error).__name__

threads = [threading.Thread(target=serve, args=(name,)) for name in ("first", "second")]
threads[0].start()
while not told and threads[0].is_alive() and len(threads) == 2:
    if sys.stdin.readline():
        break
threads[1].start()
for thread in threads:
    thread.join()
print(json.dumps(told))
"""
_SLOW = "import time\nprint('line', flush=True)\ntime.sleep(3)\nprint('done')\n"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(_SLOW)
    return path


def test_a_service_that_drains(state: Path, log: Path, slow: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVICE, str(slow)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, preexec_fn=heed_signals,  # noqa: PLW1509
        env={**os.environ, "OMNIBASE_AUDIT": str(log), "OMNIBASE_MAX_RUNS": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "up\n"
        process.stdin.write("next\n")
        process.stdin.flush()
        time.sleep(0.8)  # the second one is in the queue
        process.send_signal(signal.SIGTERM)
        lines = process.stdout.read().splitlines()
        assert process.wait(60) == 0
    assert json.loads(lines[-1]) == {"first": "line\ndone\n", "second": "SandboxUnavailable"}
    told = faults.settled(log, state)
    assert sorted(run[-1].name for run in told.values()) == ["RunRefused", "SandboxExit"]


def _end(log: Path, state: Path) -> SandboxExit:
    (run,) = faults.settled(log, state).values()
    end = run[-1].data
    assert isinstance(end, SandboxExit)
    return end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_command_that_is_told_to_end_says_so(
    state: Path, log: Path, slow: Path, number: signal.Signals
) -> None:
    with started("sandbox", "run", slow, "--audit", log) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"line\n"
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert _end(log, state).outcome == "cancelled"


def test_a_command_with_some_grace_comes_to_its_own_end(state: Path, log: Path, slow: Path) -> None:
    environment = {**os.environ, "OMNIBASE_GRACE": "20"}
    with started("sandbox", "run", slow, "--audit", log, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"line\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"done\n"
        assert process.wait(30) == 0
    assert _end(log, state).outcome == "ok"


@pytest.mark.parametrize("signals", [1, 2])
def test_the_grace_ends(state: Path, log: Path, tmp_path: Path, signals: int) -> None:
    script = tmp_path / "forever.py"
    script.write_text("import time\nprint('line', flush=True)\ntime.sleep(60)\n")
    environment = {**os.environ, "OMNIBASE_GRACE": "1" if signals == 1 else "50"}
    with started("sandbox", "run", script, "--audit", log, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"line\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if signals == 2:
            time.sleep(1)  # two signals at nearly one time are one
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert signals == 2 or time.monotonic() - began >= 1
        assert time.monotonic() - began < 40  # and not 50, or 60
    assert _end(log, state).outcome == "cancelled"


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "99999999", "²"])
def test_a_grace_that_is_none(text: str) -> None:
    said = omnibase("sandbox", "run", "-", OMNIBASE_GRACE=text, RUNSC="/nonexistent")
    assert said.code == 2
    assert "OMNIBASE_GRACE" in said.err and "hint" in said.err
