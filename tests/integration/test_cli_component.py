"""`omnibase run`, typed as a user types it, on a real sandbox."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.events import Event, PolicyDecided, RunRefused, UnsandboxedStart
from omnibase.core.registry import Trust
from tests.helpers.cli import NO_RUNTIME, eventually, omnibase, run_ids, started, traces_of
from tests.helpers.components import OneComponent

READ = b"import sys\nfor path in sys.argv[1:]: print(open(path).read(), end='')\n"
FORBID = '@id("secret") @reason("for people only") forbid FileRead when {{ resource.path == "{}" }}'
HOST = '@id("host") permit ExternalCommand when { resource.name == "host-python" }'


@pytest.fixture
def data() -> Iterator[Path]:
    path = Path("/srv") / f"ob-run-{secrets.token_hex(4)}"
    path.mkdir()
    (path / "open.txt").write_text("the content\n")
    (path / "secret.txt").write_text("not for you\n")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def report(tmp_path: Path, data: Path) -> OneComponent:
    """A component that requires a tree, of which its policy keeps back one file."""
    permit = f'@id("data") permit FileRead when {{ resource.path like "{data}/*" }}'
    return OneComponent(
        tmp_path / "registry",
        READ,
        requires=[f"FILE_READ:{data}/**"],
        policies=[permit, FORBID.format(f"{data}/secret.txt")],
    )


def events_of(path: Path) -> list[Event]:
    return [Event.from_json(line) for line in path.read_text().splitlines()]


def test_a_component_runs_as_its_policy_allows(
    report: OneComponent, data: Path, tmp_path: Path
) -> None:
    log = tmp_path / "audit.jsonl"
    where = {"OMNIBASE_REGISTRY": str(report.directory)}
    said = omnibase("run", "report", "--events", log, "--", data / "open.txt", **where)
    assert (said.code, said.text, said.err) == (0, "the content\n", "")
    assert [event.name for event in events_of(log)] == [
        "PolicyDecided", "CapabilityGranted", "SandboxStart", "SandboxExit",
    ]  # fmt: skip
    for reference in ("report@1.0.0", "report@^1.0", str(report.uuid)):
        again = omnibase("run", reference, "--registry", report.directory)
        assert again.code == 0, again.err


def test_what_is_kept_back_names_the_policy(report: OneComponent, data: Path) -> None:
    said = omnibase("run", "report", "--registry", report.directory, "--", data / "secret.txt")
    assert said.code == 121
    assert f"FILE_READ:{data}/secret.txt" in said.err
    assert "policy `secret`: for people only" in said.err
    assert "--allow" not in said.err, "it is not to be granted around the policy"
    assert "not for you" not in said.text
    command = f"omnibase policy explain report FILE_READ:{data}/secret.txt"
    assert f"see `{command} --registry {report.directory}`" in said.err


def test_what_is_beyond_the_record_says_how_to_require_it(report: OneComponent) -> None:
    said = omnibase("run", "report", "--registry", report.directory, "--", "/etc/hostname")
    assert said.code == 121 and "--allow" not in said.err
    command = "omnibase registry update report --require FILE_READ:/etc/hostname"
    command += f" --registry {report.directory}"
    assert command in said.err
    done = omnibase(*command.split(" ")[1:])
    assert done.code == 0, done.err
    refused = omnibase("run", "report", "--registry", report.directory)
    assert refused.code == 120
    (hint,) = [line for line in refused.err.splitlines() if line.startswith("hint")]
    explain = hint.partition("`")[2].partition("`")[0].split(" ")
    assert explain[:3] == ["omnibase", "policy", "explain"]
    assert omnibase(*explain[1:]).code == 0


def test_json_says_what_ran_and_by_which_policy(report: OneComponent, data: Path) -> None:
    ask = ("--registry", report.directory, "--environment", "ci", "--json")
    found = json.loads(omnibase("run", "report@^1", *ask, "--", data / "open.txt").out)
    state = report.component.policy
    assert state is not None
    assert found["component"] == {
        "uuid": str(report.uuid),
        "reference": "report@1.0.0",
        "policy_version": 1,
        "policy_sha256": state.sha256,
        "environment": "ci",
        "granted": [f"FILE_READ:{data}/**"],
        "masks": [f"{data}/secret.txt"],
    }


def test_what_policy_denies_keeps_it_from_starting(report: OneComponent, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    ask = ("--allow", "FILE_READ:/etc/hosts", "--allow", "FILE_READ:/etc/shadow")
    said = omnibase("run", "report", "--registry", report.directory, "--events", log, *ask)
    assert said.code == 120 and said.out == b""
    assert "`FILE_READ:/etc/hosts` is denied (and 1 more)" in said.err
    assert "omnibase policy explain" in said.err and "--degrade" in said.err
    assert "denied  FILE_READ:/etc/shadow" in said.err
    names = [event.name for event in events_of(log)]
    assert names == ["PolicyDecided", "CapabilityDenied", "CapabilityDenied", "RunRefused"]


def test_degraded_it_runs_and_says_without_what(report: OneComponent, data: Path) -> None:
    ask = ("--registry", report.directory, "--allow", "FILE_READ:/etc/hosts", "--degrade")
    said = omnibase("run", "report", *ask, "--", data / "open.txt")
    assert (said.code, said.text) == (0, "the content\n")
    assert "it ran without what its policy denies: FILE_READ:/etc/hosts" in said.err
    found = json.loads(omnibase("run", "report", *ask, "--json", "--", data / "open.txt").out)
    assert found["denied"] == ["FILE_READ:/etc/hosts"] and found["error"] is None
    assert found["stdout"] == "the content\n" and found["sandboxed"] is True


class TestDryRun:
    def test_it_shows_the_decision_and_runs_nothing(
        self, report: OneComponent, data: Path, tmp_path: Path
    ) -> None:
        log = tmp_path / "audit.jsonl"
        said = omnibase(
            "run", "report", "--registry", report.directory, "--dry-run", "--events", log
        )
        assert said.code == 0, said.err
        assert f"FILE_READ:{data}/**" in said.text and "masked" in said.text
        assert "report@1.0.0" in said.text and f"{data}/secret.txt" in said.text
        assert not log.exists()

    def test_as_json(self, report: OneComponent, data: Path) -> None:
        said = omnibase("run", "report", "--registry", report.directory, "--dry-run", "--json")
        found = json.loads(said.out)
        assert found["component"]["uuid"] == str(report.uuid)
        assert found["grants"]["granted"] == [f"FILE_READ:{data}/**"]
        assert found["plan"]["masks"][-1] == {
            "path": f"{data}/secret.txt", "reason": "policy `secret`: for people only",
        }  # fmt: skip
        assert not found["refused"] and not found["unsandboxed"]

    def test_of_what_would_be_refused(self, report: OneComponent) -> None:
        ask = ("--registry", report.directory, "--allow", "FILE_READ:/etc/hosts", "--dry-run")
        said = omnibase("run", "report", *ask)
        assert said.code == 120
        assert "denied   FILE_READ:/etc/hosts" in said.text
        degraded = omnibase("run", "report", *ask, "--degrade")
        assert degraded.code == 0 and "read-only bind mount" in degraded.text


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "code", "text"),
        [
            ((), 2, "`COMPONENT` is missing"),
            (("absent",), 2, "no component in use is called `absent`"),
            (("Not a name",), 2, "`Not a name` names no component"),
            (("report", "extra"), 2, "goes after `--`: `omnibase run COMPONENT -- extra`"),
            (("report", "--registry", ""), 2, "the registry's location is empty"),
            (("report", "--registry", "mysql://x"), 2, "not supported"),
            (("report", "--environment", ""), 2, "no name of an environment"),
            (("report", "--allow", "FILE_READ:x"), 2, "`--allow`"),
            (("report", "--degrade=1"), 2, "takes no value"),
        ],
    )
    def test_are_told_before_a_runtime_is_looked_for(
        self, report: OneComponent, words: tuple[str, ...], code: int, text: str
    ) -> None:
        where = {"OMNIBASE_REGISTRY": str(report.directory), **NO_RUNTIME}
        said = omnibase("run", *words, **where)
        assert (said.code, said.out) == (code, b"")
        assert text in said.err and "hint:" in said.err

    def test_a_component_without_a_script(self, report: OneComponent) -> None:
        from omnibase.core.registry import Component

        bare = report.store.add(Component.new(name="bare", version="1.0.0", owner="tests"))
        said = omnibase("run", "bare", "--registry", report.directory, **NO_RUNTIME)
        assert said.code == 2
        assert f"omnibase registry update {bare.uuid} --script" in said.err

    def test_a_policy_that_was_edited_is_on_record(
        self, report: OneComponent, tmp_path: Path
    ) -> None:
        file = report.directory / "policies" / f"{report.uuid}.cedar.json"
        file.write_bytes(file.read_bytes().replace(b"forbid", b"permit"))
        log = tmp_path / "audit.jsonl"
        said = omnibase("run", "report", "--registry", report.directory, "--events", log)
        assert said.code == 120 and f"policies/{report.uuid}.cedar.json" in said.err
        (event,) = events_of(log)
        assert isinstance(event.data, RunRefused)
        assert event.data.file == f"policies/{report.uuid}.cedar.json"
        assert (event.componentid, event.subject) == (str(report.uuid), "report@1.0.0")


class TestUnsandboxed:
    @pytest.fixture
    def trusted(self, tmp_path: Path) -> OneComponent:
        return OneComponent(
            tmp_path / "registry",
            READ,
            requires=["EXTERNAL_COMMAND:host-python"],
            policies=[HOST],
            trust=Trust.TRUSTED,
        )

    def test_it_warns_and_is_on_record(
        self, trusted: OneComponent, data: Path, tmp_path: Path
    ) -> None:
        log = tmp_path / "audit.jsonl"
        ask = ("--registry", trusted.directory, "--unsandboxed", "--events", log)
        said = omnibase("run", "report", *ask, "--", data / "secret.txt")
        assert (said.code, said.text) == (0, "not for you\n")
        assert "warning: `report@1.0.0` runs without a sandbox" in said.err
        kinds = [type(event.data) for event in events_of(log)]
        assert kinds[:2] == [PolicyDecided, UnsandboxedStart]

    def test_without_the_flag_it_is_in_a_sandbox(self, trusted: OneComponent, data: Path) -> None:
        said = omnibase("run", "report", "--registry", trusted.directory, "--", data / "open.txt")
        assert said.code == 121 and "warning" not in said.err

    def test_the_flag_alone_is_refused(self, report: OneComponent) -> None:
        said = omnibase("run", "report", "--registry", report.directory, "--unsandboxed")
        assert said.code == 120 and "warning" not in said.err
        assert "its trust is `untrusted`, not `trusted`" in said.err

    def test_a_dry_run_says_so(self, trusted: OneComponent) -> None:
        ask = ("--registry", trusted.directory, "--unsandboxed", "--dry-run")
        said = omnibase("run", "report", *ask, **NO_RUNTIME)
        assert said.code == 0 and "none: it runs on the host" in said.text


@pytest.mark.parametrize("unsandboxed", [False, True])
def test_ctrl_c_ends_it_and_cleans_up(
    tmp_path: Path, state_directory: Path, unsandboxed: bool
) -> None:
    one = OneComponent(
        tmp_path / "registry",
        b"print('up', flush=True)\nimport time\ntime.sleep(60)\n",
        requires=["EXTERNAL_COMMAND:host-python"],
        policies=[HOST],
        trust=Trust.TRUSTED,
    )
    flags = ["--unsandboxed"] if unsandboxed else []
    with started("run", "report", "--registry", one.directory, *flags) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        (run_id,) = run_ids(state_directory)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert eventually(lambda: traces_of(state_directory, run_id) == []), traces_of(
        state_directory, run_id
    )
