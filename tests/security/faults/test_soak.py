"""Many runs in a row, and several at a time for long: nothing grows, nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import faults, soak

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-10", "T-ORCH-11")]

_PROGRAM = Path(soak.__file__)
# What is loaded and cached in time, and what each run may be thought to leak.
_SLACK_BYTES, _EACH_BYTES = 6 << 20, 2 << 10


def _soak(log: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    file = tmp_path / "small.txt"
    file.write_text("small")
    done = subprocess.run(
        [sys.executable, str(_PROGRAM), "--file", str(file), "--seed", faults.SEED, *options],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMNIBASE_AUDIT": str(log)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    samples = found["rss_samples"]
    found["rss_samples"] = samples[:: max(1, len(samples) // 20)]
    print(found)
    assert found["wrong"] == []
    assert found["same"], (found["before"], found["after"])
    grown = found["rss_after"] - found["rss_before"]
    assert grown < _SLACK_BYTES + _EACH_BYTES * found["runs"], found["rss_samples"]
    return found


@pytest.mark.timeout(7200)
def test_many_in_a_row(state: Path, log: Path, tmp_path: Path) -> None:
    runs = faults.often(20, 2000)
    kinds = "fine,fails,reads,writes,violates"
    found = _soak(log, tmp_path, "--runs", str(runs), "--kinds", kinds)
    assert found["runs"] == runs
    assert len(faults.settled(log, state)) >= runs


@pytest.mark.timeout(7200)
def test_four_at_a_time_for_long(state: Path, log: Path, tmp_path: Path) -> None:
    seconds = faults.often(6, 600)
    found = _soak(log, tmp_path, "--runs", "1000000", "--seconds", str(seconds), "--at-once", "4")
    assert found["runs"] >= seconds / 4
    assert len(faults.settled(log, state)) >= found["runs"]


@pytest.mark.timeout(7200)
def test_many_in_a_pool(state: Path, log: Path, tmp_path: Path) -> None:
    runs = faults.often(20, 500)
    kinds = "fine,fails,reads,writes,violates"
    found = _soak(log, tmp_path, "--runs", str(runs), "--kinds", kinds, "--pool", "2")
    assert (found["runs"], found["lost"]) == (runs, 0)
    assert found["warm"] + sum(found["cold"].values()) == runs
    assert found["warm"] >= 0.9 * runs  # none may be on its way yet as the next one comes
    assert len(faults.settled(log, state)) >= runs
