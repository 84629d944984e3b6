"""The audit log as an attacker finds it: what a script did is on it, and cannot be taken off it."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from omnibase import CapabilityError
from omnibase.core.audit.log import AuditLog
from omnibase.core.events import SandboxViolation
from tests.helpers import audit
from tests.helpers.cli import omnibase as command
from tests.security.harness import SCRIPTS, SandboxFixture

pytestmark = [pytest.mark.audit, pytest.mark.threat("T-ORCH-08")]

_ATTEMPT = b"FILE_READ:/etc/passwd"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of three runs of hostile code, signed, by the command line."""
    directory = tmp_path_factory.mktemp("audit") / "log"
    for script in ("one_denial", "acceptance", "one_denial"):
        said = command("sandbox", "run", SCRIPTS / f"{script}.py", "--audit", directory)
        assert said.code == 121, said.err
    assert command("audit", "checkpoint", "--audit", directory).code == 0
    return directory


@pytest.fixture
def log(recorded: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(recorded, tmp_path / "log"))


def _segment(log: Path) -> Path:
    (segment,) = log.glob("*.jsonl")
    return segment


def _changed(log: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    segment = _segment(log)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(change(lines)))


def _attempt(lines: list[bytes]) -> int:
    return next(number for number, line in enumerate(lines) if _ATTEMPT in line)


def _hides(lines: list[bytes]) -> list[bytes]:
    at = _attempt(lines)
    return [*lines[:at], *lines[at + 1 :]]


def _blames_another(lines: list[bytes]) -> list[bytes]:
    at = _attempt(lines)
    return [*lines[:at], lines[at].replace(b"/etc/passwd", b"/etc/passwx"), *lines[at + 1 :]]


def _tells_it_later(lines: list[bytes]) -> list[bytes]:
    at = _attempt(lines)
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def _repeats(lines: list[bytes]) -> list[bytes]:
    at = _attempt(lines)
    return [*lines[: at + 1], lines[at], *lines[at + 1 :]]


def _puts_in(lines: list[bytes]) -> list[bytes]:
    at = _attempt(lines)
    forged = lines[at].replace(b'"seq":', b'"seq":9', 1)
    return [*lines[:at], forged, *lines[at:]]


def _spells_otherwise(lines: list[bytes]) -> list[bytes]:
    """The same JSON, in other bytes: no second reading of a record passes for it."""
    at = _attempt(lines)
    body = json.dumps(json.loads(lines[at])).encode() + b"\n"
    return [*lines[:at], body, *lines[at + 1 :]]


@pytest.mark.parametrize(
    "change", [_hides, _blames_another, _tells_it_later, _repeats, _puts_in, _spells_otherwise]
)
def test_what_was_changed_is_found(log: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    _changed(log, change)

    said = command("audit", "verify", "--audit", log)

    assert said.code == 1, said.text
    assert any(line.startswith("wrong ") for line in said.text.splitlines())


def test_the_untouched_twin_is_accepted_and_holds_the_attempts(log: Path) -> None:
    said = command("audit", "verify", "--audit", log)

    assert said.code == 0, said.err
    told = [e.data.capability for e in audit.events(log) if isinstance(e.data, SandboxViolation)]
    assert told == ["FILE_READ:/etc/passwd"] * 3


def test_one_written_anew_is_found_by_the_key_that_was_kept(log: Path, tmp_path: Path) -> None:
    """Whoever has the files, and not the key, can chain another history: nobody signed it."""
    key = tmp_path / "key.pem"
    key.write_text(command("audit", "key", "--audit", log).text)
    kept = [event for event in audit.events(log) if not isinstance(event.data, SandboxViolation)]
    forged = tmp_path / "forged"
    with_its_own_key = AuditLog(forged)
    for event in kept:
        with_its_own_key.emit(event)
    with_its_own_key.close()
    assert command("audit", "checkpoint", "--audit", forged).code == 0

    assert command("audit", "verify", "--audit", log, "--public-key", key).code == 0
    assert command("audit", "verify", "--audit", forged).code == 0
    assert command("audit", "verify", "--audit", forged, "--public-key", key).code == 1


def test_a_cut_end_is_found_by_the_head_that_was_kept(log: Path) -> None:
    head = command("audit", "verify", "--audit", log).text.split()[-1]
    _changed(log, lambda lines: lines[:-4])

    assert command("audit", "verify", "--audit", log, "--since", head).code == 1


@pytest.mark.threat("T-ORCH-05")
@pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
def test_no_grant_leads_a_script_to_it(
    sandbox: SandboxFixture, area: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("OMNIBASE_AUDIT", str(area / "log"))
    log = AuditLog(area / "log")
    log.emit(audit.event())
    log.close()
    (area / "beside.txt").write_text("x")
    segment = str(_segment(area / "log"))

    for pattern in (segment, f"{area}/log/**"):
        outcome = sandbox("read_files", [f"{kind}:{pattern}"], args=[segment])
        assert isinstance(outcome.error, CapabilityError), pattern
        assert outcome.result is None

    # In a tree that is only read it is left out, and an attempt on it is told.
    outcome = sandbox(
        "read_files", [f"FILE_READ:{area}/**"], args=[segment, f"{area}/beside.txt"],
        on_violation="record",
    )  # fmt: skip
    assert outcome.report[segment] in ("ENOENT", "EACCES")
    assert outcome.report[f"{area}/beside.txt"] == "x"
    outcome.assert_violation(f"FILE_READ:{segment}", operation="open")


def test_nobody_else_may_read_it(recorded: Path) -> None:
    for path in (recorded, *recorded.rglob("*")):
        mode = os.stat(path).st_mode
        assert path.name.endswith(".pub") or stat.S_IMODE(mode) & 0o077 == 0, path
