"""Component files: what is accepted, what is refused and where, and the published schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from omnibase.core.registry import (
    Action,
    Component,
    PolicyState,
    PolicyVersion,
    Revision,
    component_schema,
    open_store,
)
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import ConfigurationError, RegistryError

SCHEMA = Path(__file__).parents[2] / "docs/schemas/component.schema.json"
TEXT = "12345678-1234-4234-8234-123456789abc"
SMALLEST = {"uuid": TEXT, "name": "report", "version": "1.0.0", "owner": "ann"}
SHA = "a" * 64
TIME = "2025-01-31T12:00:00Z"
VERSION = {
    "version": 1, "sha256": SHA, "revision": 2, "time": TIME, "author": "", "comment": "",
}  # fmt: skip
POLICY = {"version": 1, "sha256": SHA, "history": [VERSION]}
REVISION = {
    "number": 2, "sequence": 5, "previous": SHA, "action": "put_policy", "time": TIME,
    "author": "ann", "comment": "",
}  # fmt: skip
FULL = {
    **SMALLEST, "format": 1, "description": "two\nlines", "lifecycle": "active",
    "trust": "semi_trusted", "capabilities_required": ["FILE_READ:/data/**"], "idempotent": True,
    "entrypoint": f"scripts/{TEXT}/main.py", "artifacts": {"entrypoint": SHA, "model": SHA},
    "policy": POLICY, "revision": REVISION,
}  # fmt: skip


def read(document: Any) -> Component:
    return Component.from_json(json.dumps(document).encode(), "file.json")


@pytest.mark.parametrize(
    "document",
    [
        SMALLEST, FULL, {**FULL, "policy": None, "entrypoint": None, "artifacts": {"m": SHA}},
        {**SMALLEST, "name": "a"}, {**SMALLEST, "name": "a" * 64}, {**SMALLEST, "name": "0.x_y-1"},
        {**SMALLEST, "version": "1.0.0-rc.1+build.7"}, {**SMALLEST, "description": "x" * 4096},
    ],
)  # fmt: skip
def test_accepted_by_the_parser_and_the_schema(document: dict[str, Any]) -> None:
    component = read(document)
    assert component.to_dict().items() >= document.items()
    assert Component.from_json(component.to_json()) == component
    jsonschema.validate(document, component_schema())
    jsonschema.validate(component.to_dict(), component_schema())


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in SMALLEST.items() if name != key}


SHAPES = [
    ([], "$"), (None, "$"), ("x", "$"),
    *((_without(key), "$") for key in SMALLEST),
    ({**SMALLEST, "extra": 1}, "$.extra"),
    ({**SMALLEST, "format": 2}, "$.format"), ({**SMALLEST, "format": True}, "$.format"),
    ({**SMALLEST, "uuid": TEXT.upper()}, "$.uuid"), ({**SMALLEST, "uuid": 5}, "$.uuid"),
    ({**SMALLEST, "uuid": TEXT + "\n"}, "$.uuid"), ({**SMALLEST, "uuid": "../x"}, "$.uuid"),
    ({**SMALLEST, "name": ""}, "$.name"), ({**SMALLEST, "name": "A"}, "$.name"),
    ({**SMALLEST, "name": TEXT}, "$.name"), ({**SMALLEST, "name": "a/b"}, "$.name"),
    ({**SMALLEST, "name": ".a"}, "$.name"), ({**SMALLEST, "name": "a."}, "$.name"),
    ({**SMALLEST, "name": "a\n"}, "$.name"), ({**SMALLEST, "name": "a" * 65}, "$.name"),
    ({**SMALLEST, "name": ["a"]}, "$.name"),
    ({**SMALLEST, "version": "1.0"}, "$.version"), ({**SMALLEST, "version": 1}, "$.version"),
    ({**SMALLEST, "version": "01.0.0"}, "$.version"),
    ({**SMALLEST, "owner": ""}, "$.owner"), ({**SMALLEST, "owner": None}, "$.owner"),
    ({**SMALLEST, "owner": "x" * 201}, "$.owner"),
    ({**SMALLEST, "description": "x" * 4097}, "$.description"),
    ({**SMALLEST, "lifecycle": "dead"}, "$.lifecycle"),
    ({**SMALLEST, "lifecycle": 1}, "$.lifecycle"),
    ({**SMALLEST, "trust": "Trusted"}, "$.trust"),
    ({**SMALLEST, "idempotent": 1}, "$.idempotent"),
    ({**SMALLEST, "capabilities_required": {}}, "$.capabilities_required"),
    ({**SMALLEST, "capabilities_required": [1]}, "$.capabilities_required[0]"),
    ({**SMALLEST, "capabilities_required": ["MEMORY:1MiB", "NO:x"]}, "$.capabilities_required[1]"),
    ({**SMALLEST, "capabilities_required": ["MEMORY:1MiB"] * 1001}, "$.capabilities_required"),
    ({**SMALLEST, "artifacts": []}, "$.artifacts"),
    ({**SMALLEST, "artifacts": {"A": SHA}}, "$.artifacts"),
    ({**SMALLEST, "artifacts": {"a": SHA.upper()}}, "$.artifacts.a"),
    ({**SMALLEST, "artifacts": {"a": 1}}, "$.artifacts.a"),
    ({**SMALLEST, "artifacts": {f"a{i}": SHA for i in range(65)}}, "$.artifacts"),
    ({**SMALLEST, "entrypoint": "/etc/passwd", "artifacts": {"entrypoint": SHA}}, "$.entrypoint"),
    ({**SMALLEST, "entrypoint": f"scripts/{TEXT}/../x.py", "artifacts": {"entrypoint": SHA}},
     "$.entrypoint"),
    ({**SMALLEST, "entrypoint": f"scripts/{TEXT}/.x", "artifacts": {"entrypoint": SHA}},
     "$.entrypoint"),
    ({**SMALLEST, "entrypoint": 1, "artifacts": {"entrypoint": SHA}}, "$.entrypoint"),
    ({**SMALLEST, "policy": []}, "$.policy"),
    ({**SMALLEST, "policy": {**POLICY, "version": 0}}, "$.policy.version"),
    ({**SMALLEST, "policy": {**POLICY, "version": True}}, "$.policy.version"),
    ({**SMALLEST, "policy": {**POLICY, "sha256": "x"}}, "$.policy.sha256"),
    ({**SMALLEST, "policy": {**POLICY, "history": []}}, "$.policy.history"),
    ({**SMALLEST, "policy": {**POLICY, "history": [{}]}}, "$.policy.history[0]"),
    ({**SMALLEST, "policy": {**POLICY, "more": 1}}, "$.policy.more"),
    ({**SMALLEST, "policy": {**POLICY, "history": [{**VERSION, "time": "now"}]}},
     "$.policy.history[*].time"),
    ({**SMALLEST, "revision": 1}, "$.revision"),
    ({**SMALLEST, "revision": {**REVISION, "number": 1.5}}, "$.revision.number"),
    ({**SMALLEST, "revision": {**REVISION, "number": 10**6}}, "$.revision.number"),
    ({**SMALLEST, "revision": {**REVISION, "sequence": 0}}, "$.revision.sequence"),
    ({**SMALLEST, "revision": {**REVISION, "previous": "x"}}, "$.revision.previous"),
    ({**SMALLEST, "revision": {**REVISION, "action": "hack"}}, "$.revision.action"),
    ({**SMALLEST, "revision": {**REVISION, "author": "x" * 201}}, "$.revision.author"),
    ({**SMALLEST, "revision": {**REVISION, "comment": 1}}, "$.revision.comment"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "path"), SHAPES)
def test_refused_by_the_parser_and_the_schema(document: Any, path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        read(document)
    assert caught.value.details["reason"] == "invalid"
    assert caught.value.details["json_path"] == path
    assert caught.value.message.startswith("`file.json`")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, component_schema())


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**SMALLEST, "owner": "a\nb"}, "$.owner"),
        ({**SMALLEST, "owner": "\u202eevil"}, "$.owner"),
        ({**SMALLEST, "description": "\ud800"}, "$.description"),
        ({**SMALLEST, "description": "\x1b[2J"}, "$.description"),
        ({**SMALLEST, "entrypoint": f"scripts/{TEXT}/m.py"}, "$.entrypoint"),
        ({**SMALLEST, "artifacts": {"entrypoint": SHA}}, "$.entrypoint"),
        ({**SMALLEST, "entrypoint": f"scripts/{TEXT[:-1]}d/m.py", "artifacts": {"entrypoint": SHA}},
         "$.entrypoint"),
        ({**SMALLEST, "policy": {**POLICY, "version": 2}}, "$.policy.history"),
        ({**SMALLEST, "policy": {**POLICY, "sha256": "b" * 64}}, "$.policy.history"),
        ({**SMALLEST, "policy": {**POLICY, "history": [VERSION, VERSION]}}, "$.policy.history"),
        ({**SMALLEST, "policy": {**POLICY, "version": 2, "history": [
            VERSION, {**VERSION, "version": 2}]}}, "$.policy.history"),
        ({**SMALLEST, "revision": {**REVISION, "number": 1}}, "$.revision.previous"),
        ({**SMALLEST, "revision": {**REVISION, "action": "add"}}, "$.revision.action"),
        ({**SMALLEST, "revision": {**REVISION, "time": "2025-02-30T00:00:00Z"}}, "$.revision.time"),
    ],
)  # fmt: skip
def test_refused_for_what_no_schema_says(document: Any, path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        read(document)
    assert caught.value.details["json_path"] == path


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"uuid": 1, "uuid": 2}', b"NaN",
        b" " * (1 << 20) + b"{}", b'{"format": 123456789012345678901234567890}', b"\0",
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RegistryError) as caught:
        Component.from_json(data, "file.json")
    assert caught.value.details["reason"] == "invalid"
    assert caught.value.details["source"] == "file.json"


def test_a_fault_has_its_line() -> None:
    text = json.dumps({**SMALLEST, "trust": "no"}, indent=2)
    with pytest.raises(RegistryError) as caught:
        Component.from_json(text.encode(), "file.json")
    assert (caught.value.details["line"], caught.value.details["column"]) == (6, 3)
    assert "`untrusted`" in (caught.value.hint or "")


def test_the_file_is_canonical() -> None:
    component = read(FULL)
    text = component.to_json().decode()
    assert text == json.dumps(component.to_dict(), sort_keys=True, indent=2) + "\n"
    shuffled = dict(reversed(FULL.items()))
    shuffled["artifacts"] = dict(reversed(FULL["artifacts"].items()))
    assert read(shuffled).to_json() == component.to_json()
    twice = {**FULL, "capabilities_required": ["FILE_READ:/data/**"] * 2}
    assert read(twice) == component


def test_a_component_is_a_value() -> None:
    component = read(FULL)
    assert component == read(FULL)
    assert hash(component) == hash(read(FULL))
    assert component.reference == "report@1.0.0"
    assert (component.policy_version, component.policy_sha256) == (1, SHA)
    assert component.revision_number == 2
    with pytest.raises(TypeError):
        component.artifacts["entrypoint"] = SHA  # type: ignore[index]
    with pytest.raises(RegistryError):
        replace(component, name="No")
    fresh = Component.new(name="report", version="1.0.0", owner="ann")
    assert (fresh.policy_version, fresh.policy_sha256, fresh.revision_number) == (0, None, 0)
    assert fresh.uuid != Component.new(name="report", version="1.0.0", owner="ann").uuid


def test_too_many_capabilities_are_refused() -> None:
    many = CapabilitySet.parse(f"FILE_READ:/{i}" for i in range(1001))
    with pytest.raises(RegistryError, match="1001 capabilities"):
        Component.new(name="report", version="1.0.0", owner="ann", capabilities_required=many)


def test_states_are_checked_when_made() -> None:
    with pytest.raises(RegistryError):
        PolicyVersion(version=0, sha256=SHA, revision=1, time=TIME)
    with pytest.raises(RegistryError):
        PolicyState(version=1, sha256=SHA, history=())
    with pytest.raises(RegistryError):
        Revision(number=1, sequence=1, previous=None, action=Action.UPDATE, time=TIME)


def test_the_published_schema_is_this_one() -> None:
    assert json.loads(SCHEMA.read_text()) == component_schema()
    jsonschema.Draft202012Validator.check_schema(component_schema())


def test_the_smallest_file_has_the_defaults() -> None:
    component = read(SMALLEST)
    assert component == Component.new(
        name="report", version="1.0.0", owner="ann", uuid=UUID(TEXT)
    )  # fmt: skip
    assert (component.lifecycle, component.trust) == ("draft", "untrusted")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "in memory"), ("sqlite:///:memory:", "in memory"),
        ("mysql://localhost/x", "not supported"), ("://x", "malformed"),
    ],
)  # fmt: skip
def test_a_database_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        open_store(url)
    assert caught.value.hint


def test_without_sqlalchemy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with pytest.raises(ConfigurationError) as caught:
        open_store("sqlite:////tmp/x.db")
    assert caught.value.hint == "install `omnibase[sql]`"


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for url in (
        f"sqlite:///{tmp_path}/none/registry.db",
        f"postgresql://user:hunter2@/db?host={tmp_path}",
    ):
        with pytest.raises(RegistryError) as caught:
            open_store(url)
        assert caught.value.details["reason"] == "unavailable"
        assert "hunter2" not in caught.value.message
