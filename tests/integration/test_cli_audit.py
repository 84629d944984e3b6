"""``omnibase audit``, as typed, on logs that real runs wrote."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox.state import state_dir
from tests.helpers.audit import check, event, events, make
from tests.helpers.cli import NO_RUNTIME, omnibase

_NAMES = ["SandboxStart", "SandboxViolation", "SandboxExit"]
HOSTILE = "\x1b]0;owned\x07\n\u202eprint(1)"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text("try:\n    open('/etc/shadow')\nexcept OSError:\n    print('no')\n")
    return path


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory of its own, on a short path, that shares the images."""
    with tempfile.TemporaryDirectory(prefix="oba-") as name:
        (Path(name) / "images").symlink_to(state_dir() / "images")
        yield Path(name)


class TestRealRuns:
    def test_are_kept_and_verify(self, tmp_path: Path, script: Path) -> None:
        log = tmp_path / "log"
        for flags, variables in ((["--audit", log], {}), ([], {"OMNIBASE_AUDIT": str(log)})):
            said = omnibase("sandbox", "run", script, *flags, **variables)
            assert said.code == 121, said.err
        assert [e.name for e in events(log)] == _NAMES * 2
        said = omnibase("audit", "verify", "--audit", log)
        assert said.code == 0, said.text
        assert "6 events" in said.text
        assert "everything is as it was written" in said.text
        head = said.text.splitlines()[-1]
        assert omnibase("audit", "verify", "--audit", log, "--since", head).code == 0

    def test_are_kept_by_default_and_not_if_it_is_off(self, state: Path, script: Path) -> None:
        place = {"OMNIBASE_STATE_DIR": str(state), "OMNIBASE_AUDIT": ""}
        assert omnibase("sandbox", "run", script, "--audit", "off", **place).code == 121
        assert not (state / "audit").exists()
        assert omnibase("sandbox", "run", script, **place).code == 121
        assert len(list(events(state / "audit"))) == 3

    def test_cannot_reach_the_log_that_they_are_kept_in(self, tmp_path: Path) -> None:
        log, script = tmp_path / "area" / "log", tmp_path / "job.py"
        make(log)
        script.write_text(f"import os\nprint(sorted(os.listdir({str(log.parent)!r})))\n")
        (log.parent / "beside").write_text("")
        for flags, variables in ((["--audit", log], {}), ([], {"OMNIBASE_AUDIT": str(log)})):
            for kind in ("READ", "WRITE"):
                said = omnibase(
                    "sandbox",
                    "run",
                    script,
                    "--allow",
                    f"FILE_{kind}:{log}/**",
                    *flags,
                    **variables,
                )
                assert said.code == 2, said.err
                assert "which no grant may" in said.err
            said = omnibase("sandbox", "run", script, "--allow", f"FILE_WRITE:{log.parent}/**",
                            *flags, **variables)  # fmt: skip
            assert said.code == 2, said.err
            said = omnibase("sandbox", "run", script, "--allow", f"FILE_READ:{log.parent}/beside",
                            *flags, **variables)  # fmt: skip
            assert said.code == 0, said.err
            assert "beside" in said.text
            assert "log" not in said.text
        assert not check(log).findings

    def test_do_not_start_without_their_log(self, tmp_path: Path, script: Path) -> None:
        said = omnibase("sandbox", "run", script, "--audit", "/dev/null/log", **NO_RUNTIME)
        assert said.code == 2
        assert "cannot be written" in said.err
        assert omnibase("sandbox", "run", script, "--audit", "", **NO_RUNTIME).code == 2


class TestVerify:
    def test_says_what_is_wrong_and_where(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log")
        path = log / "00000002.jsonl"
        path.write_bytes(path.read_bytes().replace(b"/etc/passwd", b"/etc/passwx", 1))
        said = omnibase("audit", "verify", "--audit", log)
        assert said.code == 1
        assert "wrong  segment 2, byte " in said.text
        assert "was changed" in said.text
        document = json.loads(omnibase("audit", "verify", "--audit", log, "--json").out)
        assert document["ok"] is False
        assert document["findings"][0]["segment"] == 2

    def test_finds_what_was_cut_only_against_a_head(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 8, segment_bytes=10**6)
        head = str(check(log).head)
        path = log / "00000001.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-1]))
        said = omnibase("audit", "verify", "--audit", log)
        assert said.code == 0
        assert "only against a head" in said.text or "kept elsewhere" in said.text
        said = omnibase("audit", "verify", "--audit", log, "--since", head)
        assert said.code == 1
        assert "it was cut" in said.text

    def test_takes_a_key_from_elsewhere(self, tmp_path: Path) -> None:
        log, other = make(tmp_path / "log"), make(tmp_path / "other")
        for directory in (log, other):
            said = omnibase("audit", "key", "--audit", directory)
            assert said.code == 0
            (directory / "public.pem").write_bytes(said.out)
        verify = ("audit", "verify", "--audit", log, "--public-key")
        assert omnibase(*verify, log / "public.pem").code == 0
        said = omnibase(*verify, other / "public.pem")
        assert said.code == 1
        assert "no checkpoint is signed by the key that was given" in said.text
        assert omnibase(*verify, log / "00000001.jsonl").code == 2
        assert omnibase(*verify, "/nonexistent").code == 2

    def test_follows_a_key_that_was_rotated(self, tmp_path: Path) -> None:
        log, old = make(tmp_path / "log"), tmp_path / "old.pem"
        old.write_bytes(omnibase("audit", "key", "--audit", log).out)
        said = omnibase("audit", "key", "--rotate", "--audit", log, "--json")
        assert json.loads(said.out)["pem"].encode() != old.read_bytes()
        said = omnibase("audit", "checkpoint", "--audit", log)
        head = said.text.split()[1]
        said = omnibase("audit", "verify", "--audit", log, "--public-key", old, "--json")
        assert (said.code, json.loads(said.out)["head"]) == (0, head)
        assert json.loads(omnibase("audit", "checkpoint", "--audit", log, "--json").out)["key"]

    def test_refuses_what_is_no_log_or_no_head(self, tmp_path: Path) -> None:
        said = omnibase("audit", "verify", "--audit", tmp_path)
        assert said.code == 2
        assert "there is no audit log" in said.err
        assert omnibase("audit", "checkpoint", "--audit", tmp_path).code == 2
        assert list(tmp_path.iterdir()) == []
        log = make(tmp_path / "log", 1)
        assert omnibase("audit", "verify", "--audit", log, "--since", "yesterday").code == 2
        assert omnibase("audit", "verify", "--audit", "off").code == 2
        assert omnibase("audit", "verify", OMNIBASE_AUDIT="/dev/null/x").code == 2

    def test_shows_no_text_of_a_writer_raw(self, tmp_path: Path) -> None:
        from omnibase.core.audit import AuditLog

        log = AuditLog(tmp_path / "log")
        log._writer.lose(3, HOSTILE)
        log.emit(event())
        log.close()
        said = omnibase("audit", "verify", "--audit", tmp_path / "log")
        assert said.code == 0
        assert "3 events were lost" in said.text
        assert "\x1b" not in said.text
        assert "\u202e" not in said.text
