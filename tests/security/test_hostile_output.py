"""What a script says acts on nobody: not on a terminal, an event, a log or a JSON document."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.events import Event, SandboxViolation
from tests.helpers.cli import COMMAND
from tests.helpers.cli import omnibase as command
from tests.security.harness import SCRIPTS, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.audit, pytest.mark.threat("T-EXEC-19", "T-ORCH-09")]

SHOUT = SCRIPTS / "shout.py"
KINDS = (
    "escapes", "carriage returns", "bidirectional text", "bytes that are no text", "nulls",
    "forged records",
)  # fmt: skip
LARGE = ("a long line", "many lines")
# Whatever moves, hides, reorders or names something on a terminal; line feeds lay out.
ACTING = {*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F),
          *range(0x2060, 0x2070), 0xFEFF} - {0x09, 0x0A, 0x0D}  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, *LARGE])
def test_it_comes_through_to_the_byte_and_forges_nothing(
    sandbox: SandboxFixture, kind: str
) -> None:
    outcome = sandbox("shout", args=[kind], on_violation="record")

    result = outcome.finished
    assert result.exit_code == 1
    assert result.stderr.startswith(result.stdout)
    assert result.error is not None
    assert result.error.type == "RuntimeError"
    assert len(result.error.message) <= 8192
    json.dumps(result.to_dict()).encode("ascii")
    # One start, one attempt, one end, whatever the script printed.
    assert [event.name for event in outcome.events] == [
        "SandboxStart", "SandboxViolation", "SandboxExit",
    ]  # fmt: skip
    outcome.assert_violation("FILE_READ:/srv/x")
    for event in outcome.events:
        assert event.to_json().isascii() and event.to_json().isprintable()
        assert Event.from_json(event.to_json()) == event


@pytest.mark.parametrize("kind", ["forged records", "bytes that are no text", "a long line"])
def test_events_in_a_file_and_the_json_stay_what_they_are(kind: str, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"

    said = command("sandbox", "run", SHOUT, "--json", "--events", log, "--", kind)

    assert said.code == 121
    assert said.out.isascii()
    assert json.loads(said.out)["violations"][0]["capability"] == "FILE_READ:/srv/x"
    lines = log.read_bytes().splitlines()
    events = [Event.from_json(line) for line in lines]
    assert [event.name for event in events] == ["SandboxStart", "SandboxViolation", "SandboxExit"]
    assert isinstance(events[1].data, SandboxViolation)


def _on_a_terminal(*arguments: object) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = bytearray()
        with contextlib.suppress(OSError):  # Linux says by an error that the other end is closed
            while chunk := os.read(ours, 65536):
                seen += chunk
        os.close(ours)
    return process.returncode, seen.decode("utf-8")


@pytest.mark.parametrize("kind", ["escapes", "carriage returns", "bidirectional text"])
def test_nothing_of_it_acts_on_a_terminal(kind: str) -> None:
    code, seen = _on_a_terminal("sandbox", "run", SHOUT, "--", kind)

    assert code == 121
    assert {ord(character) for character in seen} & ACTING == set()
    # What we say ourselves comes last, in a line of its own.
    assert "omnibase: error: the script tried what it was not granted" in seen.splitlines()[-3]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An audit log of a run whose names are hostile."""
    directory = tmp_path_factory.mktemp("log") / "audit"
    said = command("sandbox", "run", SCRIPTS / "hostile_names.py", "--audit", directory)
    assert said.code == 121
    yield directory


@pytest.mark.parametrize(
    "words", [("tail",), ("query",), ("stats",), ("export", "--format", "csv")]
)
def test_an_operator_who_reads_the_log_is_safe(log: Path, words: tuple[str, ...]) -> None:
    code, seen = _on_a_terminal("audit", *words, "--audit", log)

    assert code == 0, seen
    assert {ord(character) for character in seen} & ACTING == set()
    assert command("audit", "verify", "--audit", log).code == 0
