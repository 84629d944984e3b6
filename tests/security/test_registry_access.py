"""The registry on a real sandbox: what is shown of it, what is proposed to it, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase import CapabilityError, RegistryError
from omnibase.core import events
from omnibase.core.registry import Component, RegistryStore, open_store
from tests.security.harness import SandboxFixture


@pytest.fixture
def store(area: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryStore]:
    """A registry with `report` in two versions and `other` in one."""
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(area / "registry"))
    found = open_store(area / "registry")
    for name, version in (("report", "1.0.0"), ("report", "2.0.0"), ("other", "1.0.0")):
        component = found.add(Component.new(name=name, version=version, owner="ann"))
        found.add_script(component.uuid, "main.py", f"# {name} {version}\n".encode())
    yield found
    found.close()


LIST = b"""
import json, os
found = {}
for folder, _, names in os.walk("/registry"):
    for name in names:
        with open(os.path.join(folder, name)) as file:
            found[os.path.join(folder, name)] = file.read()
print(json.dumps(found))
"""

ATTACK = b"""
import json, os
tried = {}
for path, mode in (
    ("/registry/other/1.0.0/script.py", "r"),
    ("/registry/report/1.0.0/script.py", "w"),
    ("/registry/report/1.0.0/script.py", "r+b"),
    ("/registry/report/3.0.0", "w"),
    ("/registry/x", "w"),
    ("/registry/policies/x", "r"),
    ("/registry/../registry/other/1.0.0/component.json", "r"),
):
    try:
        open(path, mode).close()
        tried[f"{mode} {path}"] = "ok"
    except OSError as error:
        tried[f"{mode} {path}"] = type(error).__name__
for call in (
    lambda: os.unlink("/registry/report/1.0.0/script.py"),
    lambda: os.rename("/registry/report", "/registry/other"),
    lambda: os.chmod("/registry/report/1.0.0/script.py", 0o666),
    lambda: os.mkdir("/registry/new"),
):
    try:
        call()
        tried["change"] = "ok"
    except OSError:
        pass
print(json.dumps(tried))
"""


def test_what_is_granted_is_shown(store: RegistryStore, sandbox: SandboxFixture) -> None:
    outcome = sandbox.source(LIST, ["REGISTRY_READ:report"])
    outcome.assert_clean()
    found = outcome.report
    assert sorted(found) == [
        f"/registry/report/{version}/{name}"
        for version in ("1.0.0", "2.0.0")
        for name in ("component.json", "script.py")
    ]
    assert found["/registry/report/2.0.0/script.py"] == "# report 2.0.0\n"
    assert json.loads(found["/registry/report/1.0.0/component.json"])["version"] == "1.0.0"
    told = outcome.reported(events.RegistryRead)
    assert sorted(one.reference for one in told) == ["report@1.0.0", "report@2.0.0"]
    assert {one.capability for one in told} == {"REGISTRY_READ:report"}


def test_what_is_not_granted_is_an_attempt(store: RegistryStore, sandbox: SandboxFixture) -> None:
    head = store.head()
    outcome = sandbox.source(ATTACK, ["REGISTRY_READ:report"])
    assert "ok" not in outcome.report.values()
    other = outcome.assert_violation("REGISTRY_READ:other", operation="open")
    assert other.resource == "/registry/other/1.0.0/script.py"
    outcome.assert_violation("REGISTRY_READ:policies", operation="open")
    for operation in ("unlink", "rename", "chmod", "mkdir"):
        outcome.assert_violation(operation=operation)
    changes = [one for one in outcome.violations if one.resource.startswith("/registry/report/")]
    assert changes and all(one.capability is None for one in changes)
    outcome.assert_raised()
    assert store.head() == head and store.verify() == []
    granted = sandbox.source(ATTACK, ["REGISTRY_READ:*"])
    assert granted.report["r /registry/other/1.0.0/script.py"] == "ok"
    assert "REGISTRY_READ:other" not in {one.capability for one in granted.violations}


def test_without_a_grant_there_is_no_registry(
    store: RegistryStore, sandbox: SandboxFixture
) -> None:
    outcome = sandbox.source(b"open('/registry/report/1.0.0/script.py')")
    outcome.assert_violation("REGISTRY_READ:report", operation="open")
    assert outcome.finished.exit_code == 1


@pytest.mark.parametrize(
    ("grant", "message"),
    [
        ("REGISTRY_READ:none", "names no component that is there"),
        ("REGISTRY_READ:components/report", "names no component"),
        ("REGISTRY_READ:report@1.0.0", "names no component"),
        ("FILE_READ:/registry/**", "which no grant may"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_the_start(
    store: RegistryStore, sandbox: SandboxFixture, grant: str, message: str
) -> None:
    outcome = sandbox.source(b"print('ran')", [grant])
    assert isinstance(outcome.error, CapabilityError) and outcome.result is None
    assert message in outcome.error.message and outcome.error.hint
    (denied,) = outcome.reported(events.CapabilityDenied)
    assert denied.capability == grant


def test_what_was_tampered_with_keeps_a_run_from_starting(
    store: RegistryStore, sandbox: SandboxFixture, area: Path
) -> None:
    component = store.find("report@1.0.0")
    (area / "registry" / str(component.entrypoint)).write_bytes(b"print('evil')\n")
    outcome = sandbox.source(b"print('ran')", ["REGISTRY_READ:report"])
    assert isinstance(outcome.error, RegistryError) and outcome.result is None
    assert outcome.error.details["reason"] == "tampered"
    (denied,) = outcome.reported(events.CapabilityDenied)
    assert denied.capability == "REGISTRY_READ:report"
    sandbox.source(LIST, ["REGISTRY_READ:other"]).assert_clean()
