"""What the guest's kernel has executed: granted commands, and whatever else."""

from __future__ import annotations

import pytest

from omnibase.core.sandbox.monitor.executions import CommandStart, Executions
from tests.helpers.messages import run


def test_a_granted_command_is_told_at_its_first_start_and_at_the_end() -> None:
    executions = Executions(("git", "ls"))
    for name in ("git", "ls", "git", "git"):
        assert executions.executed(run(f"/commands/bin/{name}")) is None
    assert executions.take() == [
        CommandStart(command="git", count=1),
        CommandStart(command="ls", count=1),
    ]
    assert executions.take() == []
    executions.finish()
    assert executions.take() == [CommandStart(command="git", count=3)]


@pytest.mark.parametrize(
    "path",
    ["/commands/bin/git", "/commands/bin/ls ", "/commands/lib/ls", "/commands/bin", "/tmp/ls",
     "/opt/omnibase/bin/python3.11", "", "/commands/bin/ls (deleted)", "/commands/bin/x/../ls"],
)  # fmt: skip
def test_anything_else_has_got_through(path: str) -> None:
    attempt = Executions(("ls",)).executed(run(path, process_name="p" * 80))
    assert attempt is not None
    assert attempt.capability == f"EXTERNAL_COMMAND:{path.rpartition('/')[2]}"
    assert (attempt.operation, attempt.resource, attempt.errno) == ("execve", path, 0)
    assert (attempt.pid, attempt.process_name) == (2, "p" * 64)
    assert attempt.reason is not None  # it ends the run


def test_the_loader_as_a_program_does_nothing() -> None:
    attempt = Executions(("ls",)).executed(run("/commands/loader"))
    assert attempt is not None
    assert (attempt.capability, attempt.reason) == (None, None)


def test_without_commands_there_is_no_loader() -> None:
    attempt = Executions().executed(run("/commands/loader"))
    assert attempt is not None
    assert attempt.reason is not None
