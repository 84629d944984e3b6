"""A disk that is full: that of the state directory, of the audit log, of the script's scratch."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import omnibase
from omnibase.core.audit import AuditLog
from omnibase.core.events import ResourceLimitExceeded as LimitReached
from omnibase.core.events import SandboxExit
from tests.helpers import faults
from tests.helpers.audit import check, event, events
from tests.helpers.cli import omnibase as command

pytestmark = [pytest.mark.audit, pytest.mark.threat("T-ORCH-08", "T-ORCH-10")]

_HELLO = b"print('hello')"
_FILL = b"""
with open("/tmp/big", "wb") as file:
    for _ in range(24):
        file.write(b"x" * (1 << 20))
        file.flush()
print("hello")
"""


def _attempt(log: Path, source: bytes = _HELLO) -> faults.Outcome:
    outcome = faults.Outcome(log, source, context=omnibase.ExecutionContext(wall_seconds=20))
    if outcome.error is None:
        outcome.assert_right("hello\n")
    else:
        # One type of error or another, but each says that the place is full.
        error = outcome.assert_typed(omnibase.SandboxError)
        text = f"{error.message} {error.hint} {error.__cause__}"
        assert "space" in text or "OMNIBASE_STATE_DIR" in text, repr(error)
    return outcome


def test_no_file_more_in_the_state_directory(log: Path) -> None:
    """Each file that a run makes is the one that cannot be made."""
    failed = succeeded = 0
    with faults.own_state(megabytes=8, inodes=400) as state:
        _attempt(log).assert_right("hello\n")
        used = os.statvfs(state)
        taken = used.f_files - used.f_ffree
    for more in range(1, 60, 1 if faults.FULL else 3):
        with faults.own_state(megabytes=8, inodes=taken + more) as state:
            outcome = _attempt(log)
            assert os.listdir(state / "runs") == []
            assert faults.notes(state) == []
        failed += outcome.error is not None
        succeeded += outcome.error is None
        if succeeded > 2:
            break
    assert failed > 3 and succeeded
    assert not check(log).findings


def test_no_byte_more_in_the_state_directory(state: Path, log: Path) -> None:
    seen = set()
    with faults.own_state(megabytes=2) as small:
        for kilobytes in (0, 4, 8, 16, 32, 64, 128, 1024):
            with faults.filled(small, but_kilobytes=kilobytes):
                seen.add(_attempt(log).error is None)
                assert os.listdir(small / "runs") == []
        _attempt(log).assert_right("hello\n")
        faults.settled(log, small)
    assert seen == {True, False}


def test_a_state_directory_that_fills_up_while_the_script_writes(log: Path) -> None:
    """Scratch is a file there: the script is told that there is no space, or the run fails."""
    with faults.own_state(megabytes=8) as state:
        outcome = faults.Outcome(log, _FILL)
        if outcome.error is None:
            assert outcome.result is not None
            assert outcome.result.exit_code == 1
            assert b"No space left on device" in outcome.result.stderr
        else:
            outcome.assert_typed(omnibase.SandboxError)
        assert os.listdir(state / "runs") == []
        faults.Outcome(log, _HELLO).assert_right("hello\n")
        faults.settled(log, state)


def test_the_scratch_of_the_script(state: Path, log: Path) -> None:
    context = omnibase.ExecutionContext(scratch_bytes=4 << 20)
    outcome = faults.Outcome(log, _FILL, context=context)
    error = outcome.assert_typed(omnibase.ResourceLimitExceeded)
    assert isinstance(error, omnibase.ResourceLimitExceeded)
    assert error.kind == "disk"
    assert any(isinstance(each.data, LimitReached) for each in outcome.events)
    faults.Outcome(log, _FILL).assert_right("hello\n")
    faults.settled(log, state)


def test_the_audit_log(state: Path, tmp_path: Path) -> None:
    """Runs go on, the caller hears that they are not all on record, and so does the log."""
    place = tmp_path / "small"
    place.mkdir()
    script = tmp_path / "job.py"
    script.write_bytes(_HELLO)
    variables = {"OMNIBASE_AUDIT": str(place / "log")}
    with faults.small(place, 1):
        assert command("sandbox", "run", script, **variables).code == 0
        codes = []
        with faults.filled(place, but_kilobytes=0):
            # What is left of the log's last page holds some records.
            for _ in range(faults.often(4, 40)):
                said = command("sandbox", "run", script, **variables)
                codes.append(said.code)
                assert said.out == b"hello\n"
                if said.code:
                    assert said.code == 125
                    assert "events could not be written" in said.err
                    assert "free disk space" in said.err
        assert codes[-1] == 125
        assert not check(place / "log").findings
        assert command("sandbox", "run", script, **variables).code == 0
        told = faults.settled(place / "log", state, gaps=True)
        started = [run for run in told.values() if run[0].name == "SandboxStart"]
        assert len(started) >= 2
        assert all(isinstance(run[-1].data, SandboxExit) for run in started)
        assert all(run[-1].data.outcome == "ok" for run in started)  # type: ignore[attr-defined]


def test_an_end_that_found_the_log_full(state: Path, tmp_path: Path) -> None:
    """The start got its place, the end did not: the next run writes it, as it was."""
    place = tmp_path / "small"
    place.mkdir()
    with faults.small(place, 1):
        log = place / "log"
        filler = place / "filler"

        def fill(stream: str, chunk: bytes) -> None:
            free = os.statvfs(place)
            filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize))
            page = AuditLog(log)  # and the log's last page
            for number in range(1, 100):
                try:
                    page.emit(event(number, run="page"))
                except OSError:
                    break
            page.close()

        outcome = faults.Outcome(log, _HELLO, on_output=fill)
        outcome.assert_right("hello\n")
        run = outcome.events[0].runid
        assert [each.name for each in events(log) if each.runid == run] == ["SandboxStart"]
        assert faults.notes(state) == [run]
        filler.unlink()
        time.sleep(0.01)
        faults.settled(log, state, gaps=True)
        ends = [each for each in events(log) if each.runid == run][1:]
        assert ends == [each for each in outcome.events if isinstance(each.data, SandboxExit)]
        assert not check(log).findings
