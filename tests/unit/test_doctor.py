"""What `doctor` makes of a run whose grants did not work."""

from __future__ import annotations

import pytest

from omnibase import RunResult, Unreached, api
from omnibase.cli import doctor, trials
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
        ("secrets", "warning"), ("network grants", "warning"),
    ]  # fmt: skip
    for check in checks:
        assert check.detail == "127.0.0.1:1: connection refused; ConnectionResetError"
        assert check.fix


def test_a_run_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_args: object, **_options: object) -> RunResult:
        raise SandboxError("it broke", hint="mend it")

    monkeypatch.setattr(api, "run", run)
    (check,) = doctor._guarded(trials.grants_run)
    assert (check.name, check.status, check.detail) == ("grants run", "failed", "it broke")
