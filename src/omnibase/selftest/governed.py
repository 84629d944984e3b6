"""Probes of what a policy grants a component, and of a registry that was changed."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omnibase import components
from omnibase.core.registry import Component
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.policy import Policy
from omnibase.errors import CapabilityDenied, RegistryError
from omnibase.registries import open_registry
from omnibase.selftest.model import Sides
from omnibase.selftest.stage import Outcome, Stage, clean, observed, script

if TYPE_CHECKING:
    from uuid import UUID

    from omnibase.core.events import EventBus
    from omnibase.core.sandbox.result import RunResult

__all__ = ["beyond", "forbidden", "tampered"]


def _component(stage: Stage, requires: str, *policies: str) -> tuple[Path, UUID]:
    """A registry with one component ``selftest``, which reads files, under the given policies."""
    directory = stage.area / "registry"
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.closing(open_registry(directory)) as store:
        new = Component.new(name="selftest", version="1.0.0", owner="selftest")
        new = replace(new, capabilities_required=CapabilitySet.parse([requires]))
        uuid = store.add(new).uuid
        store.add_script(uuid, "main.py", script("read_files"))
        if policies:
            who = f'principal == Component::"{uuid}", action == Action::"use"'
            text = "".join(
                f'@id("{effect}") @reason("self-test") {effect}({who}, resource is FileRead) '
                f'when {{ resource.path like "{pattern}" }};\n'
                for effect, pattern in (policy.split(" ", 1) for policy in policies)
            )
            document = Policy.from_cedar(text, "selftest.cedar", uuid).to_json()
            store.put_policy(uuid, document, expected_version=0)
    return directory, uuid


def _run_component(registry: Path, *args: str) -> Outcome:
    def run(bus: EventBus) -> RunResult:
        return components.run_component("selftest", registry=registry, args=args, bus=bus)

    return observed(run)


def beyond(stage: Stage) -> Sides:
    """Runs a component that requires more than its policy permits, and one without a policy.

    Threat: T-ORCH-01
    Expected: nothing starts, and each refusal is on record.
    Granted: under a policy that permits it, the component runs and reads.
    """
    file, wanted = stage.names["file"], f"FILE_READ:{stage.area}/**"
    refused, told = None, None
    for policies in ((), (f"permit {stage.area}/tree/*",)):
        outcome = _run_component(_component(stage, wanted, *policies)[0], file)
        names = [event.name for event in outcome.events]
        if not isinstance(outcome.error, CapabilityDenied) or "SandboxStart" in names:
            refused = refused or f"it ran: {outcome.how()}"
        elif "CapabilityDenied" not in names:
            told = told or "that it was refused is not on record"
    registry, _ = _component(stage, f"FILE_READ:{file}", f"permit {stage.area}/*")
    granted = _run_component(registry, file)
    return Sides(refused=refused, reported=told, granted=clean(granted), seen=("CapabilityDenied",))


def forbidden(stage: Stage) -> Sides:
    """Reads what a policy forbids within a tree that it permits.

    Threat: T-ORCH-02
    Expected: it is not there, and `FILE_READ:` with the path, and the reason, are on record.
    Granted: without the forbid, the same component reads it.
    """
    secret, wanted = stage.area / "tree" / "file.txt", f"FILE_READ:{stage.area}/**"
    permit = f"permit {stage.area}/*"
    registry, _ = _component(stage, wanted, permit, f"forbid {stage.area}/tree/*")
    attack = _run_component(registry, str(secret))
    reasons = [v.reason for v in attack.result.violations] if attack.result else []
    registry, _ = _component(stage, wanted, permit)
    granted = _run_component(registry, str(secret))
    refused = None if attack.report.get("got") == [] else f"it got through: {attack.how()}"
    named = f"FILE_READ:{secret}" in attack.told and any("self-test" in (r or "") for r in reasons)
    return Sides(
        refused=refused,
        reported=None if named else f"not on record, or without its reason: {attack.how()}",
        granted=clean(granted),
        seen=tuple(sorted(attack.told)),
    )


def tampered(stage: Stage) -> Sides:
    """Runs a component whose script was changed in the registry's directory.

    Threat: T-REG-01
    Expected: nothing starts, and the tampering is on record.
    Granted: as it was put there, it runs.
    """
    file = stage.names["file"]
    registry, uuid = _component(stage, f"FILE_READ:{file}", f"permit {stage.area}/*")
    granted = _run_component(registry, file)
    path = registry / "scripts" / str(uuid) / "main.py"
    path.write_bytes(path.read_bytes() + b"\n# one line more\n")
    attack = _run_component(registry, file)
    names = [event.name for event in attack.events]
    found = isinstance(attack.error, RegistryError) and "SandboxStart" not in names
    return Sides(
        refused=None if found else f"it ran: {attack.how()}",
        reported=None if names else "no event tells of it",
        granted=clean(granted),
        seen=tuple(names),
    )
