"""`omnibase policy`, typed as a security engineer and a pipeline type it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import omnibase as package
from omnibase.cli import main
from omnibase.cli.policy_changes import MAX_CONTEXTS
from omnibase.core.events import (
    Emitter,
    EventBus,
    JsonlSink,
    MonitorGap,
    PolicyDecided,
)
from omnibase.core.events.model import MAX_LINE_BYTES
from omnibase.core.registry import Component, Lifecycle, Trust
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.registries import open_registry
from tests.helpers.cli import COMMAND, NO_RUNTIME, Said, omnibase
from tests.helpers.components import OneComponent
from tests.helpers.policies import cedar_of

ONE = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
TWO = UUID("7d2c1b5e-0a4f-4c3e-9f6b-1e8a5d7c2b90")
EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"
DOCUMENT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

DATA = '@id("data") @reason("the team") permit FileRead when { resource.path like "/data/*" }'
SECRET = (
    '@id("secret") @reason("salaries") forbid FileRead when { resource.path like "/data/secret/*" }'
)
EMPTY = '{"staticPolicies": {}, "templates": {}, "templateLinks": []}'

Cli = Callable[..., Said]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, and a machine without a runtime."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIBASE_REGISTRY", raising=False)
    monkeypatch.setenv("SUDO_USER", "ann")
    monkeypatch.setenv("RUNSC", NO_RUNTIME["RUNSC"])
    return tmp_path


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command of the group in this process."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = main(["policy", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Said(code=code, out=out.encode(), err=err)

    return run


@pytest.fixture
def report(here: Path) -> OneComponent:
    """`report@1.0.0`, which asks for a file, in `./registry`; it has no policy yet."""
    return OneComponent(
        here / "registry", b"print('hello')\n", requires=["FILE_READ:/data/x"],
        lifecycle=Lifecycle.ACTIVE,
    )  # fmt: skip


def cedar(path: str, *texts: str, principal: UUID = ONE) -> str:
    """Writes a policy file from short Cedar; returns its name."""
    Path(path).write_text(cedar_of(principal, texts))
    return path


def with_policy(report: OneComponent, *texts: str) -> OneComponent:
    """Gives the component its next policy."""
    report.put_policy(*texts)
    return report


def lines(said: Said) -> list[str]:
    """The lines of standard output, runs of spaces made one, without examples of a pattern."""
    found = (re.sub(" +", " ", line) for line in said.text.splitlines())
    return [re.sub("( of it), e.g. .*", r"\1", line) for line in found]


# --- as typed ----------------------------------------------------------------------------


COMMANDS = (
    "validate", "lint", "check", "explain", "diff", "test", "import", "show", "history",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_documentation_name_every_flag(cli: Cli, command: str) -> None:
    said = cli(command, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.text.startswith(f"usage: omnibase policy {command}")
    assert f"examples:\n  omnibase policy {command}" in said.text
    assert f"omnibase policy {command}" in DOCUMENT
    text = said.text.partition("\nexit codes:")[0]
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\w", text)) - {"--help"}
    assert "--json" in flags
    section = DOCUMENT.partition("## `omnibase policy …`")[2].partition("\n## ")[0]
    assert not {flag for flag in flags - {"--events"} if f"`{flag}" not in section}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_looks_for_a_runtime(report: OneComponent, command: str) -> None:
    with_policy(report, DATA)
    path = cedar("x.cedar", DATA, principal=report.uuid)
    Path("x.tests.json").write_text(
        '{"version": 1, "cases": [{"request": "FILE_READ:/data/x", "expect": "allow"}]}'
    )
    rest = {
        "validate": [path], "lint": ["report"], "check": ["report"],
        "explain": ["report", "FILE_READ:/data/x"], "diff": ["report", path], "test": [path],
        "import": ["report", path], "show": ["report"], "history": ["report"],
    }  # fmt: skip
    said = omnibase("policy", command, *rest[command], **NO_RUNTIME)
    assert (said.code, said.err) == (0, "")
    assert said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["check"], "`POLICY` is missing"),
        (["explain", "./x.cedar"], "`CAPABILITY` is missing"),
        (["diff", "./x.cedar"], "`NEW` is missing"),
        (["validate"], "`FILE` is missing"),
        (["check", "./x.cedar", "--trust", "trusted", "--trust", "trusted"], "given twice"),
        (["diff", "./x.cedar", "./x.cedar", "--replay", "a", "--replay", "b"], "given twice"),
        (["import", "report", "./x.cedar", "--author", "a", "--author", "b"], "given twice"),
        (["show", "./x.cedar", "--cedr"], "did you mean `--cedar`?"),
        (["show", "./x.cedar", "--cedar", "--json"], "two forms"),
        (["check", "./x.cedar"], "there is nothing to decide"),
        (["check", "./x.cedar", "FILE_RED:/x"], "did you mean `FILE_READ`?"),
        (["explain", "./x.cedar", "FILE_READ:x/../y"], "`x/../y` is not an absolute path"),
        (["explain", "./x.cedar", "nonsense"], "`nonsense` is not a capability"),
        (["check", "./x.cedar", "FILE_READ:/x", "--trust", "very"], "`very` is no trust"),
        (["check", "./x.cedar", "FILE_READ:/x", "--lifecycle", "new"], "`new` is no lifecycle"),
        (["check", "./x.cedar", "FILE_READ:/x", "--environment", ""], "no name of an environment"),
        (["diff", "./x.cedar", "./x.cedar", "--trust", "very"], "`very` is no trust"),
        (["validate", "./x.cedar", "--component", "report"], "`--component report` is not a uuid"),
        (["import", "report", "./x.cedar", "--expected-version", "-1"], "`--expected-version"),
        (["check", "./x.cedar", "--capabilities", "/nope"], "`/nope`: cannot read it"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_and_is_2(cli: Cli, arguments: list[str], told: str) -> None:
    cedar("x.cedar", DATA)
    said = cli(*arguments)
    assert (said.code, said.out) == (2, b"")
    assert told in said.err


def test_options_stand_anywhere(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    said = cli("check", "./x.cedar", "--trust", "trusted", "FILE_READ:/data/x")
    assert (said.code, said.err) == (0, "")


# --- which policy ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lint", "show"])
def test_no_policy_is_nothing_to_look_at(cli: Cli, report: OneComponent, command: str) -> None:
    said = cli(command, "report")
    assert said.code == 2 and "`report@1.0.0` has no policy" in said.err
    assert f"omnibase policy import {report.uuid} FILE" in said.err


def test_no_policy_denies_and_says_what_would_permit(cli: Cli, report: OneComponent) -> None:
    said = cli("check", "report", "FILE_READ:/data/x")
    assert said.code == 120 and "by report@1.0.0, which has no policy" in said.text
    told = cli("explain", "report", "FILE_READ:/data/**")
    assert told.code == 0 and told.err == ""
    (line,) = [one for one in lines(told) if "permit(" in one]
    assert f'Component::"{report.uuid}"' in line
    Path("first.cedar").write_text(line)
    assert cli("diff", "report", "./first.cedar").code == 1
    assert cli("import", "report", "./first.cedar").code == 0
    assert cli("check", "report", "FILE_READ:/data/**").code == 0


@pytest.mark.parametrize("command", ["lint", "check", "show", "explain", "diff"])
@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("nobody", "no component in use is called `nobody`"),
        (str(TWO), f"there is no component `{TWO}`"),
        ("report#1", "`report@1.0.0` has no policy"),
        ("report#x", "`report#x` names no version of a policy"),
        ("report#0", "`report@1.0.0` has no policy"),
    ],
)
def test_a_policy_that_is_not_there(
    cli: Cli, report: OneComponent, command: str, reference: str, told: str
) -> None:
    more = {"explain": ["FILE_READ:/x"], "check": ["FILE_READ:/x"], "diff": [reference]}
    said = cli(command, reference, *more.get(command, []))
    assert said.code == 2
    assert told in said.err
    assert "hint: " in said.err


def test_a_component_is_named_in_all_ways(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA)
    with_policy(report, DATA, SECRET)
    for reference in ("report", "report@1.0.0", "report@^1", str(report.uuid), "report#2"):
        assert lines(cli("check", reference))[-1].startswith("1 granted, 0 masked, 0 denied, by re")
    request = "FILE_READ:/data/secret/x"
    assert cli("check", "report", request).code == 120
    assert cli("check", "report#1", request).code == 0
    assert "no policy version `3`" in cli("check", "report#3", request).err


def test_a_registry_that_is_not_there_is_no_empty_one(cli: Cli, tmp_path: Path) -> None:
    for command in (["lint", "report"], ["history", "report"], ["import", "report", "x.cedar"]):
        said = cli(*command, "--registry", tmp_path / "typo")
        assert said.code == 2
        assert "there is no registry at" in said.err
        assert not (tmp_path / "typo").exists()


def test_files_need_no_registry(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    assert cli("lint", "x.cedar", "--registry", "nowhere").code == 0
    assert not Path("nowhere").exists()


def test_a_registry_in_a_database(cli: Cli, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    store = open_registry(url)
    new = Component.new(name="report", version="1.0.0", owner="tests", uuid=ONE)
    store.add(new)
    store.close()
    path = cedar("x.cedar", DATA)
    assert cli("import", "report", path, "--registry", url, "--comment", "first").code == 0
    assert cli("check", "report", "FILE_READ:/data/x", "--registry", url).code == 0
    (line,) = lines(cli("history", "report", "--registry", url))
    assert line.startswith("current #1 ")
    assert line.endswith(" first")


def tamper(report: OneComponent) -> str:
    """Edits the policy behind the registry's back; returns the file's name in it."""
    name = f"policies/{report.uuid}.cedar.json"
    path = report.directory / name
    path.write_bytes(path.read_bytes().replace(b"/data/", b"/"))
    return name


@pytest.mark.parametrize(
    "arguments",
    [
        ["lint", "report"],
        ["check", "report"],
        ["explain", "report", "FILE_READ:/etc/passwd"],
        ["diff", "report", "./x.cedar"],
        ["diff", "./x.cedar", "report"],
        ["test", "./x.cedar", "--policy", "report"],
        ["import", "report", "./x.cedar"],
        ["show", "report"],
    ],
)
def test_a_policy_that_was_tampered_with_decides_nothing(
    cli: Cli, report: OneComponent, arguments: list[str]
) -> None:
    with_policy(report, DATA)
    cedar("x.cedar", DATA, principal=report.uuid)
    name = tamper(report)
    said = cli(*arguments)
    assert said.code == 120
    assert f"`{name}`" in said.err
    assert b"/etc" not in said.out
    found = json.loads(cli(*arguments, "--json").out)
    if "error" not in found:
        (found,) = found["policies"]  # `lint` tells of each by itself
    assert (found["error"]["type"], found["error"]["details"]["file"]) == ("PolicyError", name)


# --- validate ----------------------------------------------------------------------------


def test_valid_files_are_told_with_their_digests(cli: Cli) -> None:
    cedar("x.cedar", DATA, SECRET)
    shown = cli("show", "x.cedar").text
    Path("y.cedar.json").write_text(shown)
    said = cli("validate", "x.cedar", "y.cedar.json")
    assert (said.code, said.err) == (0, "")
    digest = subprocess.run(
        ["sha256sum", "y.cedar.json"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert lines(said) == [
        f"ok x.cedar 2 policies sha256 {digest} {ONE}",
        f"ok y.cedar.json 2 policies sha256 {digest} {ONE}",
    ]
    found = json.loads(cli("validate", "x.cedar", "--json").out)["files"]
    assert found == [
        {
            "file": "x.cedar", "ok": True, "source": "x.cedar", "component": str(ONE),
            "version": None, "sha256": digest, "policies": 2, "error": None,
        }
    ]  # fmt: skip


def test_all_files_are_tried_and_the_first_error_is_the_code(cli: Cli, tmp_path: Path) -> None:
    cedar("good.cedar", DATA)
    cedar("bad.cedar", DATA.replace("like", "<"))
    os.mkfifo("fifo.cedar")
    Path("directory.cedar").mkdir()
    with open("huge.cedar.json", "wb") as file:
        file.truncate(50 << 20)
    Path("latin.cedar").write_bytes(b"// \xe9\n")
    Path("latin.cedar.json").write_bytes(b'{"\xe9": 1}')
    Path("bom.json").write_bytes(b"\xef\xbb\xbf" + EMPTY.encode())
    Path("empty.cedar.json").write_bytes(b"")
    names = (
        "missing.cedar", "fifo.cedar", "directory.cedar", "huge.cedar.json", "latin.cedar",
        "latin.cedar.json", "bom.json", "empty.cedar.json", "bad.cedar", "good.cedar",
    )  # fmt: skip
    said = cli("validate", *names)
    assert said.code == 2
    assert [line.split()[:2] for line in lines(said)] == [
        *(["no", name] for name in names[:-1]), ["ok", "good.cedar"],
    ]  # fmt: skip
    for told in (
        "`missing.cedar`: cannot read it", "`fifo.cedar`: it is not a regular file",
        "`directory.cedar`: it is a directory", "`huge.cedar.json`: it is larger than",
        "`latin.cedar`, line 1: byte `0xe9` is not UTF-8", "byte order mark",
        "`latin.cedar.json`, line 1, column 3: byte `0xe9` is not UTF-8", "`empty.cedar.json`",
    ):  # fmt: skip
        assert told in said.err
    assert cli("validate", "bad.cedar", "missing.cedar").code == 2
    errors = [one["error"] for one in json.loads(cli("validate", *names, "--json").out)["files"]]
    assert errors.count(None) == 1


def test_a_refusal_names_file_policy_place_and_what_is_allowed(cli: Cli) -> None:
    cedar("x.cedar", DATA, '@id("wide") permit NetworkConnect when { resource.host < 3 }')
    said = cli("validate", "x.cedar")
    assert said.code == 2
    # Place and words of the JSON form would be no help in a file of another form.
    assert re.search(r" `x\.cedar`, line 2, column \d+: policy `wide`: `resource\.host` ", said.err)
    assert "staticPolicies" not in said.err
    assert "hint: allowed here: `==`, `like`" in said.err
    Path("x.json").write_text(cli("show", cedar("y.cedar", DATA)).text.replace("use", "ab"))
    said = cli("validate", "x.json")
    assert "`x.json`, line 16, column 11: policy `data`, `$.staticPolicies.data.act" in said.err
    error = json.loads(cli("validate", "x.cedar", "--json").out)["files"][0]["error"]
    assert error["details"]["policy"] == "wide"
    assert error["details"]["json_path"].startswith("$.staticPolicies.wide.conditions[0].body")


def test_the_component_can_be_forced(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    assert cli("validate", "x.cedar", "--component", ONE).code == 0
    said = cli("validate", "x.cedar", "--component", TWO)
    assert said.code == 2
    assert f'"{TWO}"' in said.err
    # The file's name says whose it is, too.
    os.rename("x.cedar", f"{TWO}.cedar")
    assert cli("validate", f"{TWO}.cedar").code == 2
    Path("none.json").write_text(EMPTY)
    assert "names no component" in cli("validate", "none.json").text


def test_nothing_in_a_file_acts_on_the_terminal(cli: Cli) -> None:
    odd = "x\x1b[2J\u202e.cedar.json"
    Path(odd).write_text('{"staticPolicies": {"\\u001b]0;a\\u0007": {}, "\x9b": 1}}')
    for arguments in (["validate", odd], ["lint", odd], ["validate", odd, "--json"]):
        said = cli(*arguments)
        assert said.code == 2
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said.text + said.err)


# --- lint --------------------------------------------------------------------------------


def test_findings_are_told_and_are_1(cli: Cli) -> None:
    cedar("x.cedar", '@id("all") permit FileRead', '@id("no") forbid Memory when '
          "{ resource.bytes > 5 }")  # fmt: skip
    cedar("y.cedar", DATA, SECRET)
    said = cli("lint", "x.cedar", "y.cedar")
    assert said.code == 1
    assert lines(said) == [
        "x.cedar OBP001 all permit without a condition",
        "x.cedar OBP007 no forbid without a reason",
        "y.cedar ok",
        "2 findings in 2 documents",
    ]
    assert '@lint_ignore("OBP001")' in said.err
    found = json.loads(cli("lint", "x.cedar", "y.cedar", "--json").out)
    assert found["findings"] == 2
    assert [one["code"] for one in found["policies"][0]["findings"]] == ["OBP001", "OBP007"]
    assert found["policies"][1]["findings"] == []


def test_what_is_meant_is_silenced(cli: Cli) -> None:
    cedar("x.cedar", '@id("all") @lint_ignore("OBP001, OBP002") permit FileRead')
    said = cli("lint", "x.cedar")
    assert (said.code, said.err) == (0, "")


def test_a_policy_that_cannot_be_linted_does_not_hide_the_others(cli: Cli) -> None:
    cedar("x.cedar", '@id("all") permit FileRead')
    said = cli("lint", "missing.cedar", "x.cedar")
    assert said.code == 2
    assert lines(said)[:2] == [
        "missing.cedar refused", "x.cedar OBP001 all permit without a condition",
    ]  # fmt: skip


def test_a_component_is_linted(cli: Cli, report: OneComponent) -> None:
    with_policy(report, '@id("all") permit FileRead')
    said = cli("lint", "report")
    assert said.code == 1
    assert lines(said)[0] == "report@1.0.0#1 OBP001 all permit without a condition"


# --- check -------------------------------------------------------------------------------


def test_each_request_is_decided(cli: Cli) -> None:
    cedar("x.cedar", DATA, SECRET)
    said = cli("check", "x.cedar", "FILE_READ:/data/**", "FILE_READ:/data/x", "FILE_WRITE:/data/x",
               "FILE_READ:/data/secret/x")  # fmt: skip
    assert said.code == 120
    assert lines(said) == [
        "masked FILE_READ:/data/** permitted by `data`, without `/data/secret/**`",
        " mask /data/secret/**: policy `secret`: salaries",
        " witness /data/secret/b is denied",
        " permit `data`: the team",
        " forbid `secret`: salaries",
        "denied FILE_READ:/data/secret/x policy `secret` (salaries) forbids `/data/secret/x`",
        " witness /data/secret/x is denied",
        " forbid `secret`: salaries",
        "granted FILE_READ:/data/x permitted by `data`",
        " permit `data`: the team",
        "denied FILE_WRITE:/data/x no policy permits `FILE_WRITE` of `/data/x`",
        " witness /data/x is denied",
        "1 granted, 1 masked, 2 denied, by x.cedar "
        "(trust untrusted, lifecycle active, environment default)",
    ]
    assert "2 capabilities of 4 are denied" in said.err
    assert "omnibase policy explain x.cedar FILE_READ:/data/secret/x" in said.err


def test_masked_is_granted(cli: Cli) -> None:
    cedar("x.cedar", DATA, SECRET)
    said = cli("check", "x.cedar", "FILE_READ:/data/**", "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["policy"]["component"] == str(ONE)
    assert [one["outcome"] for one in found["verdicts"]] == ["masked"]
    assert found["verdicts"][0]["masks"][0]["pattern"] == "/data/secret/**"


def test_what_a_component_requires_is_the_default(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA)
    said = cli("check", "report")
    assert (said.code, said.err) == (0, "")
    assert lines(said)[0] == "granted FILE_READ:/data/x permitted by `data`"
    report.update(capabilities_required=CapabilitySet.parse(["FILE_READ:/etc/x"]))
    assert cli("check", "report").code == 120
    report.update(capabilities_required=CapabilitySet())
    assert lines(cli("check", "report")) == [
        "0 granted, 0 masked, 0 denied, by report@1.0.0#1 "
        "(trust untrusted, lifecycle active, environment default)"
    ]


def test_the_opt_out_is_left_to_the_run_that_asks_for_it(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA)
    needed = ["FILE_READ:/data/x", "EXTERNAL_COMMAND:host-python"]
    report.update(capabilities_required=CapabilitySet.parse(needed), trust=Trust.TRUSTED)
    said = cli("check", "report")
    assert said.code == 0
    assert "EXTERNAL_COMMAND:host-python" not in said.text
    assert "`EXTERNAL_COMMAND:host-python` is left out" in said.err


def test_a_file_of_capabilities_adds_to_those_named(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    Path("caps.json").write_text('["FILE_READ:/data/a", "FILE_READ:/etc/b"]')
    said = cli("check", "x.cedar", "FILE_READ:/data/c", "--capabilities", "caps.json")
    assert said.code == 120
    assert lines(said)[-1].startswith("2 granted, 0 masked, 1 denied")
    Path("caps.json").write_text('["FILE_READ:../x"]')
    said = cli("check", "x.cedar", "--capabilities", "caps.json")
    assert (said.code, said.out) == (2, b"")
    assert "`caps.json`, line 1" in said.err


CONDITIONAL = (
    '@id("data") permit FileRead when { resource.path like "/data/*" } '
    'when { context.trust == "trusted" && context.lifecycle == "active" '
    '&& context.environment == "production" }'
)


def test_circumstances_are_given_or_the_components(cli: Cli, report: OneComponent) -> None:
    with_policy(report, CONDITIONAL)
    path = cedar("x.cedar", CONDITIONAL)
    request = "FILE_READ:/data/x"
    all_of_it = ("--trust", "trusted", "--environment", "production")
    assert cli("check", path, request).code == 120
    assert cli("check", path, request, *all_of_it).code == 0
    assert cli("check", path, request, *all_of_it, "--lifecycle", "draft").code == 120
    assert cli("check", "report", "--environment", "production").code == 120
    report.update(trust=Trust.TRUSTED)
    assert cli("check", "report", "--environment", "production").code == 0
    assert cli("check", "report", "--environment", "production", "--trust", "untrusted").code == 120
    assert cli("explain", "report", request, *all_of_it).text.startswith("granted")


# --- explain -----------------------------------------------------------------------------


def test_why_and_what_would_flip_it(cli: Cli) -> None:
    cedar("x.cedar", DATA, SECRET)
    said = cli("explain", "x.cedar", "FILE_READ:/data/secret/x")
    assert (said.code, said.err) == (0, "")
    assert lines(said) == [
        "denied FILE_READ:/data/secret/x policy `secret` (salaries) forbids `/data/secret/x`",
        " witness /data/secret/x is denied",
        " forbid `secret`: salaries",
        " decided by x.cedar",
        " for trust untrusted, lifecycle active, environment default",
        "the smallest change that would grant it:",
        " to policy `secret` add",
        ' unless { resource.path == "/data/secret/x" }',
    ]
    # Done as it says, it is granted.
    text = Path("x.cedar").read_text().rstrip().removesuffix(";")
    Path("x.cedar").write_text(f'{text}\nunless {{ resource.path == "/data/secret/x" }};')
    assert cli("check", "x.cedar", "FILE_READ:/data/secret/x").code == 0


def test_a_change_can_be_pasted(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    for request, code in (("NETWORK_CONNECT:*.example.com:443", 0), ("FILE_READ:/data/x", 120)):
        said = cli("explain", "x.cedar", request)
        assert said.code == 0
        with open("x.cedar", "a") as file:
            file.write(lines(said)[-1] + "\n")
        assert cli("check", "x.cedar", request).code == code


def test_what_no_single_change_flips_is_told(cli: Cli) -> None:
    # More forbids than one answer names.
    forbids = [
        f'@id("f{i}") forbid FileRead when {{ resource.path like "/data/*" }}' for i in range(30)
    ]
    cedar("x.cedar", DATA, *forbids)
    said = cli("explain", "x.cedar", "FILE_READ:/data/x")
    assert said.code == 0
    assert lines(said)[-1] == "no single change of this policy would grant it"
    found = json.loads(cli("explain", "x.cedar", "FILE_READ:/data/x", "--json").out)
    assert found["changes"] == []
    assert found["verdict"]["outcome"] == "denied"
    assert found["context"] == {
        "trust": "untrusted", "lifecycle": "active", "environment": "default",
    }  # fmt: skip


def test_a_file_that_names_nobody_is_told(cli: Cli) -> None:
    Path("none.json").write_text(EMPTY)
    said = cli("explain", "none.json", "FILE_READ:/x")
    assert (said.code, said.text.split()[0]) == (0, "denied")
    assert "`none.json` has no policy and names no component" in said.err


# --- diff --------------------------------------------------------------------------------


def test_what_becomes_granted_and_denied(cli: Cli) -> None:
    cedar("old.cedar", DATA, '@id("t") permit FileRead when { resource.path like "/tmp/*" }')
    cedar("new.cedar", DATA, SECRET, '@id("m") permit Memory when { resource.bytes <= 1000 }')
    pair = ("old.cedar", "new.cedar")
    said = cli("diff", *pair)
    assert (said.code, said.err) == (1, "")
    assert lines(said)[2:] == [
        "in all circumstances",
        " denied FILE_READ:/tmp/** all of it",
        " denied FILE_READ:/data/secret/** all of it",
        " granted MEMORY:1KB all of it",
    ]
    found = json.loads(cli("diff", "old.cedar", "new.cedar", "--json").out)
    assert (found["old"]["source"], found["new"]["source"]) == pair
    assert found["contexts"] == 1
    assert found["replay"] is None
    (change,) = found["changes"]
    assert [one["change"] for one in change["differences"]] == ["denied", "denied", "granted"]
    for one in change["differences"]:
        assert one["whole"]
        kind = one["capability"].partition(":")[0]
        assert f"e.g. {one['witness']}\n" in said.text
        codes = [cli("check", path, f"{kind}:{one['witness']}").code for path in pair]
        assert codes == ([120, 0] if one["change"] == "granted" else [0, 120])


def test_what_changes_in_part_is_told_so(cli: Cli) -> None:
    odd = '@id("odd") forbid FileRead when { resource.path like "/data/*.k" }'
    cedar("old.cedar", DATA)
    cedar("new.cedar", DATA, odd)
    said = cli("diff", "old.cedar", "new.cedar")
    assert said.code == 1
    assert any("some of it, e.g. /data/" in line for line in said.text.splitlines())


def test_what_is_too_complex_to_compare_is_a_difference(cli: Cli) -> None:
    star = " && ".join(f'resource.path like "/data/*{i}*a*{i}*b*"' for i in range(20))
    cedar("old.cedar", DATA)
    cedar("new.cedar", f'@id("x") permit FileRead when {{ {star} }}')
    said = cli("diff", "old.cedar", "new.cedar")
    assert said.code == 1
    assert " undecided FILE_READ too complex to be compared" in lines(said)


def test_policies_that_say_the_same_do_not_differ(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA, SECRET)
    cedar("x.cedar", SECRET, DATA, DATA.replace('"data"', '"again"'), principal=report.uuid)
    said = cli("diff", "report", "x.cedar")
    assert (said.code, said.err) == (0, "")
    assert lines(said)[-1] == "they grant and deny the same"
    assert json.loads(cli("diff", "report", "x.cedar", "--json").out)["changes"] == []


def test_circumstances_that_differ_alike_are_said_once(cli: Cli) -> None:
    cedar("old.cedar", DATA)
    cedar(
        "new.cedar", DATA,
        SECRET + ' when { context.environment == "production" || context.environment == "ci" }',
        '@id("t") permit Memory when { context.trust == "trusted" && resource.bytes < 5 }',
    )  # fmt: skip
    said = cli("diff", "old.cedar", "new.cedar")
    assert said.code == 1
    denied = " denied FILE_READ:/data/secret/** all of it"
    granted = " granted MEMORY:4B all of it"
    assert lines(said)[2:] == [
        "trust untrusted or semi_trusted, environment ci or production",
        denied,
        "trust trusted, environment any other",
        granted,
        "trust trusted, environment ci or production",
        denied,
        granted,
    ]
    found = json.loads(cli("diff", "old.cedar", "new.cedar", "--json").out)
    assert (found["contexts"], found["other_environment"]) == (9, "default")


def test_given_circumstances_are_fixed_and_the_others_are_not(cli: Cli) -> None:
    cedar("old.cedar", DATA)
    cedar("new.cedar", DATA, CONDITIONAL.replace('"data"', '"more"').replace("/data/", "/more/"))
    granted = " granted FILE_READ:/more/** all of it"
    said = cli("diff", "old.cedar", "new.cedar", "--environment", "production")
    assert said.code == 1
    assert lines(said)[2:] == [
        "trust trusted, lifecycle active, environment production", granted,
    ]  # fmt: skip
    assert cli("diff", "old.cedar", "new.cedar", "--environment", "test").code == 0
    assert cli("diff", "old.cedar", "new.cedar", "--trust", "untrusted").code == 0


def test_too_many_circumstances_are_refused_not_sampled(cli: Cli) -> None:
    many = [
        f'@id("p{i}") permit FileRead when {{ context.environment == "e{i}" }}'
        for i in range(MAX_CONTEXTS)
    ]
    cedar("old.cedar", *many[1:])
    cedar("new.cedar", *many)
    said = cli("diff", "old.cedar", "new.cedar")
    assert (said.code, said.out) == (2, b"")
    assert "--environment NAME" in said.err
    assert cli("diff", "old.cedar", "new.cedar", "--environment", "e1").code == 0
    assert cli("diff", "old.cedar", "new.cedar", "--environment", "e0").code == 1


def test_policies_of_two_components_are_compared_and_that_is_told(cli: Cli) -> None:
    cedar("one.cedar", DATA)
    cedar("two.cedar", DATA, principal=TWO)
    said = cli("diff", "one.cedar", "two.cedar")
    assert said.code == 0
    assert "different components" in said.err


def test_a_file_that_names_nobody_is_the_others(cli: Cli) -> None:
    cedar("one.cedar", DATA)
    Path("none.json").write_text(EMPTY)
    for pair in (("one.cedar", "none.json"), ("none.json", "one.cedar")):
        said = cli("diff", *pair, "--json")
        assert (said.code, said.err) == (1, "")
        found = json.loads(said.out)
        assert found["old"]["component"] == found["new"]["component"] == str(ONE)


# --- diff --replay -----------------------------------------------------------------------


class Audit:
    """A file of events, as runs leave it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.runs: list[str] = []

    def decided(self, component: UUID = ONE, **fields: Any) -> str:
        """Records what a policy decided; returns the run's id."""
        bus = EventBus()
        bus.subscribe(JsonlSink(self.path))
        emitter = Emitter(bus, subject="report@1.0.0")
        emitter.componentid = str(component)
        plain = {"trust": "untrusted", "lifecycle": "active", "environment": "default"}
        emitter.emit(PolicyDecided(**{**plain, **fields}))
        bus.close()
        self.runs.append(emitter.runid)
        return emitter.runid

    def raw(self, data: bytes) -> None:
        """Appends something that is no event."""
        with open(self.path, "ab") as file:
            file.write(data)


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit("audit.jsonl")


def granted(*capabilities: str, masks: Iterable[str] = ()) -> dict[str, Any]:
    """Fields of a decision that grants what is asked for."""
    return {"requested": capabilities, "granted": capabilities, "masks": tuple(masks)}


def test_runs_that_would_have_gone_otherwise(cli: Cli, audit: Audit) -> None:
    cedar("old.cedar", DATA)
    cedar("new.cedar", DATA, SECRET)
    audit.decided(**granted("FILE_READ:/data/x"))
    lost = audit.decided(**granted("FILE_READ:/data/secret/x", "FILE_READ:/data/x"))
    masked = audit.decided(**granted("FILE_READ:/data/**"))
    same = audit.decided(**granted("FILE_READ:/data/**", masks=["/data/secret/**"]))
    unmasked = audit.decided(
        **granted("FILE_READ:/data/**", masks=["/data/a/**", "/data/secret/**"])
    )
    gained = audit.decided(requested=("FILE_READ:/data/x",), denied=("FILE_READ:/data/x",))
    audit.decided(component=TWO, requested=("MEMORY:1B",), granted=("MEMORY:1B",))
    said = cli("diff", "old.cedar", "new.cedar", "--replay", audit.path)
    assert (said.code, said.err) == (1, "")
    told = lines(said)[4:]
    assert told[0] == "recorded runs in audit.jsonl"
    assert [re.sub(r"^ \S+Z ", " TIME ", line) for line in told[1:]] == [
        f" TIME {lost} report@1.0.0",
        " FILE_READ:/data/secret/x granted → denied",
        f" TIME {masked} report@1.0.0",
        " FILE_READ:/data/** granted → masked (without /data/secret/**)",
        f" TIME {unmasked} report@1.0.0",
        " FILE_READ:/data/** masked (without /data/a/**, /data/secret/**)"
        " → masked (without /data/secret/**)",
        f" TIME {gained} report@1.0.0",
        " FILE_READ:/data/x denied → granted",
        "6 runs decided again: 4 would have gone otherwise, 0 cannot be compared",
    ]
    assert same not in said.text
    found = json.loads(cli("diff", "old.cedar", "new.cedar", "--replay", audit.path, "--json").out)
    replay = found["replay"]
    assert (replay["runs"], replay["differing"], replay["incomparable"]) == (6, 4, 0)
    assert [one["run_id"] for one in replay["listed"]] == [lost, masked, unmasked, gained]
    assert replay["listed"][1]["differences"] == [
        {
            "capability": "FILE_READ:/data/**", "was": "granted", "would_be": "masked",
            "masks_were": [], "masks_would_be": ["/data/secret/**"],
        }
    ]  # fmt: skip


def test_masks_belong_to_what_is_granted(cli: Cli, audit: Audit) -> None:
    cedar("new.cedar", DATA)
    reading, writing = "FILE_READ:/data/**", "FILE_WRITE:/data/**"
    audit.decided(
        requested=(reading, writing), granted=(reading,), masks=("/data/secret/**",),
        denied=(writing,),
    )  # fmt: skip
    said = cli("diff", "new.cedar", "new.cedar", "--replay", audit.path)
    assert said.code == 1
    assert f" {reading} masked (without /data/secret/**) → granted" in lines(said)
    assert writing not in said.text


def test_a_replay_in_which_nothing_differs(cli: Cli, audit: Audit) -> None:
    cedar("x.cedar", DATA, SECRET)
    audit.decided(**granted("FILE_READ:/data/**", masks=["/data/secret/**"]))
    audit.decided(requested=("MEMORY:1B",), denied=("MEMORY:1B",))
    audit.decided()
    said = cli("diff", "x.cedar", "x.cedar", "--replay", audit.path)
    assert (said.code, said.err) == (0, "")
    assert "3 runs decided again: 0 would have gone otherwise, 0 cannot" in said.text


def test_runs_are_decided_in_the_circumstances_on_record(cli: Cli, audit: Audit) -> None:
    cedar("x.cedar", CONDITIONAL)
    request = granted("FILE_READ:/data/x")
    audit.decided(**request, trust="trusted", environment="production")
    other = audit.decided(**request, trust="trusted", environment="test")
    # What is given is for the comparison of the policies alone.
    said = cli("diff", "x.cedar", "x.cedar", "--replay", audit.path, "--environment", "production")
    assert said.code == 1
    assert other in said.text
    assert audit.runs[0] not in said.text


def test_the_policy_that_is_taken_away_denies_all(cli: Cli, audit: Audit) -> None:
    cedar("x.cedar", DATA)
    Path("none.json").write_text(EMPTY)
    run = audit.decided(**granted("FILE_READ:/data/x"))
    said = cli("diff", "x.cedar", "none.json", "--replay", audit.path)
    assert said.code == 1
    assert run in said.text
    assert "granted → denied" in said.text
    said = cli("diff", "none.json", "none.json", "--replay", audit.path)
    assert (said.code, said.out) == (2, b"")
    assert "neither policy names a component" in said.err


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (granted(*(f"FILE_READ:/data/{i}" for i in range(200))), "[truncated, 200 items]"),
        (granted("FILE_READ:/data/" + "x/" * 600 + "y"), "characters]"),
        (granted("FILE_READ:/data/**", masks=[f"/data/{i}" for i in range(150)]), "`masks`"),
        (granted("FILE_READ:/data/x", "nonsense"), "`nonsense` is not a capability"),
        (granted("FILE_READ:/data//x"), "/data//x"),
        (granted("MEMORY:1024KiB"), "canonical form"),
        ({"requested": ("MEMORY:1B",)}, "what was granted and denied is not what was requested"),
        ({**granted("MEMORY:1B"), "denied": ("MEMORY:1B",)}, "is not what was requested"),
        ({"granted": ("MEMORY:1B",)}, "is not what was requested"),
        ({**granted("FILE_READ:/data/x"), "trust": "very"}, "`very` is no trust"),
        ({**granted("FILE_READ:/data/x"), "environment": "\x1b"}, "no name of an environment"),
    ],
)
def test_what_cannot_be_compared_is_told_and_is_1(
    cli: Cli, audit: Audit, fields: dict[str, Any], told: str
) -> None:
    cedar("x.cedar", DATA)
    run = audit.decided(**fields)
    said = cli("diff", "x.cedar", "x.cedar", "--replay", audit.path)
    assert said.code == 1
    assert run in said.text
    assert "not comparable: " in said.text
    assert told in said.text
    assert "\x1b" not in said.text
    found = json.loads(cli("diff", "x.cedar", "x.cedar", "--replay", audit.path, "--json").out)
    assert found["replay"]["incomparable"] == 1
    assert told in found["replay"]["listed"][0]["problem"]


def test_torn_and_foreign_lines_are_counted_and_hide_nothing(cli: Cli, audit: Audit) -> None:
    cedar("new.cedar", DATA, SECRET)
    audit.decided(**granted("FILE_READ:/data/x"))
    line = Path(audit.path).read_bytes()
    foreign = [
        b"not json\n", b"[]\n", b"null\n", b'{"type": []}\n', b"{}\n", b"\xff\xfe\n", b"\0\n",
        b"[" * 100_000 + b"\n", b"1" * 10_000 + b"\n", b'{"a": 1, "a": 2}\n', b"NaN\n",
        line[:200] + b"\n",
        line.replace(b'"denied":[]', b'"denied":{}'),
        line.replace(b'"eventname"', b'"extra":1,"eventname"'),
        b" " * (MAX_LINE_BYTES + 5) + b"\n",
        b'{"a": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n',
    ]  # fmt: skip
    audit.raw(b"\n \n" + b"".join(foreign))
    run = audit.decided(**granted("FILE_READ:/data/secret/x"))
    audit.raw(line[:300])
    said = cli("diff", "new.cedar", "new.cedar", "--replay", audit.path)
    assert said.code == 1
    assert run in said.text
    assert f"{len(foreign) + 1} lines of `audit.jsonl` are no event" in said.err
    assert "2 runs decided again: 1 would" in said.text


def test_other_events_and_an_audit_without_the_component(cli: Cli, audit: Audit) -> None:
    cedar("x.cedar", DATA)
    bus = EventBus()
    bus.subscribe(JsonlSink(audit.path))
    emitter = Emitter(bus)
    emitter.componentid = str(ONE)
    emitter.emit(MonitorGap(dropped=1, reason="x"))
    bus.close()
    audit.decided(component=TWO, **granted("FILE_READ:/x"))
    said = cli("diff", "x.cedar", "x.cedar", "--replay", audit.path)
    assert said.code == 0
    assert f"`audit.jsonl` has no decision about component `{ONE}`" in said.err
    assert "no event" not in said.err


def test_an_audit_that_cannot_be_read(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    os.mkfifo("fifo")
    for name, told in (
        ("missing", "no such file"),
        (".", "it is a directory"),
        ("fifo", "it is not a regular file"),
    ):
        said = cli("diff", "x.cedar", "x.cedar", "--replay", name)
        assert (said.code, said.out) == (2, b"")
        assert f"`--replay {name}` cannot be read: {told}" in said.err


def test_a_large_audit_is_streamed(audit: Audit) -> None:
    cedar("x.cedar", DATA)
    audit.decided(**granted("FILE_READ:/data/x"))
    line = Path(audit.path).read_bytes()
    with open(audit.path, "wb") as file:
        file.seek(1 << 30)  # one line, most of it a hole
        file.write(b"\n" + line)
    limited = ["bash", "-c", 'ulimit -v 400000; exec "$@"', "bash"]
    command = [*limited, *COMMAND, "policy", "diff", "x.cedar", "x.cedar", "--replay", audit.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 run decided again: 0 would" in done.stdout
    assert "1 line of `audit.jsonl` is no event" in done.stderr


def test_a_real_run_is_decided_again(
    cli: Cli, report: OneComponent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RUNSC")
    report.update(capabilities_required=CapabilitySet.parse(["MEMORY:64MiB"]))
    with_policy(report, '@id("m") permit Memory when { resource.bytes <= 67108864 }')
    bus = EventBus()
    bus.subscribe(JsonlSink("audit.jsonl"))
    result = package.run_component("report", registry=report.directory, bus=bus)
    bus.close()
    assert result.stdout == b"hello\n"
    monkeypatch.setenv("RUNSC", NO_RUNTIME["RUNSC"])
    said = cli("diff", "report", "report", "--replay", "audit.jsonl")
    assert (said.code, said.err) == (0, "")
    assert "1 run decided again" in said.text
    cedar("less.cedar", '@id("m") permit Memory when { resource.bytes <= 1000 }',
          principal=report.uuid)  # fmt: skip
    said = cli("diff", "report", "less.cedar", "--replay", "audit.jsonl")
    assert said.code == 1
    assert f" {result.run_id} " in said.text
    assert "MEMORY:64MiB granted → denied" in "\n".join(lines(said))


# --- test --------------------------------------------------------------------------------


def table(path: str, *cases: tuple[str, str], **more: Any) -> str:
    """Writes a table; returns its name."""
    listed = [{"request": request, "expect": expect} for request, expect in cases]
    Path(path).write_text(json.dumps({"version": 1, "cases": listed, **more}))
    return path


def test_the_examples_pass(cli: Cli) -> None:
    said = cli("test", EXAMPLES)
    assert (said.code, said.err) == (0, "")
    assert len(lines(said)) == 11
    assert re.fullmatch(r"[0-9]+ cases, 0 failed", lines(said)[-1])
    assert {line.split()[0] for line in lines(said)[:-1]} == {"ok"}


def test_either_of_a_pair_may_be_named(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    table("x.tests.json", ("FILE_READ:/data/x", "allow"))
    for name in ("x.cedar", "x.tests.json"):
        assert lines(cli("test", name)) == ["ok x.cedar 1 case", "1 case, 0 failed"]
    # With two policies for one table, naming it tests both.
    Path("x.cedar.json").write_text(cli("show", "x.cedar").text)
    assert lines(cli("test", "x.cedar")) == ["ok x.cedar 1 case", "1 case, 0 failed"]
    assert lines(cli("test", "x.tests.json"))[-1] == "2 cases, 0 failed"
    assert lines(cli("test", "."))[-1] == "2 cases, 0 failed"


def test_failing_cases_are_told_and_are_1(cli: Cli) -> None:
    cedar("x.cedar", DATA, SECRET)
    table("x.tests.json", ("FILE_READ:/data/x", "allow"), ("FILE_READ:/data/secret/x", "allow"),
          ("FILE_READ:/data/**", "deny"))  # fmt: skip
    said = cli("test", "x.cedar")
    assert (said.code, said.err) == (1, "")
    assert lines(said) == [
        "failed x.cedar 3 cases, 2 failed",
        "failed x.tests.json: FILE_READ:/data/secret/x",
        " `FILE_READ:/data/secret/x` is denied: policy `secret` (salaries) forbids "
        "`/data/secret/x`; expected `allow`",
        "failed x.tests.json: FILE_READ:/data/**",
        " `FILE_READ:/data/**` is masked: permitted by `data`, without `/data/secret/**`; "
        "expected `deny`",
        "3 cases, 2 failed",
    ]
    found = json.loads(cli("test", "x.cedar", "--json").out)
    assert (found["passed"], found["failed"], found["errors"]) == (1, 2, 0)
    assert [case["passed"] for case in found["tables"][0]["cases"]] == [True, False, False]


def test_nothing_passes_silently(cli: Cli) -> None:
    Path("empty").mkdir()
    cedar("alone.cedar", DATA)
    table("orphan.tests.json", ("FILE_READ:/data/x", "allow"))
    cedar("none.cedar", DATA)
    table("none.tests.json")
    cedar("bad.cedar", DATA)
    Path("bad.tests.json").write_text('{"version": 1, "cases": [{"request": "x"}]}')
    Path("notes.txt").write_text("")
    for name, told in (
        ("empty", "`empty` has no table of cases"),
        ("alone.cedar", "it must meet: `alone.tests.json`"),
        ("orphan.tests.json", "`orphan.cedar.json` is missing"),
        ("none.cedar", "`none.tests.json` has no cases"),
        ("bad.cedar", "the key `expect` is missing"),
        ("notes.txt", "is neither a policy nor a table"),
        ("missing.cedar", "`missing.cedar` is not there"),
        ("missing", "is neither a policy nor a table"),
    ):
        said = cli("test", name)
        assert said.code == 2, name
        assert told in said.err
        assert lines(said)[-1] == "0 cases, 0 failed, 1 error"
        assert json.loads(cli("test", name, "--json").out)["errors"] == 1
    said = cli("test", ".")
    assert said.code == 2
    assert lines(said)[-1] == "0 cases, 0 failed, 4 errors"


def test_an_error_does_not_hide_the_other_tables(cli: Cli) -> None:
    Path("deep/er").mkdir(parents=True)
    cedar("deep/er/x.cedar", DATA)
    table("deep/er/x.tests.json", ("FILE_READ:/data/x", "deny"))
    cedar("deep/y.cedar", DATA.replace("like", "<"))
    table("deep/y.tests.json", ("FILE_READ:/data/x", "deny"))
    said = cli("test", "deep")
    assert said.code == 2
    assert lines(said)[:2] == ["no deep/y.cedar could not be run",
                               "failed deep/er/x.cedar 1 case, 1 failed"]  # fmt: skip
    assert lines(said)[-1] == "1 case, 1 failed, 1 error"


def test_a_directory_that_cannot_be_read_is_an_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tables/closed").mkdir(parents=True)
    cedar("tables/x.cedar", DATA)
    table("tables/x.tests.json", ("FILE_READ:/data/x", "allow"))
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("closed"):  # root may read it, whatever its mode
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    said = cli("test", "tables")
    assert said.code == 2
    assert "`tables/closed` cannot be read: permission denied" in said.err


def test_a_link_to_a_directory_is_not_passed_over_in_silence(cli: Cli) -> None:
    Path("tables/real").mkdir(parents=True)
    cedar("tables/real/x.cedar", DATA)
    table("tables/real/x.tests.json", ("FILE_READ:/data/x", "allow"))
    Path("tables/link").symlink_to("real")
    Path("tables/loop").symlink_to("..")
    said = cli("test", "tables")
    assert (said.code, lines(said)[-1]) == (0, "1 case, 0 failed")
    assert "`tables/link` is a link, and not looked into" in said.err
    assert "`tables/loop`" in said.err
    assert cli("test", "tables/link").code == 0


def test_a_table_is_run_against_another_policy(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA, SECRET)
    cedar("x.cedar", DATA)
    table("x.tests.json", ("FILE_READ:/data/secret/x", "allow"))
    assert cli("test", "x.cedar").code == 0
    for name in ("x.cedar", "x.tests.json", "."):
        said = cli("test", name, "--policy", "report")
        assert said.code == 1
        assert lines(said)[-1] == "1 case, 1 failed"
    assert cli("test", ".", "--policy", "./x.cedar").code == 0
    os.remove("x.tests.json")
    assert cli("test", "x.cedar", "--policy", "report").code == 2
    assert cli("test", ".", "--policy", "report").code == 2
    assert cli("test", ".", "--policy", "nobody").code == 2


# --- import ------------------------------------------------------------------------------


def test_an_import_says_what_it_changes(cli: Cli, report: OneComponent) -> None:
    path = cedar("x.cedar", DATA, principal=report.uuid)
    said = cli("import", "report", path, "--comment", "first\nline")
    assert (said.code, said.err) == (0, "")
    kept = report.store.get_policy(report.uuid)
    assert lines(said) == [
        "in all circumstances",
        " granted FILE_READ:/data/** all of it",
        f"report@1.0.0: policy version 1, sha256 {kept.sha256}",
    ]
    path = cedar("y.cedar", DATA, SECRET.replace('@reason("salaries") ', ""), principal=report.uuid)
    said = cli("import", "report", path, "--author", "eve", "--json")
    assert said.code == 0
    assert "OBP007, policy `secret`: forbid without a reason" in said.err
    found = json.loads(said.out)
    assert (found["version"], found["written"]) == (2, True)
    assert found["sha256"] == report.store.get_policy(report.uuid).sha256
    assert [one["code"] for one in found["findings"]] == ["OBP007"]
    (difference,) = found["changes"][0]["differences"]
    assert (difference["change"], difference["capability"]) == (
        "denied", "FILE_READ:/data/secret/**",
    )  # fmt: skip
    policy = report.component.policy
    assert policy is not None
    assert [(one.author, one.comment) for one in policy.history] == [
        ("ann", "first\nline"), ("eve", ""),
    ]  # fmt: skip


def test_json_is_kept_byte_for_byte(cli: Cli, report: OneComponent) -> None:
    path = cedar("x.cedar", DATA, principal=report.uuid)
    document = json.dumps(json.loads(cli("show", path).out), indent=7).encode() + b"\n\n"
    Path("x.cedar.json").write_bytes(document)
    assert cli("import", "report", "x.cedar.json").code == 0
    assert cli("show", "report").out == document
    assert json.loads(cli("show", "report", "--json").out)["document"] == json.loads(document)


def test_a_dry_run_writes_nothing(cli: Cli, report: OneComponent) -> None:
    path = cedar("x.cedar", DATA, principal=report.uuid)
    before = report.store.head()
    said = cli("import", "report", path, "--dry-run")
    assert said.code == 0
    assert "dry run, nothing is written: it would be policy version 1" in said.text
    assert "granted FILE_READ:/data/**" in "\n".join(lines(said))
    found = json.loads(cli("import", "report", path, "--dry-run", "--json").out)
    assert (found["written"], found["version"]) == (False, 1)
    assert report.store.head() == before


def test_the_current_policy_is_no_change(cli: Cli, report: OneComponent) -> None:
    path = cedar("x.cedar", DATA, principal=report.uuid)
    assert cli("import", "report", path).code == 0
    before = report.store.head()
    for more in ((), ("--dry-run",), ("--expected-version", "1")):
        said = cli("import", "report", path, *more)
        assert (said.code, said.err) == (0, "")
        assert lines(said) == ["report@1.0.0: it is policy version 1 already, nothing is written"]
    found = json.loads(cli("import", "report", path, "--json").out)
    assert (found["written"], found["version"]) == (False, 1)
    assert report.store.head() == before


def test_a_change_that_grants_nothing_new(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA)
    path = cedar("x.cedar", DATA, DATA.replace('"data"', '"same"'), principal=report.uuid)
    said = cli("import", "report", path)
    assert said.code == 0
    assert lines(said)[0] == "nothing is granted or denied that was not before"
    assert lines(said)[1].startswith("report@1.0.0: policy version 2")


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_may_not_be_imported(cli: Cli, report: OneComponent, more: tuple[str, ...]) -> None:
    with_policy(report, DATA)
    before = report.store.head()
    path = cedar("x.cedar", DATA, SECRET, principal=report.uuid)
    for version in ("0", "2"):
        said = cli("import", "report", path, "--expected-version", version, *more)
        assert (said.code, said.out) == (2, b"")
        assert f"is at version 1, not {version}" in said.err
    other = cedar("other.cedar", DATA, principal=TWO)
    said = cli("import", "report", other, *more)
    assert (said.code, said.out) == (2, b"")
    assert str(report.uuid) in said.err
    assert "policy `data`" in said.err
    assert cli("import", "report", "missing.cedar", *more).code == 2
    assert cli("import", "report", "missing", *more).code == 2
    assert cli("import", "nobody", path, *more).code == 2
    assert report.store.head() == before
    report.store.retire(report.uuid)
    said = cli("import", report.uuid, path, *more)
    assert (said.code, said.out) == (2, b"")
    assert "is retired" in said.err


def test_a_conflict_is_told_in_json(cli: Cli, report: OneComponent) -> None:
    path = cedar("x.cedar", DATA, principal=report.uuid)
    said = cli("import", "report", path, "--expected-version", "4", "--json")
    assert said.code == 2
    assert json.loads(said.out)["error"]["details"]["reason"] == "conflict"


def test_an_import_of_too_many_circumstances_says_that_it_shows_no_changes(
    cli: Cli, report: OneComponent
) -> None:
    many = [
        f'@id("p{i}") permit Memory when {{ context.environment == "e{i}" && resource.bytes < 5 }}'
        for i in range(MAX_CONTEXTS)
    ]
    path = cedar("x.cedar", *many, principal=report.uuid)
    said = cli("import", "report", path)
    assert said.code == 0
    assert "what changes is not shown" in said.err
    assert lines(said)[-1].startswith("report@1.0.0: policy version 1")


# --- show and history --------------------------------------------------------------------


def test_the_document_alone_is_shown(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA, SECRET)
    said = cli("show", "report")
    assert (said.code, said.err) == (0, "")
    assert said.out == report.store.get_policy(report.uuid).document
    said = cli("show", "report", "--cedar")
    assert (said.code, said.err) == (0, "")
    Path("again.cedar").write_bytes(said.out)
    assert cli("diff", "report", "again.cedar").code == 0
    assert cli("show", "again.cedar", "--cedar").out == said.out


def test_an_older_version_is_shown(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA)
    with_policy(report, SECRET)
    assert b'"data"' in cli("show", "report#1").out
    assert b'"data"' not in cli("show", "report").out


def test_a_terminal_is_shown_escapes(cli: Cli) -> None:
    cedar("x.cedar", DATA)
    document = cli("show", "x.cedar").out.replace(b'"data": {', b'"data":\r{')
    Path("x.json").write_bytes(document)
    assert cli("show", "x.json").out == document
    master, slave = pty.openpty()
    command = [*COMMAND, "policy", "show", "x.json"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave) as process:
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
        assert process.wait(60) == 0
    os.close(master)
    assert b'"data":\\r{' in shown
    assert b"\r" not in shown.replace(b"\r\n", b"\n")


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other side of a terminal has gone
        return b""


def test_the_history_marks_the_current_version(cli: Cli, report: OneComponent) -> None:
    for i, texts in enumerate(([DATA], [DATA, SECRET], [DATA]), 1):
        path = cedar("x.cedar", *texts, principal=report.uuid)
        comment = ("--comment", f"no. {i}\nx", "--author", "eve")
        assert cli("import", "report", path, *comment).code == 0
    said = cli("history", "report")
    assert (said.code, said.err) == (0, "")
    versions = json.loads(cli("history", "report", "--json").out)
    assert versions["current"] == 3
    assert [one["current"] for one in versions["versions"]] == [False, False, True]
    assert [one["comment"] for one in versions["versions"]] == ["no. 1\nx", "no. 2\nx", "no. 3\nx"]
    for line, one in zip(lines(said), versions["versions"], strict=True):
        shown = f"#{one['version']} {one['time']} eve {one['sha256']} no. {one['version']}\\nx"
        assert line == ("current " if one["current"] else " ") + shown
    assert versions["versions"][0]["sha256"] == versions["versions"][2]["sha256"]


def test_a_comment_that_does_not_print_is_refused(cli: Cli, report: OneComponent) -> None:
    path = cedar("x.cedar", DATA, principal=report.uuid)
    said = cli("import", "report", path, "--comment", "\x1b[2J")
    assert (said.code, said.out) == (2, b"")
    assert "\x1b" not in said.err
    assert report.component.policy is None


def test_versions_that_the_record_has_dropped_are_in_the_history(
    cli: Cli, report: OneComponent
) -> None:
    for i in range(103):
        with_policy(report, DATA.replace("the team", f"{i}"))
    policy = report.component.policy
    assert policy is not None
    assert policy.history[0].version > 1
    versions = json.loads(cli("history", "report", "--json").out)["versions"]
    assert [one["version"] for one in versions] == list(range(1, 104))


def test_a_retired_component_still_tells_its_policy(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA)
    report.store.retire(report.uuid)
    assert cli("history", report.uuid).code == 0
    assert cli("show", "report@1.0.0").code == 0


# --- what a suggestion does besides --------------------------------------------------------


def test_a_suggestion_says_what_else_it_changes(cli: Cli, report: OneComponent) -> None:
    tree = CapabilitySet.parse(["FILE_READ:/data/**"])
    report.update(capabilities_required=tree)
    with_policy(report, DATA, SECRET)
    said = cli("explain", "report", "FILE_READ:/data/secret/x")
    assert said.code == 0
    change = "`FILE_READ:/data/**`, which report@1.0.0 requires, goes from masked to denied"
    assert change in said.err
    assert "requesting the parts that are permitted needs no change" in said.err
    found = json.loads(cli("explain", "report", "FILE_READ:/data/secret/x", "--json").out)
    assert [change in one for one in found["warnings"]] == [True]


def test_a_suggestion_that_switches_a_forbid_off_says_so(cli: Cli, report: OneComponent) -> None:
    with_policy(report, DATA, SECRET)
    said = cli("explain", "report", "FILE_READ:/data/secret/**")
    assert "policy `secret` never applies: it is switched off" in said.err
    harmless = cli("explain", "report", "FILE_READ:/other")
    assert "switched off" not in harmless.err and "goes from" not in harmless.err


def test_an_import_that_fits_several_is_refused(cli: Cli, report: OneComponent) -> None:
    second = report.store.add(Component.new(name="report", version="2.0.0", owner="tests"))
    Path("none.json").write_text('{"staticPolicies": {}, "templates": {}, "templateLinks": []}')
    said = cli("import", "report", "none.json")
    assert said.code == 2 and "`report` fits 2 components" in said.err
    assert "`report@2.0.0`, `report@1.0.0`" in said.err
    assert cli("import", "report@2.0.0", "none.json").code == 0
    assert report.store.get(second.uuid).policy_version == 1
