"""A caller killed in the middle of a run: the sandbox goes with it, and the next run tidies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnibase.core.audit.open_runs import SPARE
from omnibase.core.events import RunRecovered, SandboxExit
from tests.helpers.audit import check, events
from tests.helpers.cli import heed_signals
from tests.security import leaks

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-11")]

_RUN = """
import sys, omnibase
omnibase.run(sys.argv[1], on_output=lambda stream, chunk: print("started", flush=True))
"""
_FOREVER = "import time\nprint('started')\ntime.sleep(20)\n"


def _start(script: str, log: Path | str = "off") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, script], stdout=subprocess.PIPE, text=True,
        preexec_fn=heed_signals,  # noqa: PLW1509 - it starts no threads
        env={**os.environ, "OMNIBASE_AUDIT": str(log)},
    )  # fmt: skip


def test_a_killed_caller_leaves_nothing_for_long(state_dir: Path, tmp_path: Path) -> None:
    runs, log = state_dir / "runs", tmp_path / "log"
    with _start(_FOREVER, log) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "started\n"
        (run_id,) = os.listdir(runs)
        assert leaks.processes_of(state_dir) != []
        caller.send_signal(signal.SIGKILL)
        caller.wait(timeout=10)
        killed = caller.pid

    # By itself: the guest's first process sees its lifeline end.
    deadline = time.monotonic() + 10
    while leaks.processes_of(state_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leaks.processes_of(state_dir) == []
    assert os.listdir(runs) == [run_id]
    assert json.loads((runs / run_id / "cgroups.json").read_text()) != []

    assert [event.name for event in events(log)] == ["SandboxStart"]
    assert set(os.listdir(state_dir / "open")) - {SPARE} == {run_id}

    # The next run of anybody finds what is left, even one that keeps no log.
    with _start("print('started')\nprint('again')\n") as caller:
        assert caller.wait(timeout=60) == 0
    assert os.listdir(runs) == []
    assert leaks.cgroups_of({run_id}) == []
    start, mark, end = events(log)
    assert isinstance(mark.data, RunRecovered)
    assert isinstance(end.data, SandboxExit)
    assert (mark.data.pid, end.data.outcome) == (killed, "aborted")
    assert {each.runid for each in (start, mark, end)} == {run_id}
    assert [each.sequence for each in (start, mark, end)] == [1, 2, 3]
    assert set(os.listdir(state_dir / "open")) <= {SPARE}
    assert not check(log).findings


def test_a_caller_told_to_end_tidies_up(state_dir: Path) -> None:
    with _start(_FOREVER) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "started\n"
        caller.send_signal(signal.SIGINT)
        assert caller.wait(timeout=20) != 0

    assert os.listdir(state_dir / "runs") == []
    assert leaks.processes_of(state_dir) == []
