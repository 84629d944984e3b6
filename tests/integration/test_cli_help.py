"""`--help`, `--version`, exit codes, and that the documentation says the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import omnibase as package
from omnibase.cli import exits
from omnibase.errors import (
    ArtifactError,
    CapabilityDenied,
    CapabilityError,
    CircuitOpenError,
    ConfigurationError,
    ExternalCommandError,
    OmniBaseError,
    PolicyError,
    RegistryError,
    ResourceLimitExceeded,
    SandboxError,
    SandboxStartError,
    SandboxTimeout,
    SandboxUnavailable,
    SandboxViolationError,
    SecretAccessError,
)
from tests.helpers.cli import omnibase

_DOCUMENT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
_COMMANDS = (
    ("sandbox", "run"), ("sandbox", "explain"), ("sandbox", "learn"), ("doctor",), ("selftest",),
    ("capabilities", "check"), ("capabilities", "schema"),
    ("artifacts", "put"), ("artifacts", "list"), ("artifacts", "get"), ("artifacts", "verify"),
    ("artifacts", "remove"),
    ("packages", "lock"), ("packages", "install"), ("packages", "list"),
)  # fmt: skip


def test_the_version() -> None:
    for flag in ("--version", "-V"):
        said = omnibase(flag)
        assert (said.code, said.text) == (0, f"omnibase {package.__version__}\n")


def test_the_version_is_told_without_loading_the_rest() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "omnibase", "--version"],
        capture_output=True, text=True, timeout=60, check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("COV", "PYTEST"))},
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "omnibase.cli" in loaded
    assert not loaded & {"argparse", "json", "dataclasses", "omnibase.api", "omnibase.errors"}


@pytest.mark.parametrize("command", [(), ("sandbox",), ("capabilities",), *_COMMANDS])
def test_every_help_has_examples_and_exit_codes(command: tuple[str, ...]) -> None:
    said = omnibase(*command, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.text.startswith(f"usage: omnibase {' '.join(command)}".rstrip())
    assert f"examples:\n  {'omnibase ' + ' '.join(command)}".rstrip() in said.text
    assert exits.epilog() in said.text


def test_no_command_is_wrong_usage() -> None:
    said = omnibase()
    assert (said.code, said.out) == (2, b"")
    assert said.err.startswith("usage: omnibase ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (CapabilityError("x"), 2),
        (RegistryError("x"), 2),
        (ArtifactError("x"), 2),
        (ArtifactError("x", details={"reason": "tampered"}), 120),
        (ArtifactError("x", details={"reason": "missing", "capability": "ARTIFACT_READ:x"}), 120),
        (ArtifactError("x", details={"reason": "unavailable"}), 125),
        (CapabilityDenied("x"), 120),
        (PolicyError("x"), 120),
        (PolicyError("x", details={"reason": "tampered"}), 120),
        (PolicyError("x", details={"reason": "invalid"}), 2),
        (SecretAccessError("x"), 120),
        (ExternalCommandError("x"), 120),
        (SandboxViolationError("x"), 121),
        (ResourceLimitExceeded("x", kind="memory"), 122),
        (SandboxTimeout("x"), 124),
        (SandboxError("x"), 125),
        (SandboxUnavailable("x"), 125),
        (SandboxStartError("x"), 125),
        (CircuitOpenError("x"), 125),
        (OmniBaseError("x"), 125),
    ],
)
def test_each_error_has_its_exit_code(error: OmniBaseError, code: int) -> None:
    assert exits.for_error(error) == code
    assert str(code) in dict(exits.TABLE)


def test_the_documentation_has_the_same_table() -> None:
    for code, meaning in exits.TABLE:
        assert f"| {code} | {meaning} |" in _DOCUMENT


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_documentation_has_every_flag(command: tuple[str, ...]) -> None:
    assert f"omnibase {' '.join(command)}" in _DOCUMENT
    for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", omnibase(*command, "--help").text)):
        assert f"`{flag}" in _DOCUMENT or flag in ("--help", "--verbose"), flag


def _with_a_defect(**variables: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys, omnibase.cli.doctor as d\n"
        "def broken(_): raise ValueError('first\\nsecond')\n"
        "d.execute = broken\n"
        "from omnibase.cli import main\n"
        "sys.exit(main(['doctor']))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


def test_a_defect_is_one_line_and_a_way_to_report_it() -> None:
    done = _with_a_defect()
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == "omnibase: error: unexpected ValueError: first"
    assert "OMNIBASE_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert "in broken" in _with_a_defect(OMNIBASE_DEBUG="1").stderr
