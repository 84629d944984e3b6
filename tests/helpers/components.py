"""A registry with one component, made for a test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnibase.core.registry import Component, RegistryStore
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.policy import Policy
from omnibase.registries import open_registry
from tests.helpers.policies import cedar_of


class OneComponent:
    """A registry in a directory, with the component ``report@1.0.0`` in it.

    Args:
        directory: Where the registry is made.
        script: The component's script.
        requires: Its capabilities.
        policies: Its policy in short Cedar, e.g. ``@id("x") permit FileRead when {…}``;
            none by default.
        **fields: More of its record, e.g. ``trust``.
    """

    def __init__(
        self,
        directory: Path,
        script: bytes,
        *,
        requires: Iterable[str] = (),
        policies: Iterable[str] = (),
        **fields: Any,
    ) -> None:
        self.directory = directory
        self.store: RegistryStore = open_registry(directory)
        new = Component.new(name="report", version="1.0.0", owner="tests")
        new = replace(new, capabilities_required=CapabilitySet.parse(requires), **fields)
        self.uuid = self.store.add(new).uuid
        self.store.add_script(self.uuid, "main.py", script)
        texts = list(policies)
        if texts:
            self.put_policy(*texts)

    @property
    def component(self) -> Component:
        """The current record."""
        return self.store.get(self.uuid)

    def put_policy(self, *texts: str) -> None:
        """Makes these the component's policy."""
        text = cedar_of(self.uuid, texts)
        policy = Policy.from_cedar(text, "test.cedar", self.uuid)
        state = self.component.policy
        version = state.version if state else 0
        self.store.put_policy(self.uuid, policy.to_json(), expected_version=version)

    def update(self, **fields: Any) -> None:
        """Changes the record."""
        self.store.update(replace(self.component, **fields))
