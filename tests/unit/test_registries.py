"""What is read for a run is of one moment, and may run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.registry import Component, Lifecycle, RegistryStore, Trust
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import ConfigurationError, RegistryError
from omnibase.registries import load, open_registry, policy_of
from tests.helpers.components import OneComponent

PERMIT = 'permit FileRead when { resource.path == "/data/x" }'


class Meddled:
    """A store in which something happens after each reading of a policy or script."""

    def __init__(self, store: RegistryStore, meddle: Callable[[], None]) -> None:
        self._store = store
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def find(self, reference: str) -> Component:
        found = self._store.find(reference)
        self._meddle()
        return found


@pytest.fixture
def one(tmp_path: Path) -> OneComponent:
    return OneComponent(tmp_path / "r", b"print(1)", policies=[PERMIT])


def times(count: int, action: Callable[[], None]) -> Callable[[], None]:
    left = iter(range(count))
    return lambda: action() if next(left, None) is not None else None


def test_all_of_a_component(one: OneComponent) -> None:
    found = load(one.store, "report")
    assert (found.script, found.policy_version, found.name) == (b"print(1)", 1, "main.py")
    context = found.context("production")
    assert (context.trust, context.lifecycle, context.environment) == (
        "untrusted", "draft", "production",
    )  # fmt: skip


@pytest.mark.parametrize("what", ["trust", "script", "policy"])
def test_a_change_in_between_is_read_again(one: OneComponent, what: str) -> None:
    changes: dict[str, Callable[[], object]] = {
        "trust": lambda: one.update(trust=Trust.TRUSTED),
        "script": lambda: one.store.add_script(one.uuid, "main.py", b"print(2)"),
        "policy": lambda: one.put_policy("permit Memory"),
    }
    store: Any = Meddled(one.store, times(1, lambda: changes[what]() and None))
    found = load(store, "report")
    assert found.component == one.component
    state = found.component.policy
    assert state is not None and found.policy.sha256 == state.sha256
    assert found.script == (b"print(2)" if what == "script" else b"print(1)")


def test_what_never_stands_still_is_busy(one: OneComponent) -> None:
    count = iter(range(1000))

    def change() -> None:
        one.update(description=f"change {next(count)}")

    store: Any = Meddled(one.store, change)
    with pytest.raises(RegistryError) as caught:
        load(store, "report")
    assert caught.value.details["reason"] == "busy"


def test_what_left_the_reference_is_not_run(one: OneComponent) -> None:
    from omnibase.core.registry import Version

    store: Any = Meddled(one.store, times(1, lambda: one.update(version=Version.parse("2.0.0"))))
    with pytest.raises(RegistryError) as caught:
        load(store, "report@1.0.0")
    assert "`report@1.0.0` is now `report@2.0.0`" in caught.value.message


def test_a_retired_one_and_one_without_a_script(one: OneComponent) -> None:
    one.update(lifecycle=Lifecycle.ACTIVE)
    one.store.retire(one.uuid)
    with pytest.raises(RegistryError, match="is retired"):
        load(one.store, str(one.uuid))
    bare = one.store.add(Component.new(name="bare", version="1.0.0", owner="x"))
    with pytest.raises(RegistryError, match="has no script") as caught:
        load(one.store, "bare")
    assert str(bare.uuid) in str(caught.value.hint)


def test_tampering_is_not_taken_for_a_change(one: OneComponent) -> None:
    script = one.directory / str(one.component.entrypoint)
    script.write_bytes(b"print(3)")
    with pytest.raises(RegistryError) as caught:
        load(one.store, "report")
    assert caught.value.details["reason"] == "tampered"


def test_without_a_policy_nothing_is_permitted(one: OneComponent) -> None:
    new = replace(
        Component.new(name="bare", version="1.0.0", owner="x"),
        capabilities_required=CapabilitySet.parse(["FILE_READ:/data/x"]),
    )
    policy, document = policy_of(one.store, one.store.add(new))
    assert policy.rules == () and document is None


def test_older_versions(one: OneComponent) -> None:
    one.put_policy("permit Memory")
    policy, document = policy_of(one.store, one.component, 1)
    assert document is not None and document.version == 1
    assert [rule.type.value for rule in policy.rules] == ["FILE_READ"]


def test_where_the_registry_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = OneComponent(tmp_path / "named", b"1")
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(named.directory))
    assert open_registry().get(named.uuid) == named.component
    other = OneComponent(tmp_path / "registry", b"1")
    monkeypatch.delenv("OMNIBASE_REGISTRY")
    monkeypatch.chdir(tmp_path)
    assert open_registry().get(other.uuid) == other.component
    with pytest.raises(ConfigurationError, match="is empty"):
        open_registry("")


@pytest.mark.parametrize("location", ["absent", "sqlite:///absent.db"])
def test_one_that_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="there is no registry at"):
        open_registry(location, must_exist=True)
    assert list(tmp_path.iterdir()) == []
    store = open_registry(location)
    made = store.add(Component.new(name="one", version="1.0.0", owner="x"))
    assert open_registry(location, must_exist=True).get(made.uuid) == made
    store.close()


def test_a_file_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_text("")
    with pytest.raises(ConfigurationError, match="is a file") as caught:
        open_registry(tmp_path / "r.db")
    assert f"sqlite:///{tmp_path}/r.db" in str(caught.value.hint)


def test_policies_are_checked_as_they_are_written(one: OneComponent) -> None:
    from omnibase.errors import PolicyError

    with pytest.raises(PolicyError):
        one.store.put_policy(one.uuid, b"{}", expected_version=1)
    assert one.component.policy is not None and one.component.policy.version == 1
