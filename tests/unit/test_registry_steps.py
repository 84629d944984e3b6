"""A revision is one that a change of the one before could have made, or it is tampering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omnibase.core.registry import (
    Action,
    Component,
    FileStore,
    FindingCode,
    Lifecycle,
    Revision,
    Trust,
    Version,
    journal,
)
from omnibase.core.registry.chain import LogLine, digest
from omnibase.core.registry.changes import check_step
from omnibase.core.registry.store import Tampered
from omnibase.core.registry.view import Change, last_line
from omnibase.errors import RegistryError

Mutation = Callable[[Component], Component]


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "r")


@pytest.fixture
def one(store: FileStore) -> Component:
    made = store.add(Component.new(name="one", version="1.0.0", owner="ann"))
    store.add_script(made.uuid, "main.py", b"print(1)")
    return store.put_policy(made.uuid, b"{}", expected_version=0)


def following(before: Component, action: Action, mutation: Mutation) -> Component:
    assert before.revision is not None
    revision = Revision(
        number=before.revision_number + 1,
        sequence=before.revision.sequence + 1,
        previous=digest(before.to_json()),
        action=action,
        time="2026-01-01T00:00:00Z",
    )
    return replace(mutation(before), revision=revision)


BAD: list[tuple[Action, Mutation]] = [
    (Action.UPDATE, lambda c: replace(c, name="two")),
    (Action.UPDATE, lambda c: replace(c, version=Version.parse("0.9.0"))),
    (Action.UPDATE, lambda c: replace(c, policy=None)),
    (Action.UPDATE, lambda c: replace(c, artifacts={**c.artifacts, "entrypoint": "0" * 64})),
    (Action.RETIRE, lambda c: c),
    (Action.RETIRE, lambda c: replace(c, lifecycle=Lifecycle.RETIRED, trust=Trust.TRUSTED)),
    (Action.PUT_POLICY, lambda c: replace(c, trust=Trust.TRUSTED)),
    (Action.PUT_POLICY, lambda c: c),
    (Action.ADD_SCRIPT, lambda c: replace(c, lifecycle=Lifecycle.ACTIVE)),
    (Action.ADD_SCRIPT, lambda c: replace(c, artifacts={**c.artifacts, "more": "0" * 64})),
    (Action.ADD_SCRIPT, lambda c: replace(c, entrypoint=None, artifacts={})),
]


@pytest.mark.parametrize(("action", "mutation"), BAD)
def test_what_no_change_makes(one: Component, action: Action, mutation: Mutation) -> None:
    with pytest.raises(Tampered) as caught:
        check_step(one, following(one, action, mutation), "history/x")
    assert caught.value.finding.file == "history/x"
    assert caught.value.finding.code is FindingCode.CHANGED


def test_nothing_follows_the_end(store: FileStore, one: Component) -> None:
    retired = store.retire(one.uuid)
    for action in (Action.UPDATE, Action.PUT_POLICY, Action.ADD_SCRIPT, Action.RETIRE):
        with pytest.raises(Tampered, match="retired"):
            check_step(retired, following(retired, action, lambda c: c), "x")


def test_a_first_revision_is_bare(one: Component) -> None:
    with pytest.raises(Tampered):
        check_step(None, one, "x")


def test_every_step_of_a_real_life_is_one(store: FileStore, one: Component) -> None:
    store.update(replace(one, lifecycle=Lifecycle.ACTIVE, version=Version.parse("1.1.0")))
    store.add_script(one.uuid, "other.py", b"print(2)")
    store.put_policy(one.uuid, b"[]", expected_version=1)
    store.retire(one.uuid)
    before = None
    for after in store.history(one.uuid):
        check_step(before, after, "x")
        before = after
    assert store.verify() == []


@pytest.mark.parametrize(
    "mutation",
    [
        lambda c: replace(c, name="two"),
        lambda c: replace(c, version=Version.parse("0.9.0")),
        lambda c: replace(c, policy=None),
    ],
)
def test_a_planted_journal_of_such_a_change_is_refused(
    store: FileStore, one: Component, mutation: Mutation
) -> None:
    plant(store, following(one, Action.UPDATE, mutation))
    with pytest.raises(RegistryError) as caught:
        store.update(replace(one, owner="bob"))
    assert caught.value.details["file"] == ".journal"
    assert [finding.code for finding in store.verify()] == [FindingCode.INTERRUPTED]
    (store_root(store) / ".journal").unlink()
    assert store.get(one.uuid) == one and store.verify() == []


def test_a_journal_that_takes_anothers_name_or_file_is_refused(
    store: FileStore, one: Component
) -> None:
    store.add(Component.new(name="one", version="2.0.0", owner="bob"))
    plant(
        store, following(one, Action.UPDATE, lambda c: replace(c, version=Version.parse("2.0.0")))
    )
    assert [finding.code for finding in store.verify()] == [FindingCode.INTERRUPTED]
    plant(
        store,
        following(one, Action.UPDATE, lambda c: replace(c, owner="z")),
        replaced=f"scripts/{one.uuid}/main.py",
    )
    assert [finding.code for finding in store.verify()] == [FindingCode.INTERRUPTED]


def plant(store: FileStore, component: Component, replaced: str | None = None) -> None:
    with store._reading() as view:
        last = last_line(view)
    assert last is not None and component.revision is not None
    revision = replace(component.revision, sequence=last.sequence + 1)
    component = replace(component, revision=revision)
    record = component.to_json()
    line = LogLine.after(last, component.uuid, component.revision_number, record)
    change = Change(
        component=component, record=record, line=line, policy=None, script=None, replaced=replaced
    )
    path = store_root(store) / journal.JOURNAL
    path.write_bytes(journal.encode(change))


def store_root(store: FileStore) -> Path:
    return Path(store.root)
