"""Ends: nothing outlives a run, and how the script ended is told as it was."""

from __future__ import annotations

import pytest

from tests.security.harness import SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-21")]


@pytest.mark.parametrize("way", ["double fork", "double fork, keeping output"])
def test_daemons_end_with_the_script(sandbox: SandboxFixture, way: str) -> None:
    outcome = sandbox("outlive", args=[way], wall_seconds=25.0)

    outcome.assert_clean()
    assert outcome.finished.usage.wall_seconds < 20
    assert outcome.stdout.startswith("started\n")


@pytest.mark.threat("T-EXEC-17")
def test_closing_all_descriptors_hides_nothing(sandbox: SandboxFixture) -> None:
    outcome = sandbox("outlive", args=["close all descriptors"])

    outcome.assert_raised()
    outcome.assert_violation("FILE_READ:/etc/passwd")
    assert outcome.finished.exit_code == 5


@pytest.mark.parametrize(
    ("way", "exit_code", "signal"),
    [
        ("256", 0, None),  # as the kernel has it: the low eight bits
        ("-1", 255, None),
        ("text", 1, None),
        ("none", 0, None),
        ("125", 125, None),
        ("SIGKILL", 137, 9),
        ("SIGSEGV", 139, 11),
        ("SIGABRT", 134, 6),
        ("from a thread", 5, None),
        ("exception", 1, None),
        ("hook that fails", 1, None),
        ("no newline", 0, None),
        ("hook that forges", 0, None),
    ],
)
def test_ends(sandbox: SandboxFixture, way: str, exit_code: int, signal: int | None) -> None:
    outcome = sandbox("end", args=[way])

    assert outcome.error is None
    assert outcome.finished.exit_code == exit_code
    assert outcome.finished.signal == signal
    assert outcome.finished.violations == ()
    assert outcome.stdout == ("no newline" if way == "no newline" else "")


@pytest.mark.threat("T-EXEC-14")
def test_a_traceback_shows_the_script_only(sandbox: SandboxFixture) -> None:
    outcome = sandbox("end", args=["exception"])

    stderr = outcome.finished.stderr.decode()
    assert "ZeroDivisionError" in stderr
    assert "init.py" not in stderr
