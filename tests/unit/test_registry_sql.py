"""A database is believed no more than files are: each row that was changed is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from omnibase.core.registry import Component, FindingCode, RegistryStore, Version, open_store
from omnibase.errors import OmniBaseError, PolicyError

C = FindingCode


@dataclass
class Registry:
    """Two components in SQLite, and what the first was before its last changes."""

    path: Path
    store: RegistryStore
    one: Component
    two: Component
    old: Component

    def run(self, statement: str) -> None:
        """Changes the database behind the registry's back."""
        values = {
            "one": str(self.one.uuid), "two": str(self.two.uuid), "old": self.old.to_json(),
            "stray": "00000000-0000-4000-8000-000000000000",
        }  # fmt: skip
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(statement, values)
        connection.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    path = tmp_path / "registry.db"
    store = open_store(f"sqlite:///{path}")

    def make(name: str) -> Component:
        added = store.add(Component.new(name=name, version="1.0.0", owner="ann"))
        store.add_script(added.uuid, "main.py", b"print(1)\n")
        policy = b'{"old of %s": 1}' % name.encode()
        return store.put_policy(added.uuid, policy, expected_version=0)

    one, two = make("one"), make("two")
    old = one
    one = store.put_policy(one.uuid, b'{"new": 1}', expected_version=1)
    one = store.update(replace(one, version=Version.parse("1.1.0")))
    assert store.verify() == []
    yield Registry(path, store, one, two, old)
    store.close()


CASES = [
    ("UPDATE omnibase_components SET record = record || ' ' WHERE uuid = :one",
     "components/{one}.json", C.CHANGED, True),
    ("UPDATE omnibase_components SET record = 'text' WHERE uuid = :one",
     "components/{one}.json", C.CHANGED, True),
    ("UPDATE omnibase_components SET record = :old WHERE uuid = :one",
     "components/{one}.json", C.ROLLBACK, True),
    ("UPDATE omnibase_components SET record = (SELECT record FROM omnibase_components"
     " WHERE uuid = :two) WHERE uuid = :one", "components/{one}.json", C.SWAPPED, True),
    ("UPDATE omnibase_components SET record = zeroblob(2000000) WHERE uuid = :one",
     "components/{one}.json", C.TOO_LARGE, True),
    ("DELETE FROM omnibase_components WHERE uuid = :one",
     "components/{one}.json", C.MISSING, True),
    ("UPDATE omnibase_policies SET document = CAST('{}' AS BLOB) WHERE uuid = :one",
     "policies/{one}.cedar.json", C.CHANGED, True),
    ("UPDATE omnibase_policies SET document = (SELECT document FROM omnibase_policies"
     " WHERE uuid = :two) WHERE uuid = :one", "policies/{one}.cedar.json", C.CHANGED, True),
    ("UPDATE omnibase_policies SET document = (SELECT policy FROM omnibase_history"
     " WHERE uuid = :one AND revision = 3) WHERE uuid = :one",
     "policies/{one}.cedar.json", C.ROLLBACK, True),
    ("UPDATE omnibase_policies SET document = zeroblob(1048577) WHERE uuid = :one",
     "policies/{one}.cedar.json", C.TOO_LARGE, True),
    ("DELETE FROM omnibase_policies WHERE uuid = :one",
     "policies/{one}.cedar.json", C.MISSING, True),
    ("UPDATE omnibase_scripts SET content = CAST('x' AS BLOB) WHERE uuid = :one",
     "scripts/{one}/main.py", C.CHANGED, True),
    ("DELETE FROM omnibase_scripts WHERE uuid = :one", "scripts/{one}/main.py", C.MISSING, True),
    ("UPDATE omnibase_names SET uuid = 'x' WHERE version = '1.1.0'",
     "names/one/1.1.0", C.CHANGED, True),
    ("UPDATE omnibase_names SET uuid = :two WHERE version = '1.1.0'",
     "names/one/1.1.0", C.SWAPPED, True),
    ("DELETE FROM omnibase_log", "log", C.MISSING, True),
    ("DELETE FROM omnibase_log WHERE sequence = 2", "log", C.LOG, False),
    ("UPDATE omnibase_log SET line = 'x' WHERE sequence = 2", "log", C.LOG, False),
    ("UPDATE omnibase_log SET line = zeroblob(500) WHERE sequence = 2", "log", C.LOG, False),
    ("UPDATE omnibase_log SET sequence = 20 WHERE sequence = 8", "log", C.LOG, True),
    ("UPDATE omnibase_history SET component = zeroblob(9) WHERE uuid = :one AND revision = 1",
     "history/{one}/000001-component.json", C.CHANGED, False),
    ("UPDATE omnibase_history SET policy = NULL WHERE uuid = :one AND revision = 3",
     "history/{one}/000003-policy.cedar.json", C.MISSING, False),
    ("UPDATE omnibase_history SET policy = zeroblob(1) WHERE uuid = :one AND revision = 1",
     "history/{one}/000001-policy.cedar.json", C.EXTRA, False),
    ("UPDATE omnibase_history SET script = zeroblob(1) WHERE uuid = :one AND revision = 1",
     "history/{one}/000001-script", C.EXTRA, False),
    ("DELETE FROM omnibase_history WHERE uuid = :one AND revision = 2",
     "history/{one}/000002-component.json", C.MISSING, False),
    ("INSERT INTO omnibase_policies VALUES (:stray, zeroblob(1))",
     "policies/{stray}.cedar.json", C.EXTRA, False),
    ("INSERT INTO omnibase_scripts VALUES ('scripts/x', :stray, zeroblob(1))",
     "scripts/{stray}", C.EXTRA, False),
    ("INSERT INTO omnibase_history VALUES (:stray, 1, zeroblob(1), NULL, NULL)",
     "history/{stray}", C.EXTRA, False),
    ("INSERT INTO omnibase_names VALUES ('one', '9.0.0', :stray)",
     "names/one/9.0.0", C.EXTRA, False),
    ("INSERT INTO omnibase_components VALUES (:stray, 'x', '1', 'x', 'x', 1, zeroblob(1))",
     "components/{stray}.json", C.EXTRA, False),
    ("INSERT INTO omnibase_components VALUES ('x', 'x', '1', 'x', 'x', 1, zeroblob(1))",
     "components/x.json", C.EXTRA, False),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "form", "code", "read"), CASES)
def test_a_row_that_was_changed_is_found(
    statement: str, form: str, code: FindingCode, read: bool, registry: Registry
) -> None:
    registry.run(statement)
    file = form.format(
        one=registry.one.uuid, two=registry.two.uuid, stray="00000000-0000-4000-8000-000000000000"
    )
    findings = registry.store.verify()
    assert any((found.file, found.code) == (file, code) for found in findings), findings
    if not read:
        return
    with pytest.raises(OmniBaseError) as caught:
        component = registry.store.find("one@1.1.0")
        registry.store.get_policy(component.uuid)
        registry.store.load_entrypoint(component)
        registry.store.head()
    assert caught.value.details["reason"] == "tampered"
    assert isinstance(caught.value, PolicyError) == file.startswith("policies/")


def test_columns_for_people_are_not_believed(registry: Registry) -> None:
    registry.run("UPDATE omnibase_components SET lifecycle = 'active', owner = 'eve'")
    assert registry.store.get(registry.one.uuid) == registry.one
    assert list(registry.store.list(owner="eve")) == []
