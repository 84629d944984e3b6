"""A registry that somebody tampered with: nothing of it runs, and everybody is told."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

import omnibase
from omnibase import OmniBaseError, PolicyError, RegistryError
from omnibase.cli import main
from omnibase.core import events
from omnibase.core.registry import Component, FindingCode, Version
from omnibase.core.security.policy import Policy
from tests.helpers.cli import omnibase as command
from tests.helpers.components import OneComponent
from tests.helpers.policies import cedar_of
from tests.security.harness import Outcome, observed

pytestmark = [pytest.mark.registry, pytest.mark.policy, pytest.mark.threat("T-REG-01")]

OTHER = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
C = FindingCode


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry's directory, and what is needed to tamper with it.

    Attributes:
        uuid: The component `report`, which writes `marker` when it runs.
        old: Its record, policy and script as they once were, by path.
    """

    root: Path
    uuid: UUID
    marker: Path
    old: dict[str, bytes]

    def name(self, kind: str) -> str:
        """Where the component's record, policy or script is."""
        return _name(kind, self.uuid)

    def file(self, kind: str) -> Path:
        return self.root / self.name(kind)

    def run(self) -> Outcome:
        """Runs the component by its name."""
        return observed(lambda bus: omnibase.run_component("report", registry=self.root, bus=bus))


def _name(kind: str, uuid: UUID) -> str:
    return {
        "component": f"components/{uuid}.json",
        "policy": f"policies/{uuid}.cedar.json",
        "script": f"scripts/{uuid}/main.py",
    }[kind]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Two components, each as able to run as the other, with a past."""
    out = Path(tempfile.mkdtemp(prefix="omnibase-test-", dir="/var/lib"))
    out.chmod(0o755)
    root = tmp_path_factory.mktemp("pristine") / "registry"
    marker = out / "ran"
    script = f"open({str(marker)!r}, 'a').write('%s')\n"
    wider = [
        f'@id("{kind}") permit {kind} when {{ resource.path like "{out}/*" }}'
        for kind in ("FileRead", "FileWrite")
    ]
    policies = [*wider, '@id("no") @reason("no") forbid FileRead when { resource.path == "/etc" }']
    requires = [f"FILE_WRITE:{out}/**"]
    one = OneComponent(root, (script % "old").encode(), requires=requires, policies=wider)
    kinds = ("component", "policy", "script")
    old = {kind: (root / _name(kind, one.uuid)).read_bytes() for kind in kinds}
    one.put_policy(*policies)
    one.store.add_script(one.uuid, "main.py", (script % "new").encode())
    one.update(version=Version.parse("1.1.0"))
    other = Component.new(name="other", version="1.0.0", owner="tests", uuid=OTHER,
                          capabilities_required=one.component.capabilities_required)  # fmt: skip
    one.store.add(other)
    one.store.add_script(OTHER, "main.py", (script % "other").encode())
    document = Policy.from_cedar(cedar_of(OTHER, policies), "other.cedar", OTHER).to_json()
    one.store.put_policy(OTHER, document, expected_version=0)
    yield Registry(root=root, uuid=one.uuid, marker=marker, old=old)
    shutil.rmtree(out)


@pytest.fixture
def registry(pristine: Registry, tmp_path: Path) -> Iterator[Registry]:
    """A copy to tamper with."""
    root = tmp_path / "registry"
    shutil.copytree(pristine.root, root)
    yield Registry(root=root, uuid=pristine.uuid, marker=pristine.marker, old=pristine.old)
    pristine.marker.unlink(missing_ok=True)


def edited(registry: Registry, kind: str) -> None:
    """By hand, to something that is as valid as before and allows more."""
    before, after = {
        "component": (b'"trust": "untrusted"', b'"trust": "trusted"'),
        "policy": (b'"forbid"', b'"permit"'),
        "script": (b"'new'", b"'bad'"),
    }[kind]
    data = registry.file(kind).read_bytes()
    assert before in data
    registry.file(kind).write_bytes(data.replace(before, after))


def reformatted(registry: Registry, kind: str) -> None:
    """Says the same, in other bytes."""
    with registry.file(kind).open("ab") as file:
        file.write(b"\n")


def truncated(registry: Registry, kind: str) -> None:
    os.truncate(registry.file(kind), registry.file(kind).stat().st_size // 2)


def emptied(registry: Registry, kind: str) -> None:
    os.truncate(registry.file(kind), 0)


def swapped(registry: Registry, kind: str) -> None:
    mine, theirs = registry.file(kind), registry.root / _name(kind, OTHER)
    kept = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    theirs.write_bytes(kept)


def rolled_back(registry: Registry, kind: str) -> None:
    assert registry.file(kind).read_bytes() != registry.old[kind]
    registry.file(kind).write_bytes(registry.old[kind])


def linked(registry: Registry, kind: str) -> None:
    moved = registry.root.parent / "moved"
    registry.file(kind).rename(moved)
    registry.file(kind).symlink_to(moved)


def with_a_second_name(registry: Registry, kind: str) -> None:
    os.link(registry.file(kind), registry.root.parent / "second")


def huge(registry: Registry, kind: str) -> None:
    os.truncate(registry.file(kind), 1 << 40)


def fifo(registry: Registry, kind: str) -> None:
    registry.file(kind).unlink()
    os.mkfifo(registry.file(kind), 0o644)


def group_writable(registry: Registry, kind: str) -> None:
    registry.file(kind).chmod(0o664)


def anothers(registry: Registry, kind: str) -> None:
    os.chown(registry.file(kind), 65534, 65534)


def deleted(registry: Registry, kind: str) -> None:
    registry.file(kind).unlink()


TAMPERINGS = {
    edited: C.CHANGED,
    reformatted: C.CHANGED,
    truncated: C.CHANGED,
    emptied: C.CHANGED,
    swapped: C.CHANGED,
    rolled_back: C.ROLLBACK,
    linked: C.LINK,
    with_a_second_name: C.LINK,
    huge: C.TOO_LARGE,
    fifo: C.NOT_REGULAR,
    group_writable: C.PERMISSIONS,
    anothers: C.PERMISSIONS,
    deleted: C.MISSING,
}
SPECIAL = {
    (swapped, "component"): C.SWAPPED,  # a record says whose it is
    (rolled_back, "script"): C.CHANGED,  # a script has no version of its own
}


def assert_refused(registry: Registry, file: str, code: FindingCode) -> OmniBaseError:
    """Fails unless nothing runs, and the error and the one event name the file."""
    outcome = registry.run()
    error = outcome.error
    assert error is not None
    assert type(error) is (PolicyError if file.startswith("policies/") else RegistryError)
    assert f"`{file}`" in error.message
    assert (error.details["reason"], error.details["file"]) == ("tampered", file)
    assert error.details["code"] == code
    assert outcome.result is None
    (event,) = outcome.events
    assert isinstance(event.data, events.RunRefused)
    assert (event.data.code, event.data.file) == (error.code, file)
    assert not registry.marker.exists()
    return error


def assert_command_refuses(
    registry: Registry, file: str, reference: object, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails unless `omnibase run` says so, whatever its flags, with exit code 120."""
    audit = registry.root.parent / "audit.jsonl"
    audit.unlink(missing_ok=True)
    capfd.readouterr()
    for flags in (("--events", str(audit)), ("--dry-run",), ("--degrade",), ("--unsandboxed",)):
        code = main(["run", str(reference), "--registry", str(registry.root), *flags])
        out, err = capfd.readouterr()
        assert (code, out) == (120, "")
        assert err.startswith(f"omnibase: error: `{file}`")
        assert "\nhint: " in err
    (line,) = audit.read_text().splitlines()
    event = events.Event.from_json(line)
    assert isinstance(event.data, events.RunRefused)
    assert event.data.file == file
    assert not registry.marker.exists()


def assert_verify_finds(
    registry: Registry, found: set[tuple[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails unless `omnibase registry verify` finds this, with exit code 1."""
    capfd.readouterr()
    code = main(["registry", "verify", "--registry", str(registry.root), "--json"])
    document = json.loads(capfd.readouterr().out)
    assert code == 1
    assert found <= {(one["file"], one["code"]) for one in document["findings"]}


def test_the_untouched_twin_runs(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = registry.run()
    outcome.assert_clean()
    assert [event.name for event in outcome.events if event.name.startswith("Sandbox")] == [
        "SandboxStart", "SandboxExit",
    ]  # fmt: skip
    assert registry.marker.read_text() == "new"
    said = command("run", registry.uuid, "--registry", registry.root)
    assert (said.code, said.err) == (0, "")
    assert registry.marker.read_text() == "newnew"
    assert main(["registry", "verify", "--registry", str(registry.root)]) == 0
    assert "head 9:" in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["component", "policy", "script"])
@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_what_was_tampered_with_does_not_run(
    registry: Registry,
    tamper: Callable[[Registry, str], None],
    kind: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tamper(registry, kind)
    file, code = registry.name(kind), SPECIAL.get((tamper, kind), TAMPERINGS[tamper])
    assert_refused(registry, file, code)
    assert_command_refuses(registry, file, registry.uuid, capfd)
    found = {(file, code)}
    if tamper is swapped:
        found.add((_name(kind, OTHER), code))
    assert_verify_finds(registry, found, capfd)


@pytest.mark.threat("T-REG-02")
def test_what_belongs_together_rolled_back_together(
    registry: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in ("component", "policy", "script"):
        rolled_back(registry, kind)
    file = registry.name("component")
    assert_refused(registry, file, C.ROLLBACK)
    assert_command_refuses(registry, file, registry.uuid, capfd)
    assert_verify_finds(registry, {(file, C.ROLLBACK)}, capfd)


@pytest.mark.threat("T-REG-02")
def test_all_that_belongs_to_two_components_swapped(
    registry: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in ("component", "policy", "script"):
        swapped(registry, kind)
    file = registry.name("component")
    assert_refused(registry, file, C.SWAPPED)
    assert_command_refuses(registry, file, registry.uuid, capfd)
    assert_command_refuses(registry, _name("component", OTHER), OTHER, capfd)
    assert_verify_finds(registry, {(file, C.SWAPPED), (_name("component", OTHER), C.SWAPPED)},
                        capfd)  # fmt: skip


@pytest.mark.threat("T-REG-03")
@pytest.mark.parametrize(
    ("folder", "code"),
    [
        *((name, code) for name in ("components", "policies", "scripts", "scripts/{uuid}")
          for code in (C.LINK, C.PERMISSIONS, C.NOT_REGULAR)),
        (".", C.PERMISSIONS),
    ],
)  # fmt: skip
def test_a_directory_on_the_way(
    registry: Registry, folder: str, code: FindingCode, capfd: pytest.CaptureFixture[str]
) -> None:
    name = folder.format(uuid=registry.uuid)
    path = registry.root / name
    if code is C.PERMISSIONS:
        path.chmod(0o775)
    else:
        moved = path.rename(registry.root.parent / "moved")
        path.symlink_to(moved) if code is C.LINK else path.touch()
    error = registry.run().error
    assert isinstance(error, OmniBaseError)
    assert (error.details["file"], error.details["code"]) == (name, code)
    assert not registry.marker.exists()
    assert_command_refuses(registry, name, "report", capfd)
    assert_verify_finds(registry, {(name, code)}, capfd)


@pytest.mark.threat("T-REG-03")
def test_a_name_that_leads_elsewhere(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    """Who asks for `report` must not get `other`, which is whole."""
    file = "names/report/1.1.0"
    (registry.root / file).write_text(f"{OTHER}\n")
    assert_refused(registry, file, C.CHANGED)
    assert_command_refuses(registry, file, "report@1.1.0", capfd)
    assert_verify_finds(registry, {(file, C.SWAPPED)}, capfd)


@pytest.mark.threat("T-REG-02")
def test_a_log_that_was_cut(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    os.truncate(registry.root / "log", 0)
    assert_refused(registry, "log", C.LOG)
    assert_command_refuses(registry, "log", registry.uuid, capfd)
    assert_verify_finds(registry, {("log", C.MISSING)}, capfd)


def test_only_what_was_tampered_with_is_refused(registry: Registry) -> None:
    for kind in ("component", "policy", "script"):
        (registry.root / _name(kind, OTHER)).unlink()
    registry.run().assert_clean()
    assert registry.marker.read_text() == "new"
