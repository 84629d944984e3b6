"""A database is believed no more than files are: each row that was changed is found."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from omnibase.core.registry import Component, FindingCode, RegistryStore, Version, open_store
from omnibase.core.registry.sql_schema import make_engine
from omnibase.errors import ConfigurationError, OmniBaseError, PolicyError, RegistryError

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


class TestTheFile:
    """The database is refused unread if others may have had a hand in it."""

    def refused(self, registry: Registry, code: FindingCode, file: str = "registry.db") -> None:
        for ask in (
            lambda: registry.store.get(registry.one.uuid),
            lambda: open_store(f"sqlite:///{registry.path}").close(),
        ):
            with pytest.raises(OmniBaseError) as caught:
                ask()
            assert caught.value.details["reason"] == "tampered"
            assert (caught.value.details["file"], caught.value.details["code"]) == (file, code)

    def test_of_somebody_else(self, registry: Registry) -> None:
        os.chown(registry.path, 1234, -1)
        self.refused(registry, C.PERMISSIONS)

    @pytest.mark.parametrize("mode", [0o664, 0o646])
    def test_that_others_may_write(self, registry: Registry, mode: int) -> None:
        registry.path.chmod(mode)
        self.refused(registry, C.PERMISSIONS)
        registry.path.chmod(0o644)
        assert registry.store.get(registry.one.uuid) == registry.one

    def test_in_a_directory_that_others_may_write(self, registry: Registry) -> None:
        registry.path.parent.chmod(0o777)
        self.refused(registry, C.PERMISSIONS, str(registry.path.parent))
        registry.path.parent.chmod(0o1777)
        self.refused(registry, C.PERMISSIONS, str(registry.path.parent))
        registry.path.parent.chmod(0o755)
        assert registry.store.get(registry.one.uuid) == registry.one

    def test_that_is_a_link_or_has_two_names(self, registry: Registry) -> None:
        os.link(registry.path, registry.path.with_name("second"))
        self.refused(registry, C.LINK)
        registry.path.with_name("second").unlink()
        registry.path.rename(registry.path.with_name("real"))
        registry.path.symlink_to("real")
        self.refused(registry, C.LINK)

    def test_that_is_no_file(self, registry: Registry) -> None:
        for name in (".db-wal", ".db-shm"):
            registry.path.with_suffix(name).unlink(missing_ok=True)
        registry.path.unlink()
        os.mkfifo(registry.path)
        self.refused(registry, C.NOT_REGULAR)

    def test_what_is_beside_it_counts(self, registry: Registry) -> None:
        beside = registry.path.with_name("registry.db-journal")
        beside.write_bytes(b"")
        beside.chmod(0o666)
        self.refused(registry, C.PERMISSIONS, beside.name)

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TRIGGER t AFTER INSERT ON omnibase_log BEGIN "
            "DELETE FROM omnibase_policies; END",
            "CREATE VIEW omnibase_more AS SELECT 1",
        ],
    )
    def test_what_acts_by_itself_is_refused(self, registry: Registry, statement: str) -> None:
        registry.run(statement)
        with pytest.raises(OmniBaseError) as caught:
            open_store(f"sqlite:///{registry.path}")
        assert caught.value.details["code"] == C.EXTRA

    def test_a_new_one_is_the_owners_alone_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            store = open_store(f"sqlite:///{tmp_path}/new.db")
            assert list(store.uuids()) == [] and not (tmp_path / "new.db").exists()
            made = store.add(Component.new(name="one", version="1.0.0", owner="ann"))
        finally:
            os.umask(before)
        assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o644
        assert store.get(made.uuid) == made
        store.close()


def test_no_new_one_is_made_where_others_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    store = open_store(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(RegistryError, match="is no place for a registry") as caught:
        store.add(Component.new(name="one", version="1.0.0", owner="ann"))
    assert caught.value.details["reason"] == "invalid"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://db/registry.db", "sqlite://"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url)


def test_a_uri_that_names_another_file_is_refused() -> None:
    for url in ("sqlite:///file:/tmp/x.db?uri=true", "sqlite:////tmp/x.db?timeout=a"):
        with pytest.raises(ConfigurationError, match="named by its file alone"):
            open_store(url)


def test_a_server_that_stays_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnibase.core.registry.sql_schema.CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(RegistryError) as caught:
            open_store(f"postgresql://u@127.0.0.1:{port}/x")
    assert caught.value.details["reason"] == "unavailable"


def test_several_go_over_to_wal_at_once(tmp_path: Path) -> None:
    """SQLite tells some of them at once that the database is locked, whatever its time-out."""

    def first(url: str, together: threading.Barrier) -> None:
        engine = make_engine(url, 10)
        together.wait(10)
        with engine.connect():
            pass
        engine.dispose()

    with ThreadPoolExecutor(6) as threads:
        for number in range(40):
            together = threading.Barrier(6)
            url = f"sqlite:///{tmp_path}/{number}.db"
            for done in [threads.submit(first, url, together) for _ in range(6)]:
                done.result()


def test_going_over_to_wal_waits_no_longer_than_for_a_lock(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "r.db", isolation_level=None)) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
        engine = make_engine(f"sqlite:///{tmp_path}/r.db", 0.2)
        with pytest.raises(OperationalError, match="locked"), engine.connect():
            pass
        engine.dispose()
