"""What a store has to offer, and what may be believed of it: rules apart from I/O.

A `View` returns bytes that anybody may have changed; the functions here return
what verifies against the log, or raise `Tampered`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from omnibase.core.registry.chain import GENESIS, LogLine, digest
from omnibase.core.registry.checks import invalid
from omnibase.core.registry.model import Action, Component, PolicyState, Revision
from omnibase.core.registry.store import Finding, FindingCode, PolicyDocument, Tampered
from omnibase.errors import RegistryError

__all__ = [
    "Change",
    "Kind",
    "Strays",
    "Transaction",
    "View",
    "component_file",
    "last_line",
    "load",
    "load_history",
    "load_old_policy",
    "load_policy",
    "past_file",
    "policy_file",
]

LOG_FILE = "log"

Kind = Literal["component", "policy", "script"]
_SUFFIX: dict[Kind, str] = {
    "component": "component.json",
    "policy": "policy.cedar.json",
    "script": "script",
}


def component_file(uuid: UUID) -> str:
    """Where a component's record is."""
    return f"components/{uuid}.json"


def policy_file(uuid: UUID) -> str:
    """Where a component's policy is."""
    return f"policies/{uuid}.cedar.json"


def past_file(uuid: UUID, revision: int, kind: Kind) -> str:
    """Where the copy that a revision left is."""
    return f"history/{uuid}/{revision:06d}-{_SUFFIX[kind]}"


def version_file(name: str, precedence: str) -> str:
    """Where the uuid of a name's version is."""
    return f"names/{name}/{precedence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything that one write puts into the store, all of it or nothing.

    Attributes:
        record: The component's canonical bytes.
        replaced: An entrypoint that is no longer one.
    """

    component: Component
    record: bytes
    line: LogLine
    policy: bytes | None = None
    script: bytes | None = None
    replaced: str | None = None


@dataclass(slots=True)
class Strays:
    """What a whole registry should hold, gathered while it is verified."""

    uuids: set[UUID]
    policies: set[UUID]
    scripts: set[UUID]
    versions: dict[tuple[str, str], UUID]


class View(Protocol):
    """Reads from a store. ``None`` is what is not there; what is odd is `Tampered`."""

    def record(self, uuid: UUID) -> bytes | None: ...
    def policy(self, uuid: UUID) -> bytes | None: ...
    def script(self, entrypoint: str) -> bytes | None: ...
    def past(self, uuid: UUID, revision: int, kind: Kind) -> bytes | None: ...
    def has_past(self, uuid: UUID, revision: int) -> bool: ...
    def line(self, sequence: int) -> bytes | None: ...
    def length(self) -> int: ...
    def lines(self) -> Iterator[bytes]: ...
    def uuids(self) -> list[UUID]: ...
    def versions(self, name: str) -> list[str]: ...
    def holder(self, name: str, precedence: str) -> UUID | None: ...

    def files(self, uuid: UUID) -> set[str]:
        """Names the files that are kept for one component alone, apart from the record."""
        ...

    def strays(self, expected: Strays) -> Iterator[Finding]:
        """Yields what is in the store and belongs to no component."""
        ...


class Transaction(View, Protocol):
    """A view that nobody else writes to, and one change to make."""

    def apply(self, change: Change) -> None: ...


def parse_stored(data: bytes, file: str) -> Component:
    """Reads a record: valid, and in exactly the form that the registry writes."""
    try:
        component = Component.from_json(data, file)
    except RegistryError as error:
        raise Tampered(file, FindingCode.CHANGED, f"it is not valid: {error.message}") from None
    if component.to_json() != data:
        raise Tampered(file, FindingCode.CHANGED, "the registry did not write it this way")
    return component


def _check_logged(view: View, component: Component, data: bytes, file: str) -> Revision:
    """Refuses a record that is not the one its line of the log was written for."""
    revision = component.revision
    if revision is None:
        raise Tampered(file, FindingCode.CHANGED, "it has no revision")
    raw = view.line(revision.sequence)
    line = LogLine.decode(raw) if raw is not None else None
    if line is None or line.sequence != revision.sequence:
        message = f"line {revision.sequence} is missing or malformed"
        raise Tampered(LOG_FILE, FindingCode.LOG, message)
    found = (str(component.uuid), revision.number, digest(data))
    if (line.uuid, line.revision, line.sha256) != found:
        message = "it differs from what the log says was written"
        raise Tampered(file, FindingCode.CHANGED, message)
    return revision


def load(view: View, uuid: UUID) -> Component | None:
    """Returns a component as the log has it; ``None`` if there never was one."""
    if not isinstance(uuid, UUID):
        raise invalid("the uuid is not a `UUID`", "$.uuid", "write `UUID(text)`")
    file = component_file(uuid)
    data = view.record(uuid)
    if data is None:
        if view.has_past(uuid, 1):
            raise Tampered(file, FindingCode.MISSING, "it is missing")
        return None
    component = parse_stored(data, file)
    if component.uuid != uuid:
        raise Tampered(file, FindingCode.SWAPPED, f"it is that of `{component.uuid}`")
    revision = _check_logged(view, component, data, file)
    if view.has_past(uuid, revision.number + 1):
        message = f"it is revision {revision.number}, and there has been a later one"
        raise Tampered(file, FindingCode.ROLLBACK, message)
    return component


def load_policy(view: View, uuid: UUID, policy: PolicyState) -> PolicyDocument:
    """Returns a component's current policy."""
    file = policy_file(uuid)
    data = view.policy(uuid)
    if data is None:
        raise Tampered(file, FindingCode.MISSING, "it is missing")
    found = digest(data)
    if found != policy.sha256:
        for entry in policy.history:
            if entry.sha256 == found:
                message = f"it is version {entry.version}, and version {policy.version} is current"
                raise Tampered(file, FindingCode.ROLLBACK, message)
        message = f"it is not version {policy.version}: its digest is `{found}`"
        raise Tampered(file, FindingCode.CHANGED, message)
    return PolicyDocument(data, policy.version, policy.sha256)


def load_old_policy(view: View, component: Component, version: int) -> PolicyDocument | None:
    """Returns an older policy of a component; ``None`` if there never was that version."""
    known = {entry.version: entry for entry in component.policy.history} if component.policy else {}
    if version not in known and 1 <= version < component.policy_version:
        for past in load_history(view, component):
            if past.policy:
                known.update((entry.version, entry) for entry in past.policy.history)
    if version not in known:
        return None
    entry = known[version]
    file = past_file(component.uuid, entry.revision, "policy")
    data = view.past(component.uuid, entry.revision, "policy")
    if data is None:
        raise Tampered(file, FindingCode.MISSING, "it is missing")
    if digest(data) != entry.sha256:
        raise Tampered(file, FindingCode.CHANGED, f"it is not version {version} of the policy")
    return PolicyDocument(data, version, entry.sha256)


def load_history(view: View, current: Component) -> tuple[Component, ...]:
    """Returns every revision up to the current one, each linked to the one before."""
    found: list[Component] = []
    previous = None
    for number in range(1, current.revision_number + 1):
        file = past_file(current.uuid, number, "component")
        data = view.past(current.uuid, number, "component")
        if data is None:
            raise Tampered(file, FindingCode.MISSING, "it is missing")
        component = parse_stored(data, file)
        revision = _check_logged(view, component, data, file)
        followed = (current.uuid, number, previous)
        if (component.uuid, revision.number, revision.previous) != followed:
            raise Tampered(file, FindingCode.CHANGED, "it does not follow the revision before")
        previous = digest(data)
        found.append(component)
    if previous != digest(current.to_json()):
        file = past_file(current.uuid, current.revision_number, "component")
        raise Tampered(file, FindingCode.CHANGED, "it differs from the current record")
    return tuple(found)


def last_line(view: View) -> LogLine | None:
    """Returns the end of the log, its seal verified; ``None`` for an empty log."""
    length = view.length()
    if not length:
        return None
    raw = view.line(length)
    line = LogLine.decode(raw) if raw is not None else None
    before = view.line(length - 1) if length > 1 else None
    previous = LogLine.decode(before) if before is not None else None
    # A line in another's place would have the next one written over what follows it.
    if (
        line is not None
        and line.sequence == length
        and (previous is None) == (length == 1)
        and line.sealed(previous.seal if previous else GENESIS) == line.seal
    ):
        return line
    raise Tampered(LOG_FILE, FindingCode.LOG, "its last line does not continue the one before")


def check_line(change: Change, previous: LogLine | None) -> bool:
    """Says whether a change is one that the registry could have made after a line."""
    revision = change.component.revision
    if revision is None:
        return False
    expected = LogLine.after(previous, change.component.uuid, revision.number, change.record)
    policy = change.component.policy_sha256 if revision.action is Action.PUT_POLICY else None
    artifacts = change.component.artifacts
    script = artifacts.get("entrypoint") if revision.action is Action.ADD_SCRIPT else None
    return (
        change.line == expected
        and revision.sequence == expected.sequence
        and (digest(change.policy) if change.policy is not None else None) == policy
        and (digest(change.script) if change.script is not None else None) == script
    )
