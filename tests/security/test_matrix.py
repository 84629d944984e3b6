"""Each kind of capability against each: denied and on record without its grant, and its grant
opens just that."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import EventBus, ExecutionContext, RunResult
from omnibase.core import events
from omnibase.core.artifacts.places import place_of
from omnibase.core.registry import Component, open_store
from omnibase.core.sandbox.compile import ENFORCEMENT
from omnibase.core.security.capabilities import CapabilityType
from tests.helpers.egress import echo, server
from tests.security.harness import SCRIPTS, Outcome, observed

pytestmark = [pytest.mark.capabilities, pytest.mark.threat("T-ORCH-13")]

Run = Callable[..., Outcome]

SECRETS = {"TOKEN": "a-token-of-the-matrix", "pg_me": "a-password-of-the-matrix"}


@pytest.fixture
def where(area: Path) -> Iterator[dict[str, object]]:
    """What there is to get: a file, a directory, two servers, a database and a component."""
    (area / "file.txt").write_text("content")
    (area / "tree").mkdir(0o777)
    (area / "tree").chmod(0o777)
    connection = sqlite3.connect(area / "app.db")
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    registry = open_store(area / "registry")
    component = registry.add(Component.new(name="report", version="1.0.0", owner="ann"))
    registry.add_script(component.uuid, "main.py", b"# report\n")
    registry.close()
    with server(echo) as port, server(echo) as database_server:
        yield {
            "file": str(area / "file.txt"), "tree": str(area / "tree"), "port": port,
            "server": database_server, "database": str(area / "app.db"),
        }  # fmt: skip


@pytest.fixture
def rows(where: dict[str, object]) -> dict[CapabilityType, tuple[str, str]]:
    """``type → (its grant, what an attempt without it is called)``."""
    kind = CapabilityType
    database = where["database"]
    return {
        kind.FILE_READ: (f"FILE_READ:{where['file']}", ""),
        kind.FILE_WRITE: (
            f"FILE_WRITE:{where['tree']}/**", f"FILE_WRITE:{where['tree']}/new.txt",
        ),
        kind.NETWORK_CONNECT: (f"NETWORK_CONNECT:127.0.0.1:{where['port']}", ""),
        kind.EXTERNAL_COMMAND: ("EXTERNAL_COMMAND:true", ""),
        kind.SECRET_ACCESS: ("SECRET_ACCESS:TOKEN", ""),
        kind.ARTIFACT_READ: ("ARTIFACT_READ:in.txt", ""),
        kind.ARTIFACT_WRITE: ("ARTIFACT_WRITE:out.txt", ""),
        kind.DATABASE_READ: (f"DATABASE_READ:sqlite:{database}", f"FILE_READ:{database}"),
        kind.DATABASE_WRITE: (
            f"DATABASE_WRITE:postgres://me@127.0.0.1:{where['server']}/db", "SECRET_ACCESS:pg_me",
        ),
        kind.REGISTRY_WRITE: ("REGISTRY_WRITE:next", ""),
        kind.REGISTRY_READ: ("REGISTRY_READ:report", ""),
    }  # fmt: skip


@pytest.fixture
def run(
    area: Path, tmp_path: Path, where: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(area / "registry"))
    store = place_of(tmp_path / "store").open()
    store.put("in.txt", io.BytesIO(b"an artifact"))

    def go(*grants: str) -> Outcome:
        def body(bus: EventBus) -> RunResult:
            return omnibase.run(
                (SCRIPTS / "matrix.py").read_bytes(), capabilities=grants, secrets=SECRETS,
                artifacts=store, args=[json.dumps(where)], bus=bus,
                context=ExecutionContext(on_violation="record"),
            )  # fmt: skip

        return observed(body)

    return go


def test_a_grant_opens_what_it_names_and_nothing_else(
    run: Run, rows: dict[CapabilityType, tuple[str, str]]
) -> None:
    tried = {kind: called or grant for kind, (grant, called) in rows.items()}
    for kind in (None, *rows):
        outcome = run(rows[kind][0]) if kind else run()
        assert outcome.report["got"] == ([kind] if kind else []), outcome.finished.stderr
        expected = {name for other, name in tried.items() if other is not kind}
        assert {violation.capability for violation in outcome.violations} == expected, kind
        assert {e.capability for e in outcome.reported(events.SandboxViolation)} == expected, kind
        granted = [event.capability for event in outcome.reported(events.CapabilityGranted)]
        assert granted == ([rows[kind][0]] if kind else [])


def test_all_of_them_together(run: Run, rows: dict[CapabilityType, tuple[str, str]]) -> None:
    outcome = run(*(grant for grant, _ in rows.values()))
    assert outcome.report["got"] == list(rows)
    assert outcome.violations == ()


def test_memory_is_bounded_and_its_grant_raises_the_bound() -> None:
    def use(*grants: str) -> Outcome:
        code = b"print(len(bytearray(b'x') * 90_000_000))"
        return observed(lambda bus: omnibase.run(code, capabilities=grants, bus=bus))

    denied = use()
    assert "memory" in {event.kind for event in denied.reported(events.ResourceLimitExceeded)}
    use("MEMORY:200MiB").assert_clean()


def test_every_kind_is_in_the_matrix(rows: dict[CapabilityType, tuple[str, str]]) -> None:
    assert {*rows, CapabilityType.MEMORY} == set(ENFORCEMENT) == set(CapabilityType)
