"""``omnibase audit``, as typed, on logs that real runs wrote."""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from omnibase.core.audit import AuditLog
from omnibase.core.events import (
    CapabilityDenied,
    CapabilityGranted,
    Emitter,
    Event,
    EventBus,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
)
from omnibase.core.sandbox.state import state_dir
from tests.helpers.audit import check, event, events, make
from tests.helpers.cli import NO_RUNTIME, omnibase, started

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
        log = AuditLog(tmp_path / "log")
        log._writer.lose(3, HOSTILE)
        log.emit(event())
        log.close()
        said = omnibase("audit", "verify", "--audit", tmp_path / "log")
        assert said.code == 0
        assert "3 events were lost" in said.text
        assert "\x1b" not in said.text
        assert "\u202e" not in said.text


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three runs, one of which chose hostile names."""
    directory = tmp_path_factory.mktemp("mixed") / "log"
    log = AuditLog(directory, segment_bytes=6000, checkpoint_every=5)
    bus = EventBus()
    bus.subscribe(log)
    for number, name in enumerate(("first", "second", HOSTILE)):
        emitter = Emitter(bus, runid=f"{number}aa", subject=name, componentid=f"c-{number}")
        emitter.emit(CapabilityGranted(capability=f"FILE_READ:/data/{number}", enforcement="mount"))
        emitter.emit(CapabilityDenied(capability="SECRET_ACCESS:key", reason="no policy"))
        for count in range(5):
            emitter.emit(
                SandboxViolation(
                    capability=f"FILE_READ:/etc/{count}", operation="openat",
                    resource=f"/etc/{HOSTILE}", evidence="kernel", process_name=HOSTILE,
                )
            )  # fmt: skip
    bus.close()
    return directory


def asked(log: Path, *options: str) -> list[dict[str, Any]]:
    said = omnibase("audit", "query", "--audit", log, "--json", *options)
    assert said.code == 0, said.err
    return [json.loads(line) for line in said.text.splitlines()]


class TestAsking:
    def test_finds_by_each_of_its_options(self, mixed: Path) -> None:
        everything = asked(mixed)
        assert [e["id"] for e in everything] == [e.id for e in events(mixed)]
        assert len(asked(mixed, "--limit", "4")) == 4
        assert asked(mixed, "--limit", "4") == everything[-4:]
        assert asked(mixed, "--run", "1aa") == everything[7:14]
        assert asked(mixed, "--component", "c-1", "--type", "SandboxViolation") == everything[9:14]
        assert len(asked(mixed, "--decision", "denied")) == 3
        assert len(asked(mixed, "--decision", "granted", "--run", "2*")) == 1
        assert len(asked(mixed, "--decision", "violation")) == 15
        assert len(asked(mixed, "--capability", "FILE_READ:/etc/3")) == 3
        assert len(asked(mixed, "--capability", "FILE_READ:/etc/*", "--run", "0aa")) == 5
        assert len(asked(mixed, "--capability", "FILE_READ:/data/*")) == 3
        assert asked(mixed, "--capability", "FILE_READ:/nowhere") == []
        middle = everything[10]["time"]
        assert asked(mixed, "--since", middle)[0]["time"] >= middle
        assert len(asked(mixed, "--since", middle)) + len(asked(mixed, "--until", middle)) == 21
        assert asked(mixed, "--until", "1h") == []
        assert len(asked(mixed, "--since", "1h")) == 21

    def test_refuses_what_it_does_not_understand(self, mixed: Path) -> None:
        for options in (("--limit", "0"), ("--limit", "10001"), ("--limit", "x"),
                        ("--since", "noon"), ("--decision", "maybe")):  # fmt: skip
            said = omnibase("audit", "query", "--audit", mixed, *options)
            assert said.code == 2, options

    @pytest.mark.parametrize(
        "command", [("tail",), ("query",), ("show", "2aa"), ("stats",), ("query", "--json")]
    )
    def test_shows_no_hostile_text_raw(self, mixed: Path, command: tuple[str, ...]) -> None:
        said = omnibase("audit", *command, "--audit", mixed)
        assert said.code == 0, said.err
        assert "\x1b" not in said.text and "\u202e" not in said.text and "\x07" not in said.text
        assert "SandboxViolation" in said.text

    def test_shows_a_run_as_a_timeline(self, mixed: Path) -> None:
        said = omnibase("audit", "show", "1a", "--audit", mixed)
        lines = said.text.splitlines()
        assert lines[0].startswith("run 1aa")
        assert len(lines) == 2 + 7
        assert "+0.000 s  CapabilityGranted" in lines[2]
        document = json.loads(omnibase("audit", "show", "1aa", "--audit", mixed, "--json").out)
        assert [e["eventname"] for e in document["events"][:2]] == [
            "CapabilityGranted", "CapabilityDenied",
        ]  # fmt: skip
        for run in ("", "9", HOSTILE):
            said = omnibase("audit", "show", run, "--audit", mixed)
            assert said.code == 2
            assert "\x1b" not in said.err

    def test_counts(self, mixed: Path) -> None:
        stats = json.loads(omnibase("audit", "stats", "--audit", mixed, "--json").out)
        assert (stats["events"], stats["runs"], stats["components"]) == (21, 3, 3)
        assert stats["decisions"] == {"granted": 3, "denied": 3, "violation": 15}
        assert stats["segments"] > 1

    def test_names_the_runs_that_have_no_end(self, tmp_path: Path) -> None:
        start = SandboxStart(
            script="a.py", script_sha256="0" * 64, platform="p", runtime_version=""
        )
        end = SandboxExit(outcome="ok", wall_seconds=1.0)
        log, bus = tmp_path / "log", EventBus()
        bus.subscribe(AuditLog(log, segment_bytes=2000))
        emitters = [Emitter(bus, runid=f"{n}" + "a" * 31) for n in range(9)]
        for emitter in emitters:
            emitter.emit(start)
        for emitter in emitters[2:]:
            emitter.emit(end)
        open_runs = [emitter.runid for emitter in emitters[:2]]

        def told() -> tuple[object, object]:
            verified = json.loads(omnibase("audit", "verify", "--audit", log, "--json").out)
            assert verified["ok"]
            stats = json.loads(omnibase("audit", "stats", "--audit", log, "--json").out)
            assert stats["unended"] == len(stats["unended_runs"])
            return verified["unended"], sorted(stats["unended_runs"])

        assert told() == (open_runs, open_runs)
        said = omnibase("audit", "verify", "--audit", log)
        assert said.code == 0
        assert "2 runs have a start and no end (still" in said.text
        emitters[0].emit(end)  # the index learns of it in a later round
        assert told() == (open_runs[1:], open_runs[1:])
        assert "1 run has a start and no end" in omnibase("audit", "stats", "--audit", log).text
        assert "no end is on record" in omnibase("audit", "show", "1a", "--audit", log).text
        assert "no end" not in omnibase("audit", "show", "0a", "--audit", log).text
        emitters[1].emit(end)
        assert told() == ([], [])
        bus.close()

    def test_tail_follows_into_the_next_segment(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 5)
        with started("audit", "tail", "--limit", "2", "--follow", "--json", "--audit", log) as tail:
            assert tail.stdout is not None
            shown = [json.loads(tail.stdout.readline())["sequence"] for _ in range(2)]
            sink = AuditLog(log, segment_bytes=2000)
            for number in range(6, 16):
                sink.emit(event(number))
            sink.close()
            shown += [json.loads(tail.stdout.readline())["sequence"] for _ in range(10)]
        assert list(map(int, shown)) == list(range(4, 16))


class TestIndex:
    def test_grows_with_the_log_and_can_be_removed(self, tmp_path: Path) -> None:
        log = make(tmp_path / "log", 5)
        assert len(asked(log)) == 5
        sink = AuditLog(log, segment_bytes=4000)
        for number in range(6, 31):
            sink.emit(event(number))
        sink.close()
        assert len(asked(log)) == 30
        (log / "index.sqlite").unlink()
        assert len(asked(log)) == 30
        said = omnibase("audit", "index", "rebuild", "--audit", log)
        assert (said.code, said.text) == (0, "30 events are in the index\n")
        said = omnibase("audit", "index", "rebuild", "--audit", log, "--json")
        assert json.loads(said.out)["events"] == 30

    @pytest.mark.parametrize("damage", ["log", "file", "version", "moved", "cut"])
    def test_that_does_not_fit_is_noticed(self, tmp_path: Path, damage: str) -> None:
        log = make(tmp_path / "log", 5, segment_bytes=10**6)
        assert len(asked(log)) == 5
        first, index = log / "00000001.jsonl", log / "index.sqlite"
        if damage == "log":
            make(tmp_path / "other", 7, segment_bytes=10**6)
            first.write_bytes((tmp_path / "other" / "00000001.jsonl").read_bytes())
        elif damage == "file":
            index.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
        elif damage == "cut":
            first.write_bytes(b"".join(first.read_bytes().splitlines(True)[:-1]))
        else:
            with contextlib.closing(sqlite3.connect(index)) as db, db:
                db.execute("PRAGMA user_version = 9" if damage == "version" else
                           "UPDATE event SET start = start + 1")  # fmt: skip
        said = omnibase("audit", "query", "--audit", log)
        assert said.code == 2, said.err
        assert "does not fit the log" in said.err
        assert "audit index rebuild" in said.err
        assert omnibase("audit", "index", "rebuild", "--audit", log).code == 0
        assert asked(log)


class TestExport:
    def test_as_plain_lines_is_what_the_bus_carried(self, mixed: Path) -> None:
        said = omnibase("audit", "export", "--format", "jsonl", "--audit", mixed)
        assert [Event.from_json(line) for line in said.text.splitlines()] == list(events(mixed))
        said = omnibase("audit", "export", "--format", "jsonl", "--until", "1h", "--audit", mixed)
        assert (said.code, said.text) == (0, "")

    def test_as_csv_holds_no_formula_and_no_control(self, tmp_path: Path) -> None:
        log = AuditLog(tmp_path / "log")
        bus = EventBus()
        bus.subscribe(log)
        for subject in ("=cmd()", HOSTILE):
            Emitter(bus, subject=subject).emit(CapabilityDenied(capability="x", reason=HOSTILE))
        bus.close()
        said = omnibase("audit", "export", "--format", "csv", "--audit", tmp_path / "log")
        header, *rows = csv.reader(said.text.splitlines())
        assert header[0] == "time" and len(rows) == 2
        assert rows[0][6] == "'=cmd()"
        assert json.loads(rows[1][-1])["reason"] == HOSTILE
        assert "\x1b" not in said.text

    def test_as_ocsf_has_what_its_classes_require(self, mixed: Path) -> None:
        said = omnibase("audit", "export", "--format", "ocsf", "--audit", mixed)
        records = [json.loads(line) for line in said.text.splitlines()]
        assert len(records) == 21
        for record in records:
            assert record["type_uid"] == record["class_uid"] * 100 + record["activity_id"]
            assert record["metadata"]["version"] == "1.3.0"
            assert record["metadata"]["uid"] == record["unmapped"]["id"]
            assert record["time"] > 1_600_000_000_000
            if record["class_uid"] == 2004:
                assert record["finding_info"]["uid"] and record["finding_info"]["title"]
                assert record["disposition"] == "Blocked"
            else:
                assert record["class_uid"] == 6002 and record["app"]
        assert sum(record["class_uid"] == 2004 for record in records) == 18

    def test_as_parquet_is_what_the_bus_carried(self, mixed: Path, tmp_path: Path) -> None:
        out = tmp_path / "events.parquet"
        said = omnibase("audit", "export", "--format", "parquet", "--output", out, "--audit", mixed)
        assert (said.code, said.text, said.err) == (0, "", "")
        table = parquet.read_table(out)
        kept = list(events(mixed))
        assert table.column("id").to_pylist() == [each.id for each in kept]
        assert [json.loads(text) for text in table.column("data").to_pylist()] == [
            each.data.to_dict() for each in kept
        ]
        assert set(table.column("decision").to_pylist()) == {"granted", "denied", "violation"}
        assert out.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("form", ["jsonl", "ocsf", "csv"])
    def test_a_file_holds_what_standard_output_would(
        self, mixed: Path, tmp_path: Path, form: str
    ) -> None:
        out = tmp_path / "events"
        out.write_text("before")
        said = omnibase("audit", "export", "--format", form, "--output", out, "--audit", mixed)
        assert (said.code, said.text) == (0, "")
        printed = omnibase("audit", "export", "--format", form, "--audit", mixed)
        assert out.read_bytes() == printed.out
        assert list(tmp_path.iterdir()) == [out]

    def test_a_file_is_whole_or_as_it_was(self, tmp_path: Path) -> None:
        log, out = make(tmp_path / "log", 40), tmp_path / "events.parquet"
        out.write_text("before")
        said = omnibase(
            "audit", "export", "--format", "parquet", "--output", out, "--audit", log,
            PYTHONPATH=str(broken_pyarrow(tmp_path, "OSError(28, 'No space left on device')")),
        )  # fmt: skip
        assert said.code == 2 and "No space left on device" in said.err
        assert out.read_text() == "before"
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            "events.parquet", "log", "pyarrow",
        ]  # fmt: skip

    def test_without_pyarrow_it_says_what_to_type(self, mixed: Path, tmp_path: Path) -> None:
        out = tmp_path / "events.parquet"
        said = omnibase(
            "audit", "export", "--format", "parquet", "--output", out, "--audit", mixed,
            PYTHONPATH=str(broken_pyarrow(tmp_path, "ImportError('no pyarrow')")),
        )  # fmt: skip
        assert said.code == 2 and not out.exists()
        assert "`--format parquet` needs a library" in said.err
        assert "pip install 'omnibase[parquet]'" in said.err

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            (("--format", "xml"), "choose ocsf, csv, jsonl or parquet"),
            ((), "--format"),
            (("--format", "parquet"), "--output events.parquet"),
            (("--format", "csv", "--output", ""), "`--output` is empty"),
            (("--format", "csv", "--output", "/absent/x"), "No such file"),
            (("--format", "csv", "--output", "/tmp"), "is a directory"),
        ],
    )
    def test_refuses(self, mixed: Path, options: tuple[str, ...], text: str) -> None:
        said = omnibase("audit", "export", *options, "--audit", mixed)
        assert said.code == 2 and text in said.err


def broken_pyarrow(tmp_path: Path, error: str) -> Path:
    """Makes a `pyarrow` that fails: as if it were not there, or the disk were full."""
    package = tmp_path / "pyarrow"
    package.mkdir()
    when = f"raise {error}" if error.startswith("Import") else ""
    (package / "__init__.py").write_text(
        f"{when}\nfrom unittest.mock import MagicMock\n"
        "string = int64 = float64 = timestamp = list_ = map_ = schema = array = MagicMock()\n"
        "Table = MagicMock()\n"
    )
    (package / "parquet.py").write_text(
        "class ParquetWriter:\n"
        "    def __init__(self, file, *_, **__): file.write(b'PAR1')\n"
        f"    def write_table(self, *_, **__): raise {error}\n"
    )
    return tmp_path
