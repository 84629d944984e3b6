"""Policies decide on databases and the registry as on everything else, and a run keeps to it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import CapabilityDenied, EventBus, RunResult
from omnibase.core import events
from omnibase.core.registry import Component
from tests.helpers.cli import omnibase as command
from tests.helpers.components import OneComponent
from tests.security.harness import Outcome, observed

Make = Callable[..., OneComponent]
SCRIPT = b"""
import os, sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("select sum(a) from t").fetchone()[0])
print(sorted(os.listdir("/registry")))
os.makedirs("/registry/out/made")
with open("/registry/out/made/component.json", "w") as file: file.write('{"version": "1.0.0"}')
with open("/registry/out/made/script.py", "w") as file: file.write("pass")
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table t (a)")
        connection.execute("insert into t values (42)")
    return path


def policies(database: Path) -> list[str]:
    place = f"sqlite:{database.parent}"
    return [
        f'@id("read") permit DatabaseRead when {{ resource.name like "{place}/*" }}',
        '@id("not") @reason("people only") forbid DatabaseRead when '
        f'{{ resource.name == "{place}/pay.db" }}',
        '@id("see") permit RegistryRead when { resource.name like "rep*" }',
        '@id("add") permit RegistryWrite when { resource.name == "made" }',
    ]


def run(one: OneComponent, database: Path, **options: Any) -> Outcome:
    def go(bus: EventBus) -> RunResult:
        return omnibase.run_component(
            "report", bus=bus, registry=one.directory, args=[str(database)], **options
        )

    return observed(go)


def test_what_policy_permits_is_given(tmp_path: Path, database: Path) -> None:
    requires = [f"DATABASE_READ:sqlite:{database}", "REGISTRY_READ:report", "REGISTRY_WRITE:made"]
    one = OneComponent(tmp_path / "r", SCRIPT, requires=requires, policies=policies(database))
    outcome = run(one, database)
    outcome.assert_clean()
    # The registry is the one that decided, whatever the environment says.
    assert outcome.stdout == "42\n['out', 'report']\n"
    (shown,) = outcome.reported(events.RegistryRead)
    assert shown.reference == "report@1.0.0"
    made = one.store.find("made")
    assert (made.trust, made.lifecycle, made.policy) == ("untrusted", "draft", None)
    assert made.owner == f"component:{one.uuid}"
    assert made.revision is not None
    assert made.revision.author == f"run:{outcome.finished.run_id}"
    assert one.store.verify() == []
    # It has no policy: what it would ask for is denied.
    refused = observed(
        lambda bus: omnibase.run_component(
            "made", bus=bus, registry=one.directory, capabilities=["REGISTRY_READ:report"]
        )
    )
    assert isinstance(refused.error, CapabilityDenied)


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        ("DATABASE_READ:sqlite:{0}/pay.db", "not"),
        ("DATABASE_READ:sqlite:/elsewhere/app.db", None),
        ("DATABASE_WRITE:postgres://reader@db.example.com:5432/sales", None),
        ("REGISTRY_READ:*", None),
        ("REGISTRY_READ:other", None),
        ("REGISTRY_WRITE:report", None),
    ],
)
def test_what_policy_denies_is_not(
    tmp_path: Path, database: Path, asked: str, by: str | None
) -> None:
    one = OneComponent(tmp_path / "r", SCRIPT, policies=policies(database))
    asked = asked.format(database.parent)
    outcome = run(one, database, capabilities=[asked])
    assert isinstance(outcome.error, CapabilityDenied) and outcome.result is None
    (denied,) = outcome.reported(events.CapabilityDenied)
    assert (denied.capability, denied.policies) == (asked, (by,) if by else ())


def test_as_typed(tmp_path: Path, database: Path) -> None:
    store = omnibase.open_registry(tmp_path / "r")
    component = store.add(Component.new(name="report", version="1.0.0", owner="ann"))
    store.add_script(component.uuid, "main.py", b"pass\n")
    script = tmp_path / "job.py"
    script.write_bytes(SCRIPT)
    caps = [f"DATABASE_READ:sqlite:{database}", "REGISTRY_READ:report", "REGISTRY_WRITE:made"]
    allow = [word for cap in caps for word in ("--allow", cap)]
    env = {"OMNIBASE_REGISTRY": str(tmp_path / "r")}
    said = command("sandbox", "explain", script, *allow, "--json", **env)
    plan = json.loads(said.out)
    assert (said.code, plan["problems"]) == (0, []) and set(plan["grants"]) == set(caps)
    targets = {mount["target"] for mount in plan["mounts"]}
    assert targets >= {str(database), "/registry/report", "/registry/out"}
    said = command("sandbox", "run", script, *allow, "--", database, **env)
    assert (said.code, said.out) == (0, b"42\n['out', 'report']\n"), said.err
    assert "  added  made@1.0.0  a draft of the registry now" in said.err
    said = command("sandbox", "run", script, *allow, "--json", "--", database, **env)
    (proposed,) = json.loads(said.out)["registry_proposed"]
    assert said.code == 0 and proposed["reference"] is None
    assert proposed["reason"].startswith("`made@1.0.0` is component")
    said = command("sandbox", "run", script, *allow, "--", database, **env)
    assert "  not added  made: `made@1.0.0` is component" in said.err
    missing = ["--allow", "DATABASE_READ:sqlite:/none.db", "--allow", "REGISTRY_READ:none"]
    said = command("sandbox", "explain", script, *missing, **env)
    assert said.code == 2
    assert "`/none.db` does not exist" in said.err
    assert "`REGISTRY_READ:none` names no component that is there" in said.err


def test_learnt_as_what_can_be_granted(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("open('/registry/report/1.0.0/script.py')\n")
    out = tmp_path / "caps.json"
    said = command("sandbox", "learn", script, "-o", out)
    assert said.code == 0, said.err
    learnt = [item["capability"] for item in json.loads(out.read_text())["capabilities"]]
    assert learnt == ["REGISTRY_READ:report"]
    said = command("capabilities", "check", out, "--json")
    (row,) = json.loads(said.out)["capabilities"]
    assert row["enforced"] is True
