"""A validator in the registry: its policy says what it reads, and where it reports.

    python examples/validator/run.py

Runs it on a good table and on a bad one, and then a version of it that was taken over.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import omnibase
from omnibase.core.registry import RegistryStore, Version
from omnibase.core.registry.component_file import parse_component
from omnibase.core.security.policy import Policy

HERE = Path(__file__).resolve().parent
BAD = b"month,region,units,price\n2026-13,north,many,9.50\n"


def register(registry: RegistryStore) -> None:
    """Adds the component with its script and policy, as `omnibase registry add` does."""
    component = parse_component((HERE / "component.json").read_bytes(), "component.json")
    text = (HERE / "policy.cedar").read_text(encoding="utf-8")
    policy = Policy.from_cedar(text, "policy.cedar", component.uuid).to_json()
    registry.add(component, author="examples")
    registry.add_script(component.uuid, "validate.py", (HERE / "validate.py").read_bytes())
    registry.put_policy(component.uuid, policy, expected_version=0)


def take_over(registry: RegistryStore) -> None:
    """Puts the hostile script in the place of the component's own."""
    component = registry.find("sales-validator")
    registry.update(replace(component, version=Version.parse("1.0.1")))
    registry.add_script(component.uuid, "validate.py", (HERE / "compromised.py").read_bytes())


def validate(registry: RegistryStore, store: omnibase.ArtifactStore, name: str) -> str:
    """Runs the validator on one table, and returns what came of it."""
    try:
        result = omnibase.run_component(
            "sales-validator", registry=registry, artifacts=store, args=[name]
        )
    except omnibase.SandboxViolationError as error:
        tried = ", ".join(str(found.capability or found.operation) for found in error.violations)
        return f"{name}: stopped trusting it, it tried {tried}"
    reports = ", ".join(artifact.read_text() for artifact in result.artifacts.values())
    return f"{name}: {'accepted' if result.exit_code == 0 else 'rejected'}\n{reports}"


def main() -> int:
    """Shows the three."""
    good = (HERE.parent / "data" / "sales.csv").read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        registry = omnibase.open_registry(f"{directory}/registry")
        store = omnibase.open_artifacts(f"{directory}/artifacts")
        register(registry)
        store.put("incoming/good.csv", io.BytesIO(good))
        store.put("incoming/bad.csv", io.BytesIO(BAD))
        print(validate(registry, store, "good.csv"))
        print(validate(registry, store, "bad.csv"))
        take_over(registry)
        print(validate(registry, store, "good.csv"))
        print("in the store:", ", ".join(store.names()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
