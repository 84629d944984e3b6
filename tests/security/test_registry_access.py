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

pytestmark = pytest.mark.registry


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


@pytest.mark.threat("T-REG-06")
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


@pytest.mark.threat("T-REG-06")
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


@pytest.mark.threat("T-REG-06")
def test_without_a_grant_there_is_no_registry(
    store: RegistryStore, sandbox: SandboxFixture
) -> None:
    outcome = sandbox.source(b"open('/registry/report/1.0.0/script.py')")
    outcome.assert_violation("REGISTRY_READ:report", operation="open")
    assert outcome.finished.exit_code == 1


@pytest.mark.threat("T-REG-06")
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


@pytest.mark.threat("T-REG-01")
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


PROPOSE = b"""
import json, os, sys

def propose(name, document, script="print('new')\\n", **more):
    folder = f"/registry/out/{name}"
    os.makedirs(folder)
    files = {"component.json": json.dumps(document), "script.py": script, **more}
    for part, text in files.items():
        if text is not None:
            with open(f"{folder}/{part}", "w") as file:
                file.write(text)

"""


def names(store: RegistryStore) -> list[str]:
    return sorted(one.reference for one in store.list())


BEFORE = ["other@1.0.0", "report@1.0.0", "report@2.0.0"]


@pytest.mark.threat("T-REG-05")
def test_what_is_proposed_is_added_as_a_draft(
    store: RegistryStore, sandbox: SandboxFixture
) -> None:
    source = (
        PROPOSE
        + b"""
propose("report", {"version": "3.0.0", "description": "better",
                   "capabilities_required": ["FILE_READ:/data/**"]})
print(os.listdir("/registry/out"), os.path.exists("/registry/report/1.0.0/script.py"))
"""
    )
    outcome = sandbox.source(source, ["REGISTRY_WRITE:report", "REGISTRY_READ:report"])
    outcome.assert_clean()
    assert outcome.stdout == "['report'] True\n"
    (proposed,) = outcome.finished.proposed
    assert outcome.finished.registered == (proposed,) and outcome.finished.ok
    component = store.find("report@3.0.0")
    assert (proposed.reference, proposed.uuid) == ("report@3.0.0", str(component.uuid))
    assert (component.lifecycle, component.trust, component.policy) == (
        "draft", "untrusted", None,
    )  # fmt: skip
    author = f"run:{outcome.finished.run_id}"
    assert component.owner == author
    assert {one.revision and one.revision.author for one in store.history(component.uuid)} == {
        author
    }
    assert store.load_entrypoint(component) == b"print('new')\n"
    (added,) = outcome.reported(events.RegistryAdded)
    assert (added.component, added.reference, added.script_sha256) == (
        str(component.uuid), "report@3.0.0", component.artifacts["entrypoint"],
    )  # fmt: skip
    assert names(store) == [*BEFORE, "report@3.0.0"] and store.verify() == []


@pytest.mark.threat("T-REG-05")
def test_a_name_beyond_the_grant_is_a_violation(
    store: RegistryStore, sandbox: SandboxFixture
) -> None:
    source = (
        PROPOSE
        + b"""
propose("report", {"version": "3.0.0"})
propose("other", {"version": "3.0.0"})
"""
    )
    outcome = sandbox.source(source, ["REGISTRY_WRITE:report"])
    outcome.assert_violation("REGISTRY_WRITE:other", operation="collect", evidence="agent")
    outcome.assert_raised()
    # Nothing of a run that tried more is added.
    assert names(store) == BEFORE
    (refused,) = outcome.reported(events.RegistryRefused)
    assert (refused.name, refused.reason) == ("report", "the script tried what it was not granted")
    granted = sandbox.source(source, ["REGISTRY_WRITE:report", "REGISTRY_WRITE:other"])
    granted.assert_clean()
    assert names(store) == sorted([*BEFORE, "report@3.0.0", "other@3.0.0"])


@pytest.mark.threat("T-REG-05")
def test_without_a_grant_nothing_can_be_proposed(
    store: RegistryStore, sandbox: SandboxFixture
) -> None:
    for caps in ([], ["REGISTRY_READ:*"]):
        source = b"open('/registry/out/report/script.py', 'w')"
        outcome = sandbox.source(source, caps)
        outcome.assert_violation("REGISTRY_WRITE:report", operation="open")
        assert outcome.finished.exit_code == 1 and outcome.finished.proposed == ()


@pytest.mark.threat("T-REG-05")
@pytest.mark.parametrize(
    ("body", "name", "reason"),
    [
        ('propose("report", {"version": "1.0.0"})', "report", "`report@1.0.0` is component"),
        ('propose("old", {"version": "1.0.0"})', "old", "`old@1.0.0` is component"),
        ('propose("new", {"version": "1.0.0", "trust": "trusted"})', "new", "says nothing of"),
        ('propose("new", {"version": "1.0.0", "policy": {}})', "new", "says nothing of"),
        ('propose("new", {})', "new", "has no `version`"),
        ('propose("new", {"version": "1.0.0"}, None)', "new", "it has no `script.py`"),
        ('propose("New!", {"version": "1.0.0"})', "New!", "is `New!`"),
        (
            'propose("new", {"version": "1.0.0"}, **{"policy.cedar.json": "{}"})',
            "new",
            "is no part of one",
        ),
        (
            'propose("new", {"version": "1.0.0"}); os.makedirs("/registry/out/new/a/b");'
            'open("/registry/out/new/a/b/c", "w").close()',
            "new",
            "is no part of one",
        ),
        ('open("/registry/out/loose", "w").close()', "loose", "is no part of one"),
        (
            'propose("new", {"version": "1.0.0"}, None);'
            'os.symlink("/etc/passwd", "/registry/out/new/script.py")',
            "new",
            "is not a regular file",
        ),
        (
            'propose("new", {"version": "1.0.0"}, "#" * (4 << 20) + "#")',
            "new",
            "is larger than 4096 KiB",
        ),
        (
            'propose("new", {"version": "1.0.0", "description": "x" * 70000})',
            "new",
            "is larger than 64 KiB",
        ),
        ('propose("new", {"version": "1.0.0"}); sys.exit(3)', "new", "the script ended with 3"),
    ],
    ids=range(14),
)
def test_what_is_no_proposal_is_refused_with_the_reason(
    store: RegistryStore, sandbox: SandboxFixture, body: str, name: str, reason: str
) -> None:
    old = store.add(Component.new(name="old", version="1.0.0", owner="ann"))
    store.retire(old.uuid)
    head = store.head()
    outcome = sandbox.source(PROPOSE + body.encode(), ["REGISTRY_WRITE:*"])
    assert outcome.error is None and not outcome.finished.ok
    (proposed,) = outcome.finished.proposed
    assert proposed.name == name and reason in str(proposed.reason)
    assert outcome.finished.registered == ()
    (refused,) = outcome.reported(events.RegistryRefused)
    assert (refused.name, refused.reason) == (name, proposed.reason)
    assert store.head() == head and outcome.reported(events.RegistryAdded) == []


@pytest.mark.threat("T-REG-05")
def test_the_good_among_the_bad_is_added(store: RegistryStore, sandbox: SandboxFixture) -> None:
    source = (
        PROPOSE
        + b"""
propose("bad", {"version": "x"})
propose("good", {"version": "1.0.0"})
"""
    )
    outcome = sandbox.source(source, ["REGISTRY_WRITE:*"])
    assert [(one.name, one.reference) for one in outcome.finished.proposed] == [
        ("bad", None), ("good", "good@1.0.0"),
    ]  # fmt: skip
    assert not outcome.finished.ok and names(store) == sorted([*BEFORE, "good@1.0.0"])


@pytest.mark.threat("T-REG-06")
def test_a_registry_that_is_not_there(
    sandbox: SandboxFixture, area: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(area / "none"))
    for kind in ("READ", "WRITE"):
        outcome = sandbox.source(b"print('ran')", [f"REGISTRY_{kind}:report"])
        assert outcome.error is not None and "there is no registry" in outcome.error.message
        assert outcome.result is None and not (area / "none").exists()
