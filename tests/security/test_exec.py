"""Nothing in the guest can be executed, and each try is told."""

from __future__ import annotations

from tests.security.harness import SandboxFixture


def test_no_way_to_start_a_program(sandbox: SandboxFixture) -> None:
    outcome = sandbox("execute", ["MEMORY:128MiB"], on_violation="record")

    report = outcome.report
    # system(3) and pty.spawn() tell failure by a status only.
    assert report.pop("os.system") == "not found"
    report.pop("pty")
    assert set(report.values()) <= {"EACCES", "ENOENT"}, report
    for command in ("sh", "ls", "exe", "ld-linux-x86-64.so.2", "run", "program", "script.py"):
        outcome.assert_violation(f"EXTERNAL_COMMAND:{command}", operation="execve")
    for command in ("tool", "many", "long"):
        outcome.assert_violation(f"EXTERNAL_COMMAND:{command}", operation="execve")


def test_a_traceback_names_the_command(sandbox: SandboxFixture) -> None:
    outcome = sandbox.source(b"import subprocess\nsubprocess.run(['ls', '-l'])\n")

    outcome.assert_raised()
    outcome.assert_violation("EXTERNAL_COMMAND:ls")
    assert b"EXTERNAL_COMMAND:ls is not granted" in outcome.finished.stderr
