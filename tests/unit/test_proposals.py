"""What of a run's proposals reaches the registry: all of a clean run, nothing of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase.core import events
from omnibase.core.registry import Component, RegistryStore, open_store
from omnibase.core.sandbox.collect.reports import Collected, Left
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Ended
from omnibase.errors import ConfigurationError, SandboxError
from omnibase.proposals import Proposals
from omnibase.registry_access import Registry

GOOD = {"new/component.json": b'{"version": "1.0.0"}', "new/script.py": b"pass\n"}
ATTEMPT = Violation(capability="FILE_READ:/x", operation="open", resource="/x", errno=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RegistryStore]:
    found = open_store(tmp_path / "registry")
    # A registry is there once something is in it.
    found.add(Component.new(name="old", version="1.0.0", owner="ann"))
    yield found
    found.close()


class Run:
    """Proposals of one run, and what it puts on the bus."""

    def __init__(self, store: Registry, proposer: str | None = None) -> None:
        self.bus, self.sink = events.EventBus(), events.CollectingSink()
        self.bus.subscribe(self.sink)
        self.emitter = events.Emitter(self.bus, subject="s")
        self.proposals = Proposals(store, proposer, self.emitter)

    def take(self, folder: Path, files: dict[str, bytes], *left: Left) -> None:
        collected = []
        for number, (name, content) in enumerate(files.items()):
            path = folder / str(number)
            path.write_bytes(content)
            collected.append(
                Collected(
                    capability="REGISTRY_WRITE", name=name, path=path, size=len(content), sha256=""
                )
            )
        self.proposals.take(collected, left)

    def finish(self, **fields: Any) -> list[tuple[str, str | None, str | None]]:
        cause, fault = fields.pop("cause", "exit"), fields.pop("fault", None)
        result = RunResult(run_id="r", **{"exit_code": 0, **fields})
        proposed = self.proposals.finish(Ended(result=result, cause=cause, fault=fault))
        self.bus.close()
        return [(one.name, one.reference, one.reason) for one in proposed]

    @property
    def told(self) -> list[events.Payload]:
        return [event.data for event in self.sink.events]


def test_a_clean_run(store: RegistryStore, tmp_path: Path) -> None:
    run = Run(store, "7d2c1b5e-0a4f-4c3e-9f6b-1e8a5d7c2b90")
    run.take(tmp_path, GOOD)
    assert run.finish() == [("new", "new@1.0.0", None)]
    component = store.find("new")
    assert component.owner == "component:7d2c1b5e-0a4f-4c3e-9f6b-1e8a5d7c2b90"
    assert store.load_entrypoint(component) == b"pass\n"
    (added,) = run.told
    assert isinstance(added, events.RegistryAdded) and added.component == str(component.uuid)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"exit_code": 1}, "the script ended with 1"),
        ({"cause": "time"}, "the run did not come to its own end"),
        ({"fault": SandboxError("broken")}, "the run did not come to its own end"),
        ({"violations": (ATTEMPT,)}, "the script tried what it was not granted"),
        ({"trace_dropped": 1}, "the script tried what it was not granted"),
        ({"limits": ("pids",)}, "the run reached a limit"),
    ],
)
def test_nothing_of_another(
    store: RegistryStore, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    head, run = store.head(), Run(store)
    run.take(tmp_path, GOOD)
    assert run.finish(**fields) == [("new", None, reason)]
    assert store.head() == head
    assert run.told == [events.RegistryRefused(name="new", reason=reason)]


def test_nothing_proposed_is_nothing_said(store: RegistryStore, tmp_path: Path) -> None:
    run = Run(store)
    run.take(tmp_path, {})
    artifact = Collected(
        capability="ARTIFACT_WRITE", name="new/script.py", path=tmp_path, size=1, sha256=""
    )
    denied = Left(capability="REGISTRY_WRITE", name="x/y", reason="is not granted", denied=True)
    other = Left(capability="ARTIFACT_WRITE", name="x", reason="is odd")
    run.proposals.take([artifact], [denied, other])
    assert run.finish() == [] and run.told == []


def test_what_is_left_in_the_guest_spoils_its_proposal(
    store: RegistryStore, tmp_path: Path
) -> None:
    run = Run(store)
    left = Left(capability="REGISTRY_WRITE", name="new/link", reason="is not a regular file")
    run.take(tmp_path, GOOD, left)
    assert run.finish() == [("new", None, "`new/link` is not a regular file")]
    assert [one.name for one in store.list()] == ["old"]


def test_a_registry_that_cannot_be_written(store: RegistryStore, tmp_path: Path) -> None:
    run = Run(store)
    run.take(tmp_path, GOOD)
    log = tmp_path / "registry" / "log"
    log.write_bytes(log.read_bytes()[:-5] + b"\n")
    ((name, reference, reason),) = run.finish()
    assert (name, reference) == ("new", None) and reason


def test_a_registry_that_goes_away(store: RegistryStore, tmp_path: Path) -> None:
    run = Run(tmp_path / "registry")
    run.take(tmp_path, GOOD)
    (tmp_path / "registry").rename(tmp_path / "gone")
    ((name, reference, reason),) = run.finish()
    assert (name, reference) == ("new", None) and "there is no registry" in str(reason)
    with pytest.raises(ConfigurationError, match="there is no registry"):
        Run(tmp_path / "registry")
