"""`omnibase registry`, typed as a platform engineer and a pipeline type it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from omnibase.cli import main
from omnibase.core.registry import Component, FileStore, RegistryStore, journal
from omnibase.core.registry.chain import LINE_BYTES, LogLine
from omnibase.core.registry.rehearsal import rehearse
from omnibase.core.registry.store import MAX_SCRIPT_BYTES
from omnibase.core.registry.view import Change
from omnibase.errors import RegistryError
from omnibase.registries import open_registry
from tests.helpers.cli import COMMAND, Said, omnibase, started

ONE = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
POLICY = Path(__file__).parents[2] / "examples" / "policies" / "01-read-one-file.cedar.json"
BASICS = ("--name", "report", "--version", "1.0.0", "--owner", "data team")

Cli = Callable[..., Said]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a script and a policy, and no registry yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIBASE_REGISTRY", raising=False)
    monkeypatch.setenv("SUDO_USER", "ann")
    Path("main.py").write_text("print('hello')\n")
    Path("policy.json").write_bytes(POLICY.read_bytes())
    return tmp_path


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command of the group in this process."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = main(["registry", *map(str, arguments)])
        out, err = capfd.readouterr()
        return Said(code=code, out=out.encode(), err=err)

    return run


@pytest.fixture
def report(cli: Cli) -> Component:
    """`report@1.0.0`, with a script and a policy."""
    said = cli("add", *BASICS, "--script", "main.py", "--policy", "policy.json", "--comment", "new")
    assert (said.code, said.err) == (0, "")
    return store().get(ONE)


def store(location: str = "registry") -> RegistryStore:
    return open_registry(location)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def refused(said: Said, *words: str, code: int = 2) -> None:
    """Fails unless the command ended with an error of these words, and a hint."""
    assert said.code == code, said
    assert said.err.startswith("omnibase: error: "), said
    assert "\nhint: " in said.err, said
    for word in words:
        assert word in said.err, said


def loaded(said: Said) -> Any:
    assert said.out.isascii()
    return json.loads(said.out)


class TestAdd:
    def test_it_prints_the_uuid_and_the_reference(self, cli: Cli) -> None:
        said = cli("add", *BASICS, "--script", "main.py", "--policy", "policy.json")
        assert (said.code, said.text, said.err) == (0, f"{ONE}  report@1.0.0\n", "")
        component = store().find("report")
        assert (component.owner, component.policy_version) == ("data team", 1)
        assert store().load_entrypoint(component) == b"print('hello')\n"
        assert store().verify() == []

    def test_what_is_missing_for_a_run_is_told(self, cli: Cli) -> None:
        said = cli("add", *BASICS)
        uuid = said.text.split()[0]
        assert said.code == 0
        assert f"`omnibase policy import {uuid} FILE`" in said.err
        assert f"`omnibase registry update {uuid} --script main.py`" in said.err

    def test_every_flag(self, cli: Cli) -> None:
        Path("caps.json").write_text('["FILE_READ:/data/a", "MEMORY:64MiB"]')
        flags = (
            "--description", "what\nit does", "--lifecycle", "active", "--trust", "semi_trusted",
            "--require", "FILE_READ:/data/b", "--require", "FILE_READ:/data/a", "--idempotent",
            "--capabilities", "caps.json", "--author", "bob", "--comment", "why", "--uuid", ONE,
        )  # fmt: skip
        assert cli("add", *BASICS, *flags, "--registry", "elsewhere").code == 0
        found = store("elsewhere").get(ONE)
        assert found.to_dict() | {"revision": None} == {
            "format": 1, "uuid": str(ONE), "name": "report", "version": "1.0.0",
            "owner": "data team", "description": "what\nit does", "entrypoint": None,
            "lifecycle": "active", "trust": "semi_trusted", "idempotent": True,
            "capabilities_required": ["FILE_READ:/data/a", "FILE_READ:/data/b", "MEMORY:64MiB"],
            "artifacts": {}, "policy": None, "revision": None,
        }  # fmt: skip
        assert found.revision is not None
        assert (found.revision.author, found.revision.comment) == ("bob", "why")

    def test_the_author_is_whoever_is_behind_sudo(self, report: Component) -> None:
        assert [one.revision.author for one in store().history(ONE) if one.revision] == ["ann"] * 3

    def test_a_component_file_that_flags_refine(self, cli: Cli) -> None:
        Path("c.json").write_text(
            '{"name": "report", "version": "1.0.0", "trust": "trusted", '
            '"capabilities_required": ["FILE_READ:/data/a"]}'
        )
        flags = ("--owner", "me", "--version", "2.0.0", "--require", "FILE_READ:/data/b")
        said = cli("add", "c.json", *flags, "--json")
        found = loaded(said)["component"]
        assert (found["version"], found["owner"], found["trust"]) == ("2.0.0", "me", "trusted")
        assert found["capabilities_required"] == ["FILE_READ:/data/a", "FILE_READ:/data/b"]
        Path("none.json").write_text("[]")
        said = cli("add", "c.json", "--owner", "me", "--capabilities", "none.json", "--json")
        assert loaded(said)["component"]["capabilities_required"] == []

    def test_json_names_what_was_added(self, cli: Cli) -> None:
        said = cli("add", *BASICS, "--script", "main.py", "--json")
        document = loaded(said)
        assert said.err == ""
        assert (document["reference"], document["dry_run"]) == ("report@1.0.0", False)
        assert document["component"] == store().get(UUID(document["uuid"])).to_dict()

    def test_a_dry_run_writes_nothing_and_says_what_it_would(self, cli: Cli, here: Path) -> None:
        before = tree(here)
        flags = (*BASICS, "--script", "main.py", "--policy", "policy.json", "--dry-run")
        said = cli("add", *flags)
        assert said.code == 0
        assert "would add report@1.0.0" in said.text
        assert "main.py, 15 bytes, sha256:" in said.text
        assert "version 1, sha256:" in said.text
        document = loaded(cli("add", *flags, "--json"))
        assert document["dry_run"] is True
        assert tree(here) == before
        assert not Path("registry").exists()
        assert cli("add", *flags[:-1]).code == 0
        written = store().get(ONE).to_dict()
        for record in (written, document["component"]):  # the clock may have gone on
            del record["revision"], record["policy"]["history"]
        assert document["component"] == written

    def test_the_uuid_is_the_policys_principal_unless_it_is_given(self, cli: Cli) -> None:
        flags = (*BASICS, "--policy", "policy.json", "--dry-run", "--json")
        assert loaded(cli("add", *flags))["uuid"] == str(ONE)
        other = "aaaaaaaa-0000-4000-8000-000000000001"
        refused(cli("add", *flags, "--uuid", other), "`policy.json`", str(ONE), code=2)

    def test_a_policy_that_names_nobody_is_for_a_new_uuid(self, cli: Cli) -> None:
        Path("p.json").write_text('{"staticPolicies": {}, "templates": {}, "templateLinks": []}')
        uuid = UUID(cli("add", *BASICS, "--policy", "p.json").text.split()[0])
        assert uuid.version == 4
        assert store().get(uuid).policy_version == 1
        assert re.search("script +none", cli("show", "report").text)

    def test_a_policy_in_cedars_own_syntax(self, cli: Cli) -> None:
        Path("p.cedar").write_text(
            f'@id("a") permit(principal == Component::"{ONE}", action == Action::"use", '
            'resource is FileRead) when { resource.path == "/data/in.csv" };'
        )
        assert cli("add", *BASICS, "--policy", "p.cedar").code == 0
        assert b'"/data/in.csv"' in store().get_policy(ONE).document

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--name", "Report"), ("`--name` is `Report`", "lower-case")),
            (("--name", str(ONE)), ("`--name` is",)),
            (("--version", "1.0"), ("`--version`", "`1.0` is not a semantic version")),
            (("--owner", ""), ("`--owner` has 0 characters",)),
            (("--owner", "a\x1b[31m"), ("`--owner` has a character that does not print",)),
            (("--description", "x" * 4097), ("`--description` has 4097 characters",)),
            (("--lifecycle", "live"), ("`--lifecycle`", "`draft`, `active`")),
            (("--lifecycle", "retired"), ("`--lifecycle`", "is not retired")),
            (("--trust", "much"), ("`--trust`", "`semi_trusted`")),
            (("--uuid", "0F8FAD5B-D9CB-469F-A165-70867728950E"), ("`--uuid` is", "lower case")),
            (("--author", "x" * 201), ("`--author` has 201 characters",)),
            (("--comment", "\x00"), ("`--comment` has a character that does not print",)),
            (("--require", "FILE_READ:data"), ("`--require`: `data` is not an absolute path",)),
            (("--require", "FILES:/data"), ("`--require`: `FILES`",)),
            (("--capabilities", "none.json"), ("`none.json`", "no such file")),
            (("--owner", "a", "--owner", "b"), ("`--owner` is given twice",)),
        ],
    )
    def test_a_wrong_flag_is_named_and_nothing_is_written(
        self, cli: Cli, flags: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        plain = list(BASICS)
        for flag in flags[::2]:
            if flag in plain:
                at = plain.index(flag)
                del plain[at : at + 2]
        refused(cli("add", *plain, *flags), *words)
        assert not Path("registry").exists()

    def test_what_must_be_said_is_asked_for_at_once(self, cli: Cli) -> None:
        refused(cli("add"), "`--name`, `--version`, `--owner` are missing")
        refused(cli("add", *BASICS[:4]), "`--owner` is missing")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('{"name": "report"', ("broken JSON", "line 1")),
            ('{"name": "a", "name": "b"}', ("duplicate key `name`",)),
            ('{\n"name": "report",\n"version": "1.0.0", "owner": 7}', ("line 3", "$.owner")),
            ('{"name": "r", "version": "1.0.0", "owner": "a", "x": 1}', ("unknown key `x`",)),
            ('["report"]', ("holds no JSON object",)),
            ("", ("it is empty",)),
            ('{"name": "r", "version": "1.0.0", "owner": "a", "trust": "no"}', ("$.trust",)),
            (
                '{"name": "r", "version": "1.0.0", "owner": "a", "policy": {"version": 1}}',
                ("`policy`, which the registry writes", "`--policy`"),
            ),
            (
                '{"name": "r", "version": "1.0.0", "owner": "a",\n"capabilities_required": ["X"]}',
                ("line 2",),
            ),
            ("[" * 40 + "]" * 40, ("nested too deeply",)),
        ],
    )
    def test_a_component_file_is_read_strictly(
        self, cli: Cli, text: str, words: tuple[str, ...]
    ) -> None:
        Path("c.json").write_text(text)
        refused(cli("add", "c.json"), "`c.json`", *words)
        assert not Path("registry").exists()

    @pytest.mark.parametrize("flag", ["", "--script", "--policy", "--capabilities"])
    @pytest.mark.parametrize("kind", ["missing", "fifo", "huge", "binary", "directory", "device"])
    def test_a_file_that_is_none_is_named_and_nothing_is_written(
        self, cli: Cli, flag: str, kind: str
    ) -> None:
        path = "odd"
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "huge":
                Path(path).touch()
                os.truncate(path, 1 << 40)
            case "binary":
                Path(path).write_bytes(bytes(range(256)))
            case "directory":
                Path(path).mkdir()
            case "device":
                path = "/dev/zero"
        said = cli("add", *BASICS, flag, path) if flag else cli("add", path, *BASICS)
        refused(said, f"`{path}`")
        assert not Path("registry").exists()

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", ("0 bytes",)),
            (b"#" * (MAX_SCRIPT_BYTES + 1), ("`odd.py`", "larger than 4194304 bytes", "4 MiB")),
            (b"x = 'a\0b'", ("`odd.py`", "byte 6 is NUL")),
            (b"x = '\xe9'", ("`odd.py`", "byte 5 is not UTF-8")),
        ],
    )
    def test_a_script_that_python_would_not_read(
        self, cli: Cli, content: bytes, words: tuple[str, ...]
    ) -> None:
        Path("odd.py").write_bytes(content)
        refused(cli("add", *BASICS, "--script", "odd.py"), *words)
        assert not Path("registry").exists()

    def test_a_script_in_another_encoding_that_it_names(self, cli: Cli) -> None:
        content = b"#!/usr/bin/python3\n# -*- coding: latin-1 -*-\nx = '\xe9'\n"
        Path("old.py").write_bytes(content)
        assert cli("add", *BASICS, "--script", "old.py").code == 0
        assert store().load_entrypoint(store().find("report")) == content

    def test_a_script_whose_name_the_registry_cannot_hold(self, cli: Cli) -> None:
        Path("my script.py").write_text("1")
        refused(cli("add", *BASICS, "--script", "my script.py"), "`--script` is `my script.py`")
        assert not Path("registry").exists()

    def test_a_bad_policy_leaves_no_half_component(self, cli: Cli, report: Component) -> None:
        Path("bad.json").write_text('{"staticPolicies": {"a": {}}}')
        before = tree(Path("registry"))
        flags = ("--name", "other", "--version", "1.0.0", "--owner", "x", "--script", "main.py")
        refused(cli("add", *flags, "--policy", "bad.json"), "`bad.json`", code=2)
        assert tree(Path("registry")) == before

    def test_a_name_and_version_that_are_taken(self, cli: Cli, report: Component) -> None:
        before = tree(Path("registry"))
        for extra in ((), ("--dry-run",)):
            said = cli("add", *BASICS, "--script", "main.py", *extra)
            refused(said, f"`report@1.0.0` is component `{ONE}`", "another version")
        taken = ("--name", "b", "--version", "1.0.0", "--owner", "x", "--uuid", ONE)
        refused(cli("add", *taken), f"component `{ONE}` is already there")
        assert tree(Path("registry")) == before

    def test_a_version_that_a_component_has_left_stays_taken(
        self, cli: Cli, report: Component
    ) -> None:
        assert cli("update", "report", "--version", "1.1.0").code == 0
        refused(cli("add", *BASICS, "--dry-run"), f"`report@1.0.0` is component `{ONE}`")

    def test_two_at_once_are_one(self) -> None:
        with started("registry", "add", *BASICS) as one, started("registry", "add", *BASICS) as two:
            codes = sorted((one.wait(60), two.wait(60)))
            one.communicate()
            two.communicate()
        assert codes == [0, 2]
        assert len(list(store().uuids())) == 1

    def test_a_failure_in_the_middle_says_what_is_there(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> Component:
            raise RegistryError("no space left on device", details={"reason": "unavailable"})

        # The rehearsal is another class: the script fails only when it is written.
        monkeypatch.setattr(FileStore, "add_script", full, raising=False)
        said = cli("add", *BASICS, "--script", "main.py", "--policy", "policy.json")
        refused(said, "`report@1.0.0` is at revision 2", "no space left", str(ONE), code=125)
        assert store().get(ONE).policy_version == 1


class TestList:
    def test_a_table(self, cli: Cli, report: Component) -> None:
        cli("add", "--name", "other", "--version", "0.1.0", "--owner", "me")
        said = cli("list")
        lines = said.text.splitlines()
        assert (said.code, len(lines)) == (0, 3)
        assert lines[0].split() == ["UUID", "LIFECYCLE", "TRUST", "POLICY", "COMPONENT", "OWNER"]
        assert f"{ONE}  draft       untrusted     v1      report@1.0.0" in said.text
        assert lines[1:] == sorted(lines[1:])

    def test_filters(self, cli: Cli, report: Component) -> None:
        cli("add", "--name", "report", "--version", "2.0.0", "--owner", "me",
            "--lifecycle", "active")  # fmt: skip
        cli("add", "--name", "other", "--version", "0.1.0", "--owner", "me")

        def listed(*flags: str) -> list[str]:
            document = loaded(cli("list", "--json", *flags))
            assert document["errors"] == []
            return sorted(f"{c['name']}@{c['version']}" for c in document["components"])

        assert listed() == ["other@0.1.0", "report@1.0.0", "report@2.0.0"]
        assert listed("--name", "report") == ["report@1.0.0", "report@2.0.0"]
        assert listed("--owner", "me") == ["other@0.1.0", "report@2.0.0"]
        assert listed("--lifecycle", "active") == ["report@2.0.0"]
        assert listed("--lifecycle", "active", "--owner", "you") == []
        assert listed("--name", "none") == []
        refused(cli("list", "--lifecycle", "alive"), "`--lifecycle alive`", "`deprecated`")
        refused(cli("list", "--name", "Report"), "`--name` is `Report`")

    def test_the_record_is_complete_in_json(self, cli: Cli, report: Component) -> None:
        assert loaded(cli("list", "--json"))["components"] == [report.to_dict()]

    def test_one_that_is_broken_does_not_hide_the_rest(self, cli: Cli, report: Component) -> None:
        cli("add", "--name", "report", "--version", "2.0.0", "--owner", "me")
        record = Path(f"registry/components/{ONE}.json")
        record.write_bytes(record.read_bytes().replace(b"untrusted", b"trusted"))
        for flags in ((), ("--name", "report")):
            said = cli("list", *flags)
            refused(said, f"`components/{ONE}.json`", code=120)
            assert [line.split()[4] for line in said.text.splitlines()[1:]] == ["report@2.0.0"]
        said = cli("list", "--json")
        document = loaded(said)
        assert said.code == 120
        assert [one["version"] for one in document["components"]] == ["2.0.0"]
        (error,) = document["errors"]
        assert error["details"]["file"] == f"components/{ONE}.json"

    def test_many_that_are_broken_are_counted(self, cli: Cli, report: Component) -> None:
        for number in range(2, 25):
            store().add(Component.new(name="report", version=f"{number}.0.0", owner="x"))
        os.truncate("registry/log", 0)
        said = cli("list")
        assert (said.code, said.out) == (120, b"")
        assert said.err.count("omnibase: error: `log`") == 20
        assert "4 more like it" in said.err

    def test_a_store_that_fails_is_not_asked_again(
        self, cli: Cli, report: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store().add(Component.new(name="report", version="2.0.0", owner="x"))

        def busy(*_: object) -> Component:
            raise RegistryError("the disk is gone", details={"reason": "unavailable"})

        monkeypatch.setattr(FileStore, "get", busy)
        said = cli("list", "--json")
        assert said.code == 125
        assert [one["message"] for one in loaded(said)["errors"]] == ["the disk is gone"]

    def test_rows_are_printed_as_they_are_read(
        self, cli: Cli, report: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from omnibase.cli import console

        for number in range(2, 12):
            store().add(Component.new(name="report", version=f"{number}.0.0", owner="x"))
        read, seen = 0, []
        get, out = FileStore.get, console.out

        def counted(self: FileStore, uuid: UUID) -> Component:
            nonlocal read
            read += 1
            return get(self, uuid)

        def noted(text: str) -> None:
            seen.append(read)
            out(text)

        monkeypatch.setattr(FileStore, "get", counted)
        monkeypatch.setattr(console, "out", noted)
        assert cli("list").code == 0
        assert seen == list(range(1, 12))
        read, seen = 0, []
        assert cli("list", "--json").code == 0
        assert seen == [0, *range(1, 12), 11]

    def test_a_reader_that_goes_away(self, report: Component) -> None:
        read, write = os.pipe()
        os.close(read)
        try:
            done = subprocess.run(
                [*COMMAND, "registry", "list"], stdout=write, stderr=subprocess.PIPE,
                timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (141, b"")


class TestShow:
    def test_it_shows_the_record_and_what_belongs_to_it(self, cli: Cli, report: Component) -> None:
        cli("update", ONE, "--require", "FILE_READ:/data/in.csv", "--comment", "it reads")
        said = cli("show", "report")
        assert (said.code, said.err) == (0, "")
        for words in (
            "report@1.0.0", str(ONE), "data team", "draft", "untrusted", "FILE_READ:/data/in.csv",
            f"version 1, sha256:{report.policy_sha256}",
            f"main.py, 15 bytes, sha256:{report.artifacts['entrypoint']}",
        ):  # fmt: skip
            assert words in said.text
        assert re.search(r"last change +4  \S+Z  update +ann: it reads\n$", said.text)

    def test_json(self, cli: Cli, report: Component) -> None:
        assert loaded(cli("show", ONE, "--json")) == {
            "reference": "report@1.0.0",
            "component": report.to_dict(),
            "script": {
                "name": "main.py", "sha256": report.artifacts["entrypoint"], "bytes": 15,
            },
            "errors": [],
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("reference", "words"),
        [
            ("other", ("no component in use is called `other`", "registry list")),
            ("report@2.0.0", ("there is no component `report@2.0.0`",)),
            ("report@^2", ("no component in use",)),
            ("report@9", ("`9` is not a semantic version",)),
            ("report@", ("`` is not a version constraint",)),
            ("Report", ("`Report` names no component",)),
            ("", ("`` names no component",)),
            ("../../etc/passwd", ("`../../etc/passwd` names no component",)),
            ("a\n\x1b[31m", ("`a\\n\\x1b[31m` names no component",)),
            ("aaaaaaaa-0000-4000-8000-000000000001", ("there is no component",)),
        ],
    )
    def test_what_is_not_there(
        self, cli: Cli, report: Component, reference: str, words: tuple[str, ...]
    ) -> None:
        for command in ("show", "history", "update", "retire"):
            refused(cli(command, reference), *words)
        said = cli("show", reference, "--json")
        assert said.code == 2
        assert loaded(said)["error"]["code"] == "registry_error"

    @pytest.mark.parametrize(
        ("file", "code"),
        [(f"policies/{ONE}.cedar.json", 120), (f"scripts/{ONE}/main.py", 120)],
    )
    def test_a_record_is_shown_though_what_belongs_to_it_is_broken(
        self, cli: Cli, report: Component, file: str, code: int
    ) -> None:
        (Path("registry") / file).write_bytes(b"x")
        said = cli("show", "report")
        refused(said, f"`{file}`", code=code)
        assert "report@1.0.0" in said.text
        document = loaded(cli("show", "report", "--json"))
        assert [error["details"]["file"] for error in document["errors"]] == [file]


class TestUpdate:
    def test_it_says_what_changed(self, cli: Cli, report: Component) -> None:
        Path("other.py").write_text("print('other')\n")
        cli("update", "report", "--require", "FILE_READ:/data/a")
        said = cli(
            "update", "report", "--version", "1.1.0", "--owner", "me", "--description", "new\nline",
            "--lifecycle", "active", "--trust", "trusted", "--idempotent", "--script", "other.py",
            "--require", "FILE_READ:/data/b", "--unrequire", "FILE_READ:/data/a",
            "--comment", "better",
        )  # fmt: skip
        assert (said.code, said.err) == (0, "")
        lines = [re.sub(" +", " ", line.strip()) for line in said.text.splitlines()]
        old, new = report.artifacts["entrypoint"], store().get(ONE).artifacts["entrypoint"]
        assert lines == [
            f"changed report@1.0.0 {ONE}", "version 1.0.0 → 1.1.0", "owner data team → me",
            "description none → new\\nline", "lifecycle draft → active",
            "trust untrusted → trusted", "requires + FILE_READ:/data/b",
            "requires - FILE_READ:/data/a", "idempotent no → yes",
            f"script main.py, sha256:{old} → other.py, sha256:{new}",
        ]  # fmt: skip
        found = store().find("report@1.1.0")
        assert found.revision is not None
        assert (found.owner, found.trust, found.revision.comment) == ("me", "trusted", "better")
        assert [str(c) for c in found.capabilities_required] == ["FILE_READ:/data/b"]
        assert store().load_entrypoint(found) == b"print('other')\n"
        assert store().verify() == []

    @pytest.mark.parametrize(
        "flags",
        [
            (), ("--owner", "data team"), ("--script", "main.py"), ("--not-idempotent",),
            ("--lifecycle", "draft", "--require", "FILE_READ:/x", "--unrequire", "FILE_READ:/x"),
        ],
    )  # fmt: skip
    def test_nothing_changed_and_nothing_written(
        self, cli: Cli, report: Component, flags: tuple[str, ...]
    ) -> None:
        before = tree(Path("registry"))
        said = cli("update", "report", *flags)
        assert (said.code, said.text) == (0, "report@1.0.0 stays as it is: nothing changed\n")
        assert loaded(cli("update", "report", *flags, "--json"))["changes"] == []
        assert tree(Path("registry")) == before

    def test_a_dry_run_shows_the_same_and_writes_nothing(self, cli: Cli, report: Component) -> None:
        Path("other.py").write_text("1\n")
        flags = ("--version", "1.1.0", "--script", "other.py", "--lifecycle", "active")
        before = tree(Path("registry"))
        said = cli("update", "report", *flags, "--dry-run")
        document = loaded(cli("update", "report", *flags, "--dry-run", "--json"))
        assert said.code == 0
        assert tree(Path("registry")) == before
        done = cli("update", "report", *flags)
        assert said.text.splitlines()[0] == f"would change report@1.0.0  {ONE}"
        assert said.text.splitlines()[1:] == done.text.splitlines()[1:]
        assert {change["field"] for change in document["changes"]} == {
            "version", "lifecycle", "script"
        }  # fmt: skip
        del document["component"]["revision"]
        assert document["component"].items() <= store().get(ONE).to_dict().items()

    def test_capabilities_from_a_file_replace_the_others(self, cli: Cli, report: Component) -> None:
        cli("update", "report", "--require", "FILE_READ:/a", "--require", "FILE_READ:/b")
        Path("caps.json").write_text('["FILE_READ:/b", "FILE_READ:/c"]')
        said = cli("update", "report", "--capabilities", "caps.json", "--require", "FILE_READ:/d",
                   "--json")  # fmt: skip
        (change,) = loaded(said)["changes"]
        assert change == {
            "field": "capabilities_required",
            "old": ["FILE_READ:/a", "FILE_READ:/b"],
            "new": ["FILE_READ:/b", "FILE_READ:/c", "FILE_READ:/d"],
        }

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--version", "0.9.0"), ("version `0.9.0` is lower than `1.0.0`",)),
            (("--lifecycle", "deprecated"), ("`draft` does not become `deprecated`", "`active`")),
            (("--lifecycle", "gone"), ("`--lifecycle`",)),
            (("--owner", ""), ("`--owner`",)),
            (("--unrequire", "FILE_READ:/x"), ("`FILE_READ:/x` is not among",)),
            (("--unrequire", "x"), ("`--unrequire`",)),
            (("--idempotent", "--not-idempotent"), ("contradict",)),
            (("--script", "none.py"), ("`none.py`",)),
            (("--version", "2.0.0"), ("`report@2.0.0` is component",)),
            (("--name", "other"), ("`--name` is not an option",)),
            (("--author", "\x07", "--owner", "z"), ("`--author`",)),
        ],
    )
    def test_what_the_store_would_refuse_a_dry_run_refuses(
        self, cli: Cli, report: Component, flags: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        store().add(Component.new(name="report", version="2.0.0", owner="x"))
        before = tree(Path("registry"))
        for extra in ((), ("--dry-run",)):
            refused(cli("update", "report@1.0.0", *flags, *extra), *words)
        assert tree(Path("registry")) == before

    def test_a_script_is_not_written_if_the_record_is_refused(
        self, cli: Cli, report: Component
    ) -> None:
        Path("other.py").write_text("1\n")
        before = tree(Path("registry"))
        refused(cli("update", "report", "--version", "0.1.0", "--script", "other.py"), "lower")
        refused(cli("update", "report", "--lifecycle", "retired", "--script", "other.py"),
                "is retired and no longer changes")  # fmt: skip
        assert tree(Path("registry")) == before

    def test_a_reference_that_fits_several_is_refused(self, cli: Cli, report: Component) -> None:
        store().add(Component.new(name="report", version="1.1.0", owner="x"))
        before = tree(Path("registry"))
        for command in ("update", "retire"):
            for reference in ("report", "report@^1.0", "report@>=1.0.0"):
                said = cli(command, reference, "--comment", "x")
                refused(said, f"`{reference}` fits 2", "`report@1.1.0`, `report@1.0.0`")
        assert tree(Path("registry")) == before
        for reference in ("report@^1.1", "report@1.1.0"):
            assert cli("update", reference, "--owner", reference).code == 0
        assert cli("retire", "report@1.1.0").code == 0
        assert cli("update", "report", "--owner", "me").code == 0  # the other one is retired

    def test_a_change_by_somebody_else_meanwhile(
        self, cli: Cli, report: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        update = FileStore.update
        monkeypatch.setattr(FileStore, "update", _after_another(update))
        said = cli("update", "report", "--owner", "me")
        refused(said, "it is at revision 4, the update is of 3", "run the command again")
        said = cli("update", "report", "--owner", "me", "--json")
        assert loaded(said)["error"]["details"]["reason"] == "conflict"
        monkeypatch.setattr(FileStore, "update", update)
        assert cli("update", "report", "--owner", "me").code == 0
        assert store().get(ONE).description == "revision 4 was seen"

    def test_a_script_alone_is_stored_and_the_other_change_told(
        self, cli: Cli, report: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("other.py").write_text("1\n")
        add_script = FileStore.add_script

        def late(self: FileStore, uuid: UUID, *rest: Any, **record: str) -> Component:
            self.update(replace(self.get(uuid), owner="somebody"))
            return add_script(self, uuid, *rest, **record)

        monkeypatch.setattr(FileStore, "add_script", late)
        said = cli("update", "report", "--script", "other.py")
        assert said.code == 0
        assert "somebody else changed it at the same time" in said.err
        assert re.search("owner +data team → somebody", said.text)
        assert store().load_entrypoint(store().get(ONE)) == b"1\n"

    def test_very_many_changes_are_cut_for_people_alone(self, cli: Cli, report: Component) -> None:
        wanted = [f"FILE_READ:/data/{number}" for number in range(250)]
        Path("caps.json").write_text(json.dumps(wanted))
        said = cli("update", "report", "--capabilities", "caps.json", "--dry-run")
        assert len(said.text.splitlines()) == 202
        assert "… and 50 more; `--json` has all" in said.text
        said = cli("update", "report", "--capabilities", "caps.json", "--json")
        assert sorted(loaded(said)["changes"][0]["new"]) == sorted(wanted)

    def test_a_retired_component_no_longer_changes(self, cli: Cli, report: Component) -> None:
        assert cli("retire", "report").code == 0
        for extra in ((), ("--dry-run",)):
            refused(cli("update", ONE, "--owner", "me", *extra), "is retired and no longer changes")


def _after_another(update: Callable[..., Component]) -> Callable[..., Component]:
    def slow(self: FileStore, component: Component, **record: str) -> Component:
        current = self.get(component.uuid)
        changed = replace(current, description=f"revision {current.revision_number} was seen")
        update(self, changed)
        return update(self, component, **record)

    return slow


class TestRetire:
    def test_it_is_final_and_says_so(self, cli: Cli, report: Component) -> None:
        before = tree(Path("registry"))
        said = cli("retire", "report", "--dry-run")
        assert said.code == 0
        assert "would change report@1.0.0" in said.text
        assert "this is final" in said.text
        assert tree(Path("registry")) == before
        said = cli("retire", "report", "--comment", "replaced")
        assert re.search(r"lifecycle +draft → retired", said.text)
        assert "this is final" in said.text
        found = store().find("report@1.0.0")
        assert found.revision is not None
        assert (found.lifecycle, found.revision.comment) == ("retired", "replaced")

    def test_twice_is_once(self, cli: Cli, report: Component) -> None:
        assert cli("retire", ONE).code == 0
        before = tree(Path("registry"))
        said = cli("retire", ONE)
        assert (said.code, said.text) == (0, "report@1.0.0 stays as it is: nothing changed\n")
        assert tree(Path("registry")) == before
        refused(cli("retire", "report"), "no component in use", "exact version")


class TestHistory:
    def test_revisions_and_what_changed(self, cli: Cli, report: Component) -> None:
        cli("update", "report", "--lifecycle", "active", "--require", "MEMORY:64MiB",
            "--author", "bob", "--comment", "ready")  # fmt: skip
        said = cli("history", "report")
        lines = [re.sub(" +", " ", line.strip()) for line in said.text.splitlines()]
        lines = [re.sub(r"20\S+Z|[0-9a-f]{64}", "…", line) for line in lines]
        assert lines == [
            f"report@1.0.0 {ONE}", "1 … add ann: new", "2 … put_policy ann: new",
            "policy none → version 1, sha256:…", "3 … add_script ann: new",
            "script none → main.py, sha256:…", "4 … update bob: ready", "lifecycle draft → active",
            "requires + MEMORY:64MiB",
        ]  # fmt: skip

    def test_json(self, cli: Cli, report: Component) -> None:
        document = loaded(cli("history", ONE, "--json"))
        assert (document["uuid"], document["reference"]) == (str(ONE), "report@1.0.0")
        first, second, third = document["revisions"]
        assert first["changes"] == []
        assert (second["number"], second["action"], second["comment"]) == (2, "put_policy", "new")
        policy = {"version": 1, "sha256": report.policy_sha256}
        assert second["changes"] == [{"field": "policy", "old": None, "new": policy}]
        assert [change["field"] for change in third["changes"]] == ["script"]

    def test_other_artifacts(self, cli: Cli, report: Component) -> None:
        digest = "0" * 64
        store().update(replace(report, artifacts={**report.artifacts, "model": digest}))
        assert re.search(rf"model +None → {digest}", cli("history", ONE).text)
        assert f"model        sha256:{digest}" in cli("show", ONE).text

    def test_a_retired_one_has_a_history(self, cli: Cli, report: Component) -> None:
        cli("retire", "report")
        assert "draft → retired" in cli("history", "report@1.0.0").text

    def test_a_past_that_was_changed(self, cli: Cli, report: Component) -> None:
        file = f"history/{ONE}/000001-component.json"
        (Path("registry") / file).write_bytes(b"{}")
        said = cli("history", "report")
        refused(said, f"`{file}`", code=120)
        assert said.out == b""


class TestRehearsal:
    """Dry runs, and what `add` and `update` try before they write."""

    def test_steps_see_what_those_before_them_wrote(self, report: Component) -> None:
        before = tree(Path("registry"))
        with pytest.raises(RegistryError) as caught:
            rehearse(store(), _two_of_one_name)
        assert caught.value.details["reason"] == "conflict"
        assert rehearse(store(), lambda on: on.retire(ONE)).revision_number == 4
        assert tree(Path("registry")) == before

    def test_what_looks_broken_is_looked_at_again_when_no_write_is_under_way(
        self, report: Component
    ) -> None:
        """A write that died half way is finished first, as by any other reader."""
        one = store()
        wanted = replace(report, owner="me")
        saved = tree(Path("registry"))
        one.update(wanted)
        done = tree(Path("registry"))
        change = journal.encode(_change_of(done))
        Path("registry/log").write_bytes(done["log"])
        Path(f"registry/components/{ONE}.json").write_bytes(saved[f"components/{ONE}.json"])
        Path("registry/.journal").write_bytes(change)
        found = rehearse(store(), lambda on: on.retire(ONE))
        assert (found.owner, found.revision_number) == ("me", 5)
        assert tree(Path("registry")) == done

    def test_what_is_broken_is_told(self, cli: Cli, report: Component) -> None:
        store().add(Component.new(name="other", version="1.0.0", owner="x"))
        log = Path("registry/log")
        log.write_bytes(log.read_bytes()[:-2] + b"x\n")
        for extra in ((), ("--dry-run",)):
            refused(cli("update", "report", "--owner", "me", *extra), "`log`", code=120)

    def test_only_on_what_has_the_stores_rules(self) -> None:
        with pytest.raises(TypeError, match="object"):
            rehearse(object(), lambda on: None)  # type: ignore[arg-type]


def _two_of_one_name(on: RegistryStore) -> Component:
    on.add(Component.new(name="new", version="1.0.0", owner="a"))
    return on.add(Component.new(name="new", version="1.0.0+linux", owner="b"))


def _change_of(files: dict[str, bytes]) -> Change:
    record = files[f"components/{ONE}.json"]
    line = LogLine.decode(files["log"][-LINE_BYTES:])
    assert line is not None
    return Change(component=Component.from_json(record), record=record, line=line)


class TestVerify:
    def test_a_whole_registry_and_its_head(self, cli: Cli, report: Component) -> None:
        head = store().head()
        said = cli("verify")
        assert (said.code, said.err) == (0, "")
        assert said.text.splitlines()[-1] == f"head {head.entries}:{head.sha256}"
        assert loaded(cli("verify", "--json")) == {
            "findings": [],
            "head": {"entries": 3, "sha256": head.sha256},
            "since": f"3:{head.sha256}",
        }

    def test_findings(self, cli: Cli, report: Component) -> None:
        Path(f"registry/policies/{ONE}.cedar.json").write_text("{}")
        Path("registry/components/\x1b[31mx").touch()
        os.chmod(f"registry/scripts/{ONE}/main.py", 0o664)
        said = cli("verify")
        refused(said, "3 findings", "backup", code=1)
        assert "head" not in said.text
        assert "\x1b" not in said.text
        found = [line.split()[:2] for line in said.text.splitlines()]
        assert found == [
            ["extra", "components/\\x1b[31mx"],
            ["changed", f"policies/{ONE}.cedar.json"],
            ["permissions", f"scripts/{ONE}/main.py"],
        ]
        said = cli("verify", "--json")
        assert said.code == 1
        document = loaded(said)
        assert [one["code"] for one in document["findings"]] == ["extra", "changed", "permissions"]
        assert set(document["findings"][0]) == {"file", "code", "message"}
        assert document["head"]["entries"] == 3

    def test_a_store_that_fails_is_no_finding(
        self, cli: Cli, report: Component, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(*_: object) -> Component:
            raise RegistryError("locked", details={"reason": "busy"}, hint="try again")

        monkeypatch.setattr(FileStore, "head", busy)
        refused(cli("verify"), "locked", code=125)

    def test_only_permissions_have_their_own_remedy(self, cli: Cli, report: Component) -> None:
        os.chmod("registry/log", 0o666)
        refused(cli("verify"), "1 finding", "chmod", code=1)

    def test_a_registry_set_back_as_a_whole(self, cli: Cli, report: Component, here: Path) -> None:
        subprocess.run(["cp", "-a", "registry", "before"], check=True)
        cli("update", "report", "--owner", "me")
        noted = loaded(cli("verify", "--json"))["since"]
        assert cli("verify", "--since", noted).code == 0
        cli("update", "report", "--owner", "you")
        assert cli("verify", "--since", noted).code == 0
        assert cli("verify", "--registry", "before").code == 0
        said = cli("verify", "--registry", "before", "--since", noted)
        refused(said, "1 finding", code=1)
        assert "rolled back" in said.text

    def test_a_log_that_is_broken_has_no_head(self, cli: Cli, report: Component) -> None:
        os.truncate("registry/log", 100)
        said = cli("verify", "--json")
        assert said.code == 1
        assert loaded(said)["head"] is None
        assert loaded(said)["since"] is None

    @pytest.mark.parametrize("since", ["", "3", "3:", "x:" + "0" * 64, "3:" + "0" * 63, "-1:0"])
    def test_a_head_that_is_none(self, cli: Cli, report: Component, since: str) -> None:
        refused(cli("verify", f"--since={since}"), f"`--since {since}` is not a head")


class TestWhere:
    @pytest.mark.parametrize("location", ["none", "empty", "sqlite:///{}/none.db"])
    @pytest.mark.parametrize(
        "arguments",
        [("list",), ("show", "a"), ("history", "a"), ("verify",), ("update", "a"), ("retire", "a")],
    )
    def test_a_registry_that_is_not_there_is_no_empty_one(
        self, cli: Cli, here: Path, arguments: tuple[str, ...], location: str
    ) -> None:
        Path("empty").mkdir()
        before = tree(here)
        named = location.format(here)
        refused(cli(*arguments, "--registry", named), "there is no registry at", "`--registry`")
        assert tree(here) == before
        assert sorted(path.name for path in here.iterdir()) == ["empty", "main.py", "policy.json"]

    def test_a_database_without_one_is_no_empty_one(self, cli: Cli, here: Path) -> None:
        sqlite3.connect("r.db").execute("CREATE TABLE t (x)").connection.close()
        for arguments in (("list",), ("verify",), ("update", "a")):
            said = cli(*arguments, "--registry", f"sqlite:///{here}/r.db")
            refused(said, "there is no registry in the database")
        location = ("--registry", f"sqlite:///{here}/r.db")
        assert cli("add", *BASICS, *location).code == 0
        with contextlib.closing(sqlite3.connect("r.db")) as database:
            database.execute("DELETE FROM omnibase_log")
            database.commit()
        refused(cli("verify", *location), "1 finding", code=1)

    def test_one_whose_log_was_removed_is_there(self, cli: Cli, report: Component) -> None:
        Path("registry/log").unlink()
        refused(cli("verify"), "1 finding", code=1)

    def test_a_location_that_is_empty_or_a_file(self, cli: Cli, report: Component) -> None:
        refused(cli("list", "--registry", ""), "location is empty")
        for command in (("list",), ("add", *BASICS)):
            refused(cli(*command, "--registry", "main.py"), "`main.py` is a file", "sqlite:///")

    def test_the_environment_names_it(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch, here: Path
    ) -> None:
        monkeypatch.setenv("OMNIBASE_REGISTRY", str(here / "deep" / "er"))
        assert cli("add", *BASICS).code == 0
        assert (here / "deep" / "er" / "components").is_dir()
        assert "report@1.0.0" in cli("list").text

    def test_a_directory_that_others_may_write(self, cli: Cli, report: Component) -> None:
        os.chmod("registry/components", 0o775)
        for arguments in (("show", "report"), ("update", "report", "--owner", "x"), ("list",)):
            refused(cli(*arguments), "`components`", "chmod go-w", code=120)
        assert cli("verify").code == 1
        os.chmod("registry/components", 0o755)
        assert cli("verify").code == 0

    def test_the_whole_life_in_a_database(self, cli: Cli, here: Path) -> None:
        location = ("--registry", f"sqlite:///{here}/r.db")
        assert cli("add", *BASICS, "--script", "main.py", "--dry-run", *location).code == 0
        assert not Path("r.db").exists()
        flags = ("--script", "main.py", "--policy", "policy.json")
        assert cli("add", *BASICS, *flags, *location).code == 0
        assert cli("update", "report", "--lifecycle", "active", "--dry-run", *location).code == 0
        assert "nothing changed" in cli("update", "report", *location).text
        assert cli("update", "report", "--lifecycle", "active", *location).code == 0
        assert "report@1.0.0" in cli("list", *location).text
        assert "active" in cli("show", "report", *location).text
        assert cli("retire", "report", *location).code == 0
        assert "draft → active" in cli("history", ONE, *location).text
        assert cli("verify", *location).text.splitlines()[-1].startswith("head 5:")
        assert not Path("registry").exists()

    def test_a_database_that_cannot_be_had(self, cli: Cli, here: Path) -> None:
        refused(cli("list", "--registry", "mysql://u:secret@h/d"), "`mysql` is not supported")
        refused(cli("list", "--registry", "://"), "malformed")
        said = cli("add", *BASICS, "--registry", "sqlite:////nonexistent/r.db")
        refused(said, "database cannot be used", code=125)
        assert "secret" not in said.err

    def test_without_sqlalchemy_the_extra_is_named(self) -> None:
        program = (
            "import sys; sys.modules['sqlalchemy'] = None\n"
            "from omnibase.cli import main\n"
            "sys.exit(main(['registry', 'list', '--registry', 'sqlite:////tmp/none.db']))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2
        assert "omnibase[sql]" in done.stderr


@pytest.mark.parametrize(
    "command", ["add", "list", "show", "update", "retire", "history", "verify"]
)
def test_help_has_examples_and_the_documentation_every_flag(cli: Cli, command: str) -> None:
    said = cli(command, "--help")
    assert (said.code, said.err) == (0, "")
    assert f"examples:\n  omnibase registry {command}" in said.text
    document = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert f"`omnibase registry {command}" in document
    section = document.partition("## `omnibase registry")[2].partition("\n## ")[0]
    for flag in set(
        re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", said.text.partition("exit codes:")[0])
    ) - {"--help"}:
        assert f"`{flag}" in section, flag


def test_the_examples_in_the_help_are_real(cli: Cli, report: Component) -> None:
    """Each example is taken by its own parser: an option that went away would be refused."""
    from omnibase.cli.registry import _EPILOGS

    Path("report.json").write_text('{"name": "r", "version": "1.0.0", "owner": "a"}')
    Path("caps.json").write_text("[]")
    for epilog in _EPILOGS.values():
        for line in epilog.splitlines():
            if line.startswith("  omnibase registry ") and "$(" not in line:
                said = cli(*shlex.split(line)[2:])
                assert "is not an option" not in said.err, line
                assert "argument too many" not in said.err, line


def test_a_command_is_a_process(report: Component) -> None:
    said = omnibase("registry", "show", ONE, "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out)["reference"] == "report@1.0.0"
    said = omnibase("registry", "verify", "--", "x")
    assert said.code == 2


def test_ctrl_c_while_another_holds_the_lock(report: Component) -> None:
    import fcntl

    with open("registry/.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with started("registry", "update", "report", "--owner", "me") as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            process.communicate()
    assert store().get(ONE).owner == "data team"
