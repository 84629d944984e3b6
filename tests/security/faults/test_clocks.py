"""A wall clock that jumps: no deadline, no queue and no record depends on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import omnibase as package
from tests.helpers import faults
from tests.helpers.audit import events

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-10")]

# By days, both ways, at each reading; before anything else is imported.
_JUMPS = """
import datetime, itertools, json, sys, time
real, steps = time.time, itertools.cycle([0, 86_400, -86_400 * 30, 3600, -1, 10 ** 8, -10 ** 8])
jumping = lambda: real() + next(steps)
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(jumping(), tz)
datetime.datetime = Jumping
import omnibase
from omnibase import ExecutionContext
script = open(sys.argv[1], "rb").read()
told = []
def attempt(source, **quotas):
    began = time.monotonic()
    try:
        result = omnibase.run(source, context=ExecutionContext(**quotas))
        told.append([result.exit_code, result.stdout.decode(), time.monotonic() - began])
    except omnibase.OmniBaseError as error:
        told.append([type(error).__name__, "", time.monotonic() - began])
for _ in range(int(sys.argv[2])):
    attempt(script, wall_seconds=20)
attempt(b"while True: pass", wall_seconds=1)
attempt(b"open('/etc/shadow')")
print(json.dumps(told))
"""


def test_runs_under_a_clock_that_jumps(state: Path, log: Path, tmp_path: Path) -> None:
    script, times = tmp_path / "job.py", faults.often(3, 30)
    script.write_bytes(faults.SCRIPT)
    done = subprocess.run(
        [sys.executable, "-c", _JUMPS, str(script), str(times)],
        capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMNIBASE_AUDIT": str(log)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row[:2] for row in told[:times]] == [[0, faults.OUTPUT]] * times
    assert [row[0] for row in told[times:]] == ["SandboxTimeout", "SandboxViolationError"]
    assert 1 <= told[times][2] < 6
    moments = [event.time for event in events(log)]
    assert moments != sorted(moments)  # else no reading had jumped
    faults.settled(log, state)


def test_what_of_a_run_reads_the_wall_clock_is_known() -> None:
    """It tells when something happened, or how old a file is, and decides nothing else."""
    source = Path(package.__file__).parent
    readers = {
        str(path.relative_to(source))
        for place in ("core/sandbox", "core/resilience.py", "backend.py", "call.py")
        for path in [source / place, *(source / place).rglob("*.py")]
        if path.is_file()
        and re.search(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(", path.read_text())
    }
    assert readers == {
        "core/sandbox/commands/layer.py",  # how long a copy was not used
        "core/sandbox/databases/worker.py",  # how old a journal is
        "core/sandbox/monitor/server.py",  # when an attempt was seen
        "core/sandbox/state.py",  # how old a draft is that nobody finished
    }
