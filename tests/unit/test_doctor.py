"""What `doctor` makes of a run whose grants did not work."""

from __future__ import annotations

import pytest

from omnibase import RunResult, Unreached, api
from omnibase.cli import doctor, trials
from omnibase.core.sandbox.commands import finding
from omnibase.errors import SandboxError


def test_grants_that_do_not_work_are_warnings_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = RunResult(
        run_id="x",
        exit_code=1,
        stdout=b"in the clear\n",
        stderr=b"ConnectionResetError\n",
        unreached=(Unreached(target="127.0.0.1:1", reason="connection refused", count=1),),
    )
    monkeypatch.setattr(api, "run", lambda *_args, **_options: result)
    checks = trials.grants_run()
    assert [(check.name, check.status) for check in checks] == [
        ("secrets", "warning"), ("network grants", "warning"), ("commands", "warning"),
    ]  # fmt: skip
    for check in checks:
        assert check.detail == "127.0.0.1:1: connection refused; ConnectionResetError"
        assert check.fix


def test_a_machine_without_commands_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def run(*_args: object, **options: list[str]) -> RunResult:
        given.extend(options["capabilities"])
        return RunResult(run_id="x", exit_code=0, stdout=b"***DOCTOR***\n", stderr=b"")

    monkeypatch.setattr(api, "run", run)
    monkeypatch.setattr(finding, "SEARCH_PATH", ("/nonexistent",))
    (check,) = [check for check in trials.grants_run() if check.name == "commands"]
    assert check.status == "warning"
    assert "this machine has no `true`" in check.detail
    assert not [grant for grant in given if grant.startswith("EXTERNAL_COMMAND")]


def test_a_run_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_args: object, **_options: object) -> RunResult:
        raise SandboxError("it broke", hint="mend it")

    monkeypatch.setattr(api, "run", run)
    (check,) = doctor._guarded(trials.grants_run)
    assert (check.name, check.status, check.detail) == ("grants run", "failed", "it broke")
