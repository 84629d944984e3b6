"""What a run is shown of a registry: which components, what of them, and how much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omnibase import registry_access
from omnibase.core import events
from omnibase.core.registry import Component, Lifecycle, RegistryStore, open_store
from omnibase.core.sandbox.monitor.registry import registry_capability
from omnibase.core.sandbox.spec import RegistryGrant
from omnibase.errors import CapabilityError, ConfigurationError, RegistryError
from omnibase.registry_access import opened, shown


def grant(pattern: str) -> RegistryGrant:
    return RegistryGrant(pattern=pattern, capability=f"REGISTRY_READ:{pattern}")


def add(store: RegistryStore, name: str, version: str, script: bytes | None = None) -> Component:
    component = store.add(
        Component.new(name=name, version=version, owner="ann"), author="eve", comment="hush"
    )
    if script is not None:
        component = store.add_script(component.uuid, "main.py", script)
    return component


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RegistryStore]:
    found = open_store(tmp_path / "registry")
    yield found
    found.close()


def test_each_version_with_its_script(store: RegistryStore) -> None:
    one = add(store, "report", "1.0.0", b"print(1)\n")
    two = add(store, "report", "2.0.0-rc.1+x")
    add(store, "other", "1.0.0", b"print(2)\n")
    found = shown(store, [grant("report")])
    files = {file.path: file.content for file in found.files}
    assert sorted(files) == [
        "report/1.0.0/component.json",
        "report/1.0.0/script.py",
        "report/2.0.0-rc.1+x/component.json",
    ]
    assert files["report/1.0.0/script.py"] == b"print(1)\n"
    record = json.loads(files["report/1.0.0/component.json"])
    assert record == {
        "uuid": str(one.uuid), "name": "report", "version": "1.0.0", "owner": "ann",
        "description": "", "lifecycle": "draft", "trust": "untrusted",
        "capabilities_required": [], "idempotent": False, "revision": 2,
        "script": one.artifacts["entrypoint"],
    }  # fmt: skip
    assert json.loads(files["report/2.0.0-rc.1+x/component.json"])["script"] is None
    assert set(found.events) == {
        events.RegistryRead(
            capability="REGISTRY_READ:report",
            component=str(each.uuid),
            reference=each.reference,
            revision=each.revision_number,
        )
        for each in (one, two)
    }


def test_nothing_of_who_changed_it_nor_of_its_policy(store: RegistryStore) -> None:
    component = add(store, "report", "1.0.0", b"print(1)\n")
    policy = b'{"staticPolicies": {}, "templates": {}, "templateLinks": []}'
    store.put_policy(component.uuid, policy, expected_version=0, author="mallory")
    said = b"".join(file.content for file in shown(store, [grant("*")]).files)
    for word in (b"policy", b"eve", b"hush", b"mallory", b"staticPolicies"):
        assert word not in said


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["report"], {"report"}),
        (["rep*"], {"report", "reporter"}),
        (["report?r", "other"], {"reporter", "other"}),
        (["*"], {"report", "reporter", "other"}),
        (["report", "report*"], {"report", "reporter"}),
    ],
)
def test_patterns(store: RegistryStore, patterns: list[str], expected: set[str]) -> None:
    for name in ("report", "reporter", "other"):
        add(store, name, "1.0.0", b"pass\n")
    found = shown(store, map(grant, patterns))
    assert {file.path.split("/")[0] for file in found.files} == expected
    assert len(found.events) == len(expected)


@pytest.mark.parametrize("pattern", ["none", "none*", "-x", "retired", "ret*"])
def test_what_names_nothing_is_refused(store: RegistryStore, pattern: str) -> None:
    add(store, "report", "1.0.0")
    store.retire(add(store, "retired", "1.0.0").uuid)
    with pytest.raises(CapabilityError, match="names no component that is there") as caught:
        shown(store, [grant(pattern)])
    assert caught.value.details == {"capability": f"REGISTRY_READ:{pattern}"}
    assert caught.value.hint


def test_a_retired_version_is_left_out(store: RegistryStore) -> None:
    add(store, "report", "1.0.0")
    store.retire(add(store, "report", "2.0.0").uuid)
    (file,) = shown(store, [grant("report")]).files
    assert file.path == "report/1.0.0/component.json"


def test_the_bounds(store: RegistryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        add(store, f"c{n}", "1.0.0", b"#" * 1000)
    monkeypatch.setattr(registry_access, "MAX_COMPONENTS", 3)
    assert len(shown(store, [grant("*")]).events) == 3
    monkeypatch.setattr(registry_access, "MAX_COMPONENTS", 2)
    with pytest.raises(CapabilityError, match="shows more than 2 components"):
        shown(store, [grant("c0"), grant("*")])
    monkeypatch.setattr(registry_access, "MAX_COMPONENTS", 9)
    monkeypatch.setattr(registry_access, "MAX_SHOWN_BYTES", 3000)
    with pytest.raises(CapabilityError, match="shows more than"):
        shown(store, [grant("*")])
    monkeypatch.setattr(registry_access, "_MAX_LOOKED_AT", 2)
    with pytest.raises(CapabilityError, match="look through more than 2 components"):
        shown(store, [grant("c*")])
    assert shown(store, [grant("c1")]).files


def test_what_was_tampered_with_is_not_shown(store: RegistryStore, tmp_path: Path) -> None:
    component = add(store, "report", "1.0.0", b"print(1)\n")
    script = tmp_path / "registry" / str(component.entrypoint)
    script.write_bytes(b"print(2)\n")
    with pytest.raises(RegistryError) as caught:
        shown(store, [grant("report")])
    assert caught.value.details["reason"] == "tampered"
    assert caught.value.details["capability"] == "REGISTRY_READ:report"


def test_a_component_that_changes_meanwhile(store: RegistryStore) -> None:
    component = add(store, "report", "1.0.0", b"print(1)\n")

    class Changing:
        """Changes the script between the look-up and its reading, so often."""

        def __init__(self, times: int) -> None:
            self.times = times

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def load_entrypoint(self, asked: Component) -> bytes:
            if self.times:
                self.times -= 1
                store.add_script(asked.uuid, "main.py", f"print({self.times})\n".encode())
            return store.load_entrypoint(asked)

    found = shown(Changing(3), [grant("report")])  # type: ignore[arg-type]
    files = {file.path: file.content for file in found.files}
    assert files["report/1.0.0/script.py"] == b"print(0)\n"
    current = store.get(component.uuid)
    record = json.loads(files["report/1.0.0/component.json"])
    assert (record["script"], record["revision"]) == (
        current.artifacts["entrypoint"], current.revision_number,
    )  # fmt: skip
    with pytest.raises(RegistryError, match="changes faster than it can be read"):
        shown(Changing(1000), [grant("report")])  # type: ignore[arg-type]


def test_active_and_deprecated_are_shown_as_they_are(store: RegistryStore) -> None:
    component = add(store, "report", "1.0.0", b"pass\n")
    store.update(replace(store.get(component.uuid), lifecycle=Lifecycle.ACTIVE))
    (record, _) = sorted(shown(store, [grant("report")]).files, key=lambda file: file.path)
    assert json.loads(record.content)["lifecycle"] == "active"


class TestOpened:
    def test_a_store_stays_open(self, store: RegistryStore) -> None:
        with opened(store) as found:
            assert found is store
        assert list(store.list()) == []

    def test_where_one_is(
        self, store: RegistryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(store, "report", "1.0.0")
        with opened(tmp_path / "registry") as found:
            assert found.find("report").name == "report"
        monkeypatch.setenv("OMNIBASE_REGISTRY", str(tmp_path / "registry"))
        with opened(None) as found:
            assert found.find("report").name == "report"

    def test_where_none_is(self, tmp_path: Path) -> None:
        for location in (str(tmp_path / "none"), f"sqlite:///{tmp_path}/none.db"):
            with pytest.raises(ConfigurationError, match="there is no registry") as caught:
                opened(location).__enter__()
            assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("FILE_READ", "/registry/report/1.0.0/script.py", "REGISTRY_READ:report"),
        ("FILE_READ", "/registry/report", "REGISTRY_READ:report"),
        ("FILE_READ", "/registry", "REGISTRY_READ:*"),
        ("FILE_READ", "/registry/Not a name/x", None),
        ("FILE_READ", "/registry/*", None),
        ("FILE_WRITE", "/registry/report/1.0.0/script.py", None),
        ("FILE_WRITE", "/registry/x", None),
        ("FILE_WRITE", "/registry/out/report/script.py", "REGISTRY_WRITE:report"),
        ("FILE_READ", "/registry/out/report", "REGISTRY_WRITE:report"),
        ("FILE_WRITE", "/registry/out", "REGISTRY_WRITE:*"),
        ("FILE_WRITE", "/registry/out/?", None),
        ("FILE_READ", "/registry/outer/1", "REGISTRY_READ:outer"),
    ],
)
def test_what_an_attempt_would_have_needed(kind: str, path: str, expected: str | None) -> None:
    assert registry_capability(kind, path) == expected
