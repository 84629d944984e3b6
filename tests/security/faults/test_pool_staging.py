"""Kill -9 while what a warm run is granted is being mounted: at each step, deterministically."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase.core.audit import AuditLog
from omnibase.core.sandbox import _sys
from omnibase.core.sandbox.pool_member import MemberState
from tests.helpers import faults
from tests.helpers.cli import heed_signals

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-10", "T-ORCH-11")]

_READY_SECONDS = 60
_STEPS = ("open_tree_clone", "mount_setattr", "move_mount", "setns")
_MOST_STEPS = 40
_SCRIPT = """
import sys
for path in sys.argv[1:]: print(open(path).read())
"""
_EMBEDDED = f"""
import sys, threading, omnibase
from omnibase.core.sandbox import _sys
left = [int(sys.argv[1])]
def stopping(call):
    def stops(*arguments):
        if not left[0]:
            print("here", flush=True)
            threading.Event().wait()
        left[0] -= 1
        return call(*arguments)
    return stops
with omnibase.Pool(1) as pool:
    pool.wait_ready(1, {_READY_SECONDS})
    for name in {_STEPS}:
        setattr(_sys, name, stopping(getattr(_sys, name)))
    result = pool.run({_SCRIPT!r}, capabilities=sys.argv[2:4], args=sys.argv[4:])
    assert result.warm
    print(result.stdout.decode(), flush=True)
"""


@pytest.fixture
def granted(tmp_path: Path) -> tuple[list[str], list[str]]:
    """What a run is granted, and what it reads of that: ``one`` and ``two``."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "file").write_text("one")
    (tree / "file").write_text("two")
    for path in (tmp_path, tree):
        path.chmod(0o755)
    return (
        [f"FILE_READ:{tmp_path}/file", f"FILE_WRITE:{tree}/**"],
        [f"{tmp_path}/file", f"{tree}/file"],
    )


def _some(what: str) -> list[int]:
    """Returns at which steps of a run something happens; the last of all is past its end."""
    dice = faults.dice(what)
    return list(range(_MOST_STEPS)) if faults.FULL else sorted(dice.sample(range(12), 3))


def test_the_process_that_mounts(
    state: Path, log: Path, granted: tuple[list[str], list[str]]
) -> None:
    tokens, paths = granted
    faults.Outcome(log, b"print(1)").assert_right("1\n")  # nothing of what follows may get as far
    struck = 0
    for step in _some("staging process"):
        with subprocess.Popen(
            [sys.executable, "-c", _EMBEDDED, str(step), *tokens, *paths], stdout=subprocess.PIPE,
            preexec_fn=heed_signals,  # noqa: PLW1509
            env={**os.environ, "OMNIBASE_AUDIT": str(log)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            line = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        struck += line == b"here\n"
        assert line in (b"here\n", b"one\n")
        faults.settled(log, state)
        assert str(state) not in Path("/proc/self/mountinfo").read_text()
        if line == b"one\n":
            break
    assert struck > 0
    assert not faults.FULL or struck < _MOST_STEPS


@pytest.mark.parametrize("part", ["sentry", "gofer", "runsc"])
def test_the_sandbox_that_it_is_mounted_for(
    state: Path,
    log: Path,
    granted: tuple[list[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    """Nothing of the run has begun: it is done in another one, whatever step it was at."""
    tokens, paths = granted
    left, struck = [-1], 0

    def striking(call: Callable[..., Any]) -> Callable[..., Any]:
        def strikes(*arguments: Any) -> Any:
            nonlocal struck
            left[0] -= 1
            if left[0] == 0:
                (member,) = [m for m in pool._runner._members if m.state is MemberState.CLAIMED]
                # This thread may be in the sandbox's namespaces, whose /proc is another.
                assert host.submit(faults.kill(part), member.directory.run_id).result()
                assert member._gone.wait(_READY_SECONDS)
                struck += 1
            return call(*arguments)

        return strikes

    for name in _STEPS:
        monkeypatch.setattr(_sys, name, striking(getattr(_sys, name)))
    with (
        ThreadPoolExecutor(1) as host,
        contextlib.closing(omnibase.EventBus()) as bus,
        omnibase.Pool(1, bus=bus) as pool,
    ):
        host.submit(int).result()  # its thread is here
        bus.subscribe(AuditLog(log, fsync="never"))
        for step in _some(f"staging {part}"):
            assert pool.wait_ready(1, _READY_SECONDS), pool.stats()
            before, left[0] = struck, step + 1
            result = pool.run(_SCRIPT, capabilities=tokens, args=paths)
            assert (result.exit_code, result.stdout) == (0, b"one\ntwo\n"), result
            assert pool.stats().lost == struck
            if struck == before:
                break
        assert pool.wait_ready(1, _READY_SECONDS), pool.stats()
        left[0] = -1
        assert pool.run(_SCRIPT, capabilities=tokens, args=paths).warm
    assert 0 < struck < _MOST_STEPS
    assert os.listdir(state / "runs") == []
    faults.settled(log, state)
    assert str(state) not in Path("/proc/self/mountinfo").read_text()
