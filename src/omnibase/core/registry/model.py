"""The component: what the registry knows of a script, its trust and its policy.

A `Component` that exists is valid: every text is bounded and printable, every
digest is one. Its JSON form is canonical, so that equal components are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from omnibase.core.registry.checks import (
    FORMAT,
    MAX_ARTIFACTS,
    MAX_COMMENT,
    MAX_DESCRIPTION,
    MAX_NUMBER,
    MAX_OWNER,
    MAX_POLICY_HISTORY,
    MAX_SEQUENCE,
    check_artifact_name,
    check_name,
    check_number,
    check_script_name,
    check_sha256,
    check_text,
    check_time,
    invalid,
)
from omnibase.core.registry.semver import Version
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.capability_file import MAX_CAPABILITIES
from omnibase.core.security.patterns import quoted

__all__ = [
    "TRANSITIONS",
    "Action",
    "Component",
    "Lifecycle",
    "PolicyState",
    "PolicyVersion",
    "Revision",
    "Trust",
]


class Lifecycle(StrEnum):
    """How far along a component is."""

    DRAFT = "draft"
    ACTIVE = "active"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


TRANSITIONS: Mapping[Lifecycle, frozenset[Lifecycle]] = MappingProxyType(
    {
        Lifecycle.DRAFT: frozenset({Lifecycle.ACTIVE, Lifecycle.RETIRED}),
        Lifecycle.ACTIVE: frozenset({Lifecycle.DEPRECATED, Lifecycle.RETIRED}),
        Lifecycle.DEPRECATED: frozenset({Lifecycle.ACTIVE, Lifecycle.RETIRED}),
        Lifecycle.RETIRED: frozenset(),
    }
)
"""What each lifecycle may become; staying as it is needs no transition."""


class Trust(StrEnum):
    """How far a component's code is trusted."""

    UNTRUSTED = "untrusted"
    SEMI_TRUSTED = "semi_trusted"
    TRUSTED = "trusted"


class Action(StrEnum):
    """What made a revision."""

    ADD = "add"
    UPDATE = "update"
    RETIRE = "retire"
    PUT_POLICY = "put_policy"
    ADD_SCRIPT = "add_script"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One version of a component's policy.

    Attributes:
        version: From 1.
        sha256: Of the document's bytes.
        revision: The component's revision that brought it.
        time: UTC, e.g. ``2025-01-31T12:00:00Z``.
    """

    version: int
    sha256: str
    revision: int
    time: str
    author: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        path = "$.policy.history[*]"
        check_number(self.version, f"{path}.version", MAX_NUMBER)
        check_sha256(self.sha256, f"{path}.sha256")
        check_number(self.revision, f"{path}.revision", MAX_NUMBER)
        check_time(self.time, f"{path}.time")
        check_text(self.author, f"{path}.author", most=MAX_OWNER)
        check_text(self.comment, f"{path}.comment", most=MAX_COMMENT, lines=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """A component's policy: its version, its digest, and how it came to be.

    Attributes:
        history: The newest versions, at most 100, oldest first; the last is the
            current one.
    """

    version: int
    sha256: str
    history: tuple[PolicyVersion, ...]

    def __post_init__(self) -> None:
        check_number(self.version, "$.policy.version", MAX_NUMBER)
        check_sha256(self.sha256, "$.policy.sha256")
        path = "$.policy.history"
        if not 1 <= len(self.history) <= MAX_POLICY_HISTORY:
            raise invalid(
                f"`{path}` has {len(self.history)} versions", path,
                f"keep 1 to {MAX_POLICY_HISTORY}",
            )  # fmt: skip
        first = self.version - len(self.history) + 1
        expected = list(range(first, self.version + 1))
        revisions = [entry.revision for entry in self.history]
        if [entry.version for entry in self.history] != expected or first < 1:
            raise invalid(f"`{path}` does not end with version {self.version}", path)
        if revisions != sorted(set(revisions)):
            raise invalid(f"`{path}` is not in the order of the revisions", path)
        if self.history[-1].sha256 != self.sha256:
            raise invalid(f"`{path}` ends with another digest than `$.policy.sha256`", path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One change of a component, as the store wrote it.

    Attributes:
        number: From 1, without gaps.
        sequence: The line of the store's log, from 1.
        previous: SHA-256 of the record before, or ``None`` for the first.
        time: UTC, e.g. ``2025-01-31T12:00:00Z``.
    """

    number: int
    sequence: int
    previous: str | None
    action: Action
    time: str
    author: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        path = "$.revision"
        check_number(self.number, f"{path}.number", MAX_NUMBER)
        check_number(self.sequence, f"{path}.sequence", MAX_SEQUENCE)
        if (self.previous is None) != (self.number == 1):
            raise invalid(f"`{path}.previous` and the number disagree", f"{path}.previous")
        if self.previous is not None:
            check_sha256(self.previous, f"{path}.previous")
        if (self.action is Action.ADD) != (self.number == 1):
            raise invalid(f"`{path}.action` and the number disagree", f"{path}.action")
        check_time(self.time, f"{path}.time")
        check_text(self.author, f"{path}.author", most=MAX_OWNER)
        check_text(self.comment, f"{path}.comment", most=MAX_COMMENT, lines=True)


_TYPES: dict[str, type] = {
    "uuid": UUID,
    "version": Version,
    "lifecycle": Lifecycle,
    "trust": Trust,
    "capabilities_required": CapabilitySet,
    "idempotent": bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What the registry knows of one component; a valid one, or it does not exist.

    Attributes:
        uuid: The principal of its policies.
        name: Lower case, e.g. ``report-builder``; it never changes.
        entrypoint: ``scripts/<uuid>/<file>`` inside the registry, or ``None``
            until `RegistryStore.add_script` has been called.
        capabilities_required: What it asks for; policy decides what it gets.
        idempotent: Running it again does no harm.
        artifacts: SHA-256 by name; ``entrypoint`` is the script's.
        policy: ``None`` until `RegistryStore.put_policy` has been called.
        revision: ``None`` until the component has been stored.

    Raises:
        RegistryError: A value is invalid; ``details["json_path"]`` says which.
    """

    uuid: UUID
    name: str
    version: Version
    owner: str
    description: str = ""
    entrypoint: str | None = None
    lifecycle: Lifecycle = Lifecycle.DRAFT
    trust: Trust = Trust.UNTRUSTED
    capabilities_required: CapabilitySet = field(default_factory=CapabilitySet)
    idempotent: bool = False
    artifacts: Mapping[str, str] = field(default_factory=dict, hash=False)
    policy: PolicyState | None = None
    revision: Revision | None = None

    def __post_init__(self) -> None:
        # Nothing is taken for what it is annotated as: a uuid becomes a file's name.
        for name, kind in _TYPES.items():
            if not isinstance(getattr(self, name), kind):
                raise invalid(f"`$.{name}` is not a `{kind.__name__}`", f"$.{name}")
        check_name(self.name)
        check_text(self.owner, "$.owner", least=1, most=MAX_OWNER)
        check_text(self.description, "$.description", most=MAX_DESCRIPTION, lines=True)
        if len(self.capabilities_required) > MAX_CAPABILITIES:
            raise invalid(
                f"there are {len(self.capabilities_required)} capabilities",
                "$.capabilities_required",
                f"use patterns; at most {MAX_CAPABILITIES} are accepted",
            )
        if len(self.artifacts) > MAX_ARTIFACTS:
            raise invalid("there are too many artifacts", "$.artifacts", f"at most {MAX_ARTIFACTS}")
        for name, digest in self.artifacts.items():
            check_artifact_name(name)
            check_sha256(digest, f"$.artifacts.{name}")
        object.__setattr__(
            self, "artifacts", MappingProxyType(dict(sorted(self.artifacts.items())))
        )
        self._check_entrypoint()

    def _check_entrypoint(self) -> None:
        path = "$.entrypoint"
        if (self.entrypoint is None) != ("entrypoint" not in self.artifacts):
            raise invalid(
                "`$.entrypoint` and `$.artifacts.entrypoint` come together or not at all", path,
                "leave both out; adding the script writes them",
            )  # fmt: skip
        if self.entrypoint is None:
            return
        check_text(self.entrypoint, path, most=200)
        folder, _, name = self.entrypoint.rpartition("/")
        if folder != f"scripts/{self.uuid}":
            raise invalid(
                f"`{path}` is {quoted(self.entrypoint)}, outside the component's own directory",
                path, f"write `scripts/{self.uuid}/main.py`",
            )  # fmt: skip
        check_script_name(name)

    @classmethod
    def new(cls, *, name: str, version: str, owner: str, **rest: Any) -> Component:
        """Returns a component with a fresh UUID; ``rest`` are further attributes.

        Raises:
            RegistryError: A value is invalid.
        """
        values = {"uuid": uuid4(), **rest}
        return cls(name=name, version=Version.parse(version), owner=owner, **values)

    @property
    def policy_version(self) -> int:
        """The policy's version, 0 if there is none."""
        return self.policy.version if self.policy else 0

    @property
    def policy_sha256(self) -> str | None:
        """The policy's digest, or ``None`` if there is none."""
        return self.policy.sha256 if self.policy else None

    @property
    def revision_number(self) -> int:
        """The revision's number, 0 if the component has never been stored."""
        return self.revision.number if self.revision else 0

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as JSON-ready data."""
        policy, revision = self.policy, self.revision
        return {
            "format": FORMAT,
            "uuid": str(self.uuid),
            "name": self.name,
            "version": str(self.version),
            "owner": self.owner,
            "description": self.description,
            "entrypoint": self.entrypoint,
            "lifecycle": self.lifecycle.value,
            "trust": self.trust.value,
            "capabilities_required": [str(c) for c in self.capabilities_required],
            "idempotent": self.idempotent,
            "artifacts": dict(self.artifacts),
            "policy": policy and {
                "version": policy.version,
                "sha256": policy.sha256,
                "history": [_plain(entry) for entry in policy.history],
            },
            "revision": revision and _plain(revision),
        }  # fmt: skip

    def to_json(self) -> bytes:
        """Returns the canonical file: sorted keys, two spaces, a trailing line feed."""
        text = json.dumps(self.to_dict(), sort_keys=True, indent=2, ensure_ascii=False)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, source: str = "component") -> Component:
        """Reads a component file; see ``docs/schemas/component.schema.json``.

        Args:
            data: The file, UTF-8.
            source: Where it came from, for errors.

        Raises:
            RegistryError: It is not valid; ``details`` has ``source`` and, where
                known, ``line``, ``column`` and ``json_path``.
        """
        from omnibase.core.registry.component_file import parse_component

        return parse_component(data, source)


def _plain(value: PolicyVersion | Revision) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__slots__}
