"""The hierarchy of errors: who is at fault, a stable code, and JSON-ready facts."""

from __future__ import annotations

import json

import pytest

from omnibase import errors
from omnibase.core.sandbox.result import RunResult

PARENTS = {
    "OmniBaseError": "Exception",
    "ConfigurationError": "OmniBaseError",
    "RegistryError": "OmniBaseError",
    "SecurityError": "OmniBaseError",
    "CapabilityError": "SecurityError",
    "PackageError": "OmniBaseError",
    "PolicyError": "SecurityError",
    "CapabilityDenied": "SecurityError",
    "ArtifactError": "OmniBaseError",
    "SecretAccessError": "SecurityError",
    "ExternalCommandError": "SecurityError",
    "SandboxViolationError": "SecurityError",
    "SandboxError": "OmniBaseError",
    "SandboxUnavailable": "SandboxError",
    "SandboxStartError": "SandboxError",
    "SandboxTimeout": "SandboxError",
    "ResourceLimitExceeded": "SandboxError",
    "CircuitOpenError": "SandboxError",
    "SessionClosed": "SandboxError",
}


def test_the_hierarchy_is_whole() -> None:
    assert set(errors.__all__) == set(PARENTS)
    for name, parent in PARENTS.items():
        assert getattr(errors, name).__base__.__name__ == parent


def test_codes_are_distinct() -> None:
    codes = [getattr(errors, name).code for name in errors.__all__]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("name", sorted(set(PARENTS) - {"PackageError", "ResourceLimitExceeded"}))
def test_every_error_carries_the_same(name: str) -> None:
    kind = getattr(errors, name)
    error = kind("`x` is wrong", details={"x": 1}, hint="try `y`")
    assert str(error) == error.message == "`x` is wrong"
    assert json.loads(json.dumps(error.to_dict())) == {
        "code": kind.code,
        "type": name,
        "message": "`x` is wrong",
        "details": {"x": 1},
        "hint": "try `y`",
    }
    bare = kind("`x` is wrong")
    assert (bare.details, bare.hint) == ({}, None)


def test_details_are_a_copy() -> None:
    details = {"a": 1}
    error = errors.OmniBaseError("x", details=details)
    error.details["b"] = 2
    assert details == {"a": 1}


def test_a_limit_names_its_kind() -> None:
    result = RunResult(run_id="r", exit_code=137)
    error = errors.ResourceLimitExceeded("x", kind="memory", details={"limit": 5}, result=result)
    assert error.kind == "memory"
    assert error.details == {"kind": "memory", "limit": 5}
    assert error.result is result
    assert errors.ResourceLimitExceeded("x", kind="cpu").details == {"kind": "cpu"}


def test_results_are_attached() -> None:
    result = RunResult(run_id="r", exit_code=0)
    assert errors.SandboxTimeout("x", result=result).result is result
    assert errors.SandboxError("x").result is None
    violated = errors.SandboxViolationError("x", result=result)
    assert violated.result is result
    assert violated.violations == ()
