"""Artifacts on the command line: an input goes in, a run makes an output, the output comes out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omnibase.core.events import Event
from tests.helpers.cli import NO_RUNTIME, omnibase
from tests.helpers.components import OneComponent

CSV = b"name,n\na,1\nb,2\n"
SCRIPT = """\
rows = open('/artifacts/in/data.csv').read().splitlines()
open('/artifacts/out/report.json', 'w').write('{"rows": %d}' % (len(rows) - 1))
"""
ALLOW = ("--allow", "ARTIFACT_READ:in/*", "--allow", "ARTIFACT_WRITE:report.json")


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, str]:
    return "--artifacts", str(tmp_path / "store")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def given(tmp_path: Path, store: tuple[str, str]) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    said = omnibase("artifacts", "put", "in/data.csv", tmp_path / "data.csv", *store, **NO_RUNTIME)
    assert (said.code, said.err) == (0, "")
    assert said.text.startswith("in/data.csv  table, text/csv, 15 bytes, version 1, sha256:")


def test_from_an_input_to_an_output(
    given: None, store: tuple[str, str], script: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    said = omnibase(
        "sandbox", "run", script, *ALLOW, *store, "--artifacts-out", out, "--events", log
    )
    assert (said.code, said.out) == (0, b"")
    assert said.err.startswith("  stored  report.json  json, application/json, 11 bytes, version 1")
    assert (out / "report.json").read_text() == '{"rows": 2}'
    events = [Event.from_json(line) for line in log.read_text().splitlines()]
    assert [event.name for event in events] == [
        "CapabilityGranted", "CapabilityGranted", "SandboxStart", "ArtifactRead", "ArtifactStored",
        "SandboxExit",
    ]  # fmt: skip

    listed = omnibase("artifacts", "list", *store, "--json")
    names = [row["name"] for row in json.loads(listed.text)["artifacts"]]
    assert names == ["in/data.csv", "report.json"]
    got = omnibase("artifacts", "get", "report.json", *store)
    assert (got.code, got.out, got.err) == (0, b'{"rows": 2}', "")


def test_json_has_what_came_out_and_what_did_not(store: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    path.write_text(
        "import os\nopen('/artifacts/out/a', 'w').write('x')\n"
        "os.symlink('/etc/passwd', '/artifacts/out/b')\n"
    )
    said = omnibase("sandbox", "run", path, "--allow", "ARTIFACT_WRITE:*", *store, "--json")
    document = json.loads(said.text)
    assert (said.code, said.err) == (0, "")
    assert [a["name"] for a in document["artifacts"]] == ["a"]
    assert document["artifacts_left_out"] == [{"name": "b", "reason": "is not a regular file"}]


def test_what_names_hold_acts_on_no_terminal(store: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    path.write_text("open('/artifacts/out/\\x1b[31mred\\n', 'w').write('x')\n")
    said = omnibase("sandbox", "run", path, "--allow", "ARTIFACT_WRITE:*", *store)
    assert said.code == 0
    assert "\x1b" not in said.err
    assert r"  left out  \x1b[31mred\n: contains a character that no name" in said.err


def test_nothing_is_written_over(
    given: None, store: tuple[str, str], script: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for target, why in (
        ("full", "is not empty"), ("data.csv", "cannot be used: Not a directory"),
        ("no/where", "cannot be used: its parent is not there"),
    ):  # fmt: skip
        said = omnibase(
            "sandbox", "run", script, *ALLOW, *store, "--artifacts-out", tmp_path / target,
            **NO_RUNTIME,
        )  # fmt: skip
        assert said.code == 2
        assert said.err.startswith(f"omnibase: error: `--artifacts-out {tmp_path / target}` {why}")
    said = omnibase("artifacts", "get", "in/data.csv", "-o", tmp_path / "full" / "mine", *store)
    assert said.code == 2
    assert "nothing is written over" in said.err
    assert (tmp_path / "full" / "mine").read_text() == "mine"
    said = omnibase("artifacts", "get", "in/data.csv", "-o", tmp_path / "new", *store)
    assert (said.code, (tmp_path / "new").read_bytes()) == (0, CSV)


def test_a_missing_input_starts_nothing(store: tuple[str, str], script: Path) -> None:
    grant = ("--allow", "ARTIFACT_READ:no.csv")
    said = omnibase("sandbox", "run", script, *grant, *store)
    assert said.code == 120
    assert said.err == (
        f"omnibase: error: the artifact `no.csv` is not in the store `{store[1]}`\n"
        "hint: `omnibase artifacts put no.csv FILE`, or name its store: `--artifacts`\n"
    )
    said = omnibase("sandbox", "explain", script, *grant, *store)
    assert said.code == 2
    assert "the artifact `no.csv` is not in the store" in said.err
    assert not os.path.exists(store[1])


def test_explain_names_what_would_not_go_together(
    given: None, store: tuple[str, str], script: Path, tmp_path: Path
) -> None:
    omnibase("artifacts", "put", "in", tmp_path / "data.csv", *store)
    said = omnibase("sandbox", "explain", script, *ALLOW, "--allow", "ARTIFACT_READ:in", *store)
    assert said.code == 2
    assert "the artifacts `in` and `in/data.csv` cannot both be files of one run" in said.err


def test_explain_shows_what_would_be_there(
    given: None, store: tuple[str, str], script: Path
) -> None:
    said = omnibase("sandbox", "explain", script, *ALLOW, *store, "--artifact-bytes", "1MiB")
    assert (said.code, said.err) == (0, "")
    assert "a checked copy, made at the start -> /artifacts/in/data.csv" in said.text
    assert "collected at the end: at most 64 files, 1 MiB -> /artifacts/out" in said.text


def test_capabilities_check_looks_into_the_store(
    given: None, store: tuple[str, str], tmp_path: Path
) -> None:
    caps = tmp_path / "caps.json"
    wanted = ["ARTIFACT_READ:in/data.csv", "ARTIFACT_READ:nope", "ARTIFACT_WRITE:x"]
    caps.write_text(json.dumps({"version": 1, "capabilities": wanted}))
    said = omnibase("capabilities", "check", caps, *store, "--json")
    rows = json.loads(said.text)["capabilities"]
    assert [row["enforced"] for row in rows] == [True] * 3
    assert [row["problem"] is None for row in rows] == [True, False, True]


def test_learn_writes_down_both(store: tuple[str, str], script: Path, tmp_path: Path) -> None:
    out = tmp_path / "caps.json"
    source = "for p, m in (('in/data.csv', 'r'), ('out/report.json', 'w')):\n"
    script.write_text(source + "    try: open('/artifacts/' + p, m)\n    except OSError: pass\n")
    said = omnibase("sandbox", "learn", script, "-o", out, *store)
    assert said.code == 0
    assert [row["capability"] for row in json.loads(out.read_text())["capabilities"]] == [
        "ARTIFACT_READ:in/data.csv", "ARTIFACT_WRITE:report.json",
    ]  # fmt: skip


def test_a_component_gets_what_its_policy_permits(store: tuple[str, str], tmp_path: Path) -> None:
    component = OneComponent(
        tmp_path / "registry",
        b"open('/artifacts/out/a.txt', 'w').write('x')\n",
        requires=["ARTIFACT_WRITE:a.txt"],
        policies=['@id("a") permit ArtifactWrite when { resource.name like "*.txt" }'],
    )
    said = omnibase("run", "report", "--registry", component.directory, *store, "--json")
    document = json.loads(said.text)
    assert said.code == 0, document
    assert [a["name"] for a in document["artifacts"]] == ["a.txt"]
    assert document["component"]["granted"] == ["ARTIFACT_WRITE:a.txt"]


def test_verify_finds_what_was_changed(given: None, store: tuple[str, str], script: Path) -> None:
    said = omnibase("artifacts", "verify", *store)
    assert (said.code, said.err) == (0, "")
    (blob,) = (path for path in Path(store[1], "blobs").rglob("*") if path.is_file())
    blob.write_bytes(CSV[:-1] + b"!")
    said = omnibase("artifacts", "verify", *store)
    assert said.code == 1
    assert "the artifact `in/data.csv` was tampered with" in said.text
    for command in (
        ("artifacts", "get", "in/data.csv"), ("sandbox", "run", script, *ALLOW),
    ):  # fmt: skip
        said = omnibase(*command, *store)
        assert (said.code, said.out) == (120, b"")
        assert "was tampered with" in said.err


def test_versions_are_kept_until_the_name_is_removed(
    given: None, store: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_bytes(b"other")
    omnibase("artifacts", "put", "in/data.csv", tmp_path / "data.csv", *store)
    assert omnibase("artifacts", "get", "in/data.csv", "--version", "1", *store).out == CSV
    assert omnibase("artifacts", "get", "in/data.csv", *store).out == b"other"
    listed = omnibase("artifacts", "list", "in/data.csv", *store).text.splitlines()
    assert [line.split(", ")[3] for line in listed[:2]] == ["version 1", "version 2"]
    assert omnibase("artifacts", "remove", "in/data.csv", *store).text == (
        "removed in/data.csv, 2 versions\n"
    )
    for command in ("get", "list", "remove"):
        said = omnibase("artifacts", command, "in/data.csv", *store)
        assert said.code == 2
        assert "is not in the store" in said.err
    assert [path for path in Path(store[1], "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("put", "../x", "FILE"), "`../x` has a segment that begins with `.`"),
        (("put", "a", "/nonexistent"), "`/nonexistent` cannot be read: No such file or directory"),
        (("put", "a", "/dev/null"), "`/dev/null` is not a regular file"),
        (("get", "a", "--version", "x"), "`--version x` is no version"),
        (("list", "--artifacts", "file:///x"), "`file:///x` is no store of artifacts"),
        (("list", "--artifacts", "nosuch://x"), "`nosuch://x` is no store of artifacts"),
    ],
)
def test_wrong_words_are_usage(
    arguments: tuple[str, ...], said: str, store: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    words = [str(tmp_path / "file") if word == "FILE" else word for word in arguments]
    more = () if "--artifacts" in words else store
    done = omnibase("artifacts", *words, *more)
    assert done.code == 2
    assert done.err.startswith(f"omnibase: error: {said}")


def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "file").write_text("x")
    said = omnibase("artifacts", "put", "a", tmp_path / "file", "--artifacts", tmp_path)
    assert said.code == 125
    assert f"`{tmp_path}` is not a directory that only you can write to" in said.err


def test_the_environment_names_the_store(given: None, store: tuple[str, str]) -> None:
    said = omnibase("artifacts", "list", OMNIBASE_ARTIFACTS=store[1])
    assert said.text.endswith(f"1 in `{store[1]}`\n")
