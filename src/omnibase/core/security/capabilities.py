"""Capabilities: typed tokens ``TYPE:resource`` and immutable sets of them.

``FILE_WRITE`` implies ``FILE_READ`` of the same resource, because what is mounted
for writing can be read; every operation here takes that into account. No other
``*_WRITE`` implies its ``*_READ``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import Any

from omnibase.core.security.patterns import (
    CommandPattern,
    DatabasePattern,
    HostPattern,
    NamePattern,
    PathPattern,
    Pattern,
    SecretPattern,
    SizePattern,
    quoted,
)
from omnibase.errors import CapabilityDenied, CapabilityError

__all__ = ["Capability", "CapabilitySet", "CapabilityType"]

MAX_NARROWED = 256
"""Most parts of members that `CapabilitySet.narrow` works with."""


class CapabilityType(StrEnum):
    """What a capability allows; the resource after the colon says on what."""

    FILE_READ = "FILE_READ"
    FILE_WRITE = "FILE_WRITE"
    NETWORK_CONNECT = "NETWORK_CONNECT"
    EXTERNAL_COMMAND = "EXTERNAL_COMMAND"
    SECRET_ACCESS = "SECRET_ACCESS"
    MEMORY = "MEMORY"
    ARTIFACT_READ = "ARTIFACT_READ"
    ARTIFACT_WRITE = "ARTIFACT_WRITE"
    REGISTRY_READ = "REGISTRY_READ"
    REGISTRY_WRITE = "REGISTRY_WRITE"
    DATABASE_READ = "DATABASE_READ"
    DATABASE_WRITE = "DATABASE_WRITE"


_READ, _WRITE = CapabilityType.FILE_READ, CapabilityType.FILE_WRITE

_KINDS: dict[CapabilityType, type[Pattern]] = {
    **dict.fromkeys(CapabilityType, NamePattern),
    _READ: PathPattern,
    _WRITE: PathPattern,
    CapabilityType.NETWORK_CONNECT: HostPattern,
    CapabilityType.EXTERNAL_COMMAND: CommandPattern,
    CapabilityType.SECRET_ACCESS: SecretPattern,
    CapabilityType.MEMORY: SizePattern,
    CapabilityType.DATABASE_READ: DatabasePattern,
    CapabilityType.DATABASE_WRITE: DatabasePattern,
}


def _parse_type(name: str) -> CapabilityType:
    try:
        return CapabilityType(name)
    except ValueError:
        pass
    from difflib import get_close_matches  # slow to import, and only errors need it

    near = get_close_matches(name.upper()[:40], list(CapabilityType), n=1)
    raise CapabilityError(
        f"{quoted(name)} is not a type of capability",
        details={"type": quoted(name)[1:-1]},
        hint=f"did you mean `{near[0]}`?" if near else "choose one of " + ", ".join(CapabilityType),
    )


def _allows(granted: CapabilityType, wanted: CapabilityType) -> bool:
    return granted is wanted or (granted is _WRITE and wanted is _READ)


@dataclass(frozen=True, slots=True)
class Capability:
    """One typed token, such as ``FILE_READ:/data/**``.

    Attributes:
        type: What it allows.
        resource: On what, in canonical form.
        pattern: The parsed resource.
    """

    type: CapabilityType
    resource: str
    pattern: Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kind = _parse_type(self.type)
        pattern = _KINDS[kind].parse(self.resource)
        object.__setattr__(self, "type", kind)
        object.__setattr__(self, "resource", pattern.text)
        object.__setattr__(self, "pattern", pattern)

    @classmethod
    def parse(cls, text: str) -> Capability:
        """Reads ``TYPE:resource``.

        Raises:
            CapabilityError: The type is unknown or the resource is malformed;
                ``details["capability"]`` is the text.
        """
        name, colon, resource = text.partition(":")
        try:
            if not colon:
                raise CapabilityError(
                    f"{quoted(text)} is not a capability",
                    hint="write `TYPE:resource`, e.g. `FILE_READ:/data/input.csv`",
                )
            return cls(_parse_type(name), resource)
        except CapabilityError as error:
            error.details["capability"] = quoted(text)[1:-1]
            raise

    def __str__(self) -> str:
        return f"{self.type.value}:{self.resource}"

    def __lt__(self, other: Capability) -> bool:
        return (self.type.value, self.resource) < (other.type.value, other.resource)

    def matches(self, resource: str) -> bool:
        """Says whether the pattern matches one concrete resource; a malformed one never."""
        return self.pattern.matches(resource)

    def covers(self, other: Capability) -> bool:
        """Says whether this allows everything that ``other`` allows.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        return _allows(self.type, other.type) and self.pattern.contains(other.pattern)

    def intersects(self, other: Capability) -> bool:
        """Says whether some use is allowed by both.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        related = _allows(self.type, other.type) or _allows(other.type, self.type)
        return related and self.pattern.intersects(other.pattern)

    def intersection(self, other: Capability) -> tuple[Capability, ...]:
        """Returns capabilities for exactly what both allow.

        Empty if there is nothing, and also if a few patterns cannot say it:
        authority that cannot be written down is not given.

        Raises:
            CapabilityError: The patterns are too complex to compare.
        """
        if _allows(self.type, other.type):
            common = other.type
        elif _allows(other.type, self.type):
            common = self.type
        else:
            return ()
        patterns = self.pattern.intersection(other.pattern)
        return tuple(Capability(common, pattern.text) for pattern in patterns or ())


class CapabilitySet:
    """An immutable set of capabilities, iterated in sorted order.

    Two sets are equal if they have equal members, whatever the order they came in.
    """

    __slots__ = ("_finders", "_hash", "_members")

    _members: tuple[Capability, ...]

    def __init__(self, capabilities: Iterable[Capability] = ()) -> None:
        self._members = tuple(sorted(set(capabilities)))
        self._hash = hash(self._members)
        self._finders: dict[str, Callable[[str], Capability | None]] = {}

    @classmethod
    def parse(cls, texts: Iterable[str]) -> CapabilitySet:
        """Reads capabilities written ``TYPE:resource``.

        Raises:
            CapabilityError: A text is malformed.
        """
        return cls(Capability.parse(text) for text in texts)

    def __iter__(self) -> Iterator[Capability]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, capability: object) -> bool:
        return capability in self._members

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CapabilitySet):
            return NotImplemented
        return self._members == other._members

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"CapabilitySet.parse({[str(c) for c in self]!r})"

    def union(self, *others: Iterable[Capability]) -> CapabilitySet:
        """Returns the set of all members of this and the others."""
        return CapabilitySet(c for members in (self, *others) for c in members)

    def __or__(self, other: CapabilitySet) -> CapabilitySet:
        return self.union(other)

    def narrow(self, other: CapabilitySet) -> CapabilitySet:
        """Returns what of this set the other one allows, too; it never widens.

        A member that one of the other's covers stays as it is. Of any other, what
        it has in common with each of the other's members stays, if a few patterns
        say it exactly; else it is dropped.

        Raises:
            CapabilityError: Two patterns are too complex to compare, or more than
                `MAX_NARROWED` capabilities are needed for the parts.
        """
        kept = {c for c in self if other.covers(c)}
        pieces: set[Capability] = set()
        for mine, theirs in product(self, other):
            if mine not in kept:
                pieces.update(mine.intersection(theirs))
            if len(pieces) > MAX_NARROWED:
                raise CapabilityError(
                    f"what is common has more than {MAX_NARROWED} parts",
                    hint="use fewer patterns that overlap each other",
                )
        result = CapabilitySet(kept)
        for piece in sorted(pieces):
            if not result.covers(piece):
                rest = (c for c in result if c in kept or not piece.covers(c))
                result = CapabilitySet((*rest, piece))
        return result

    def covers(self, wanted: Capability | CapabilitySet) -> bool:
        """Says whether all of it is allowed, each capability by a single member.

        Members are not added up: ports ``1-5`` and ``6-10`` do not cover ``1-10``.

        Raises:
            CapabilityError: Two patterns are too complex to compare.
        """
        if isinstance(wanted, CapabilitySet):
            return all(self.covers(c) for c in wanted)
        if wanted.pattern.is_literal and self._find(wanted.type, wanted.resource) is not None:
            return True
        return any(c.covers(wanted) for c in self)

    def intersects(self, other: Capability | CapabilitySet) -> bool:
        """Says whether some use is allowed by this set and by the other.

        Raises:
            CapabilityError: Two patterns are too complex to compare.
        """
        others = (other,) if isinstance(other, Capability) else other
        return any(mine.intersects(theirs) for theirs in others for mine in self)

    def covering(self, type: CapabilityType, resource: str) -> Capability | None:
        """Returns a member that allows a concrete resource, or ``None``.

        A malformed resource is allowed by none. Glob characters in it stand for
        themselves.

        Raises:
            CapabilityError: The type is unknown.
        """
        return self._find(type, resource)

    def check(self, type: CapabilityType, resource: str) -> None:
        """Returns if a concrete resource is allowed, and raises if not.

        Raises:
            CapabilityDenied: No member allows it; ``details["smallest_grant"]``
                is the narrowest capability that would.
            CapabilityError: The type is unknown, or the resource is malformed,
                so that no capability can allow it.
        """
        if self._find(type, resource) is not None:
            return
        kind = _parse_type(type)
        smallest = f"{kind.value}:{_KINDS[kind].literal(resource)}"
        wanted = f"{kind.value}:{resource}"
        raise CapabilityDenied(
            f"{quoted(wanted)} is not granted",
            details={"capability": quoted(wanted)[1:-1], "smallest_grant": smallest},
            hint=f"add `{smallest}` to the capabilities",
        )

    def _find(self, type: CapabilityType, resource: str) -> Capability | None:
        finder = self._finders.get(type)
        if finder is None:
            kind = _parse_type(type)
            members = ((c.pattern, c) for c in self if _allows(c.type, kind))
            finder = self._finders[kind] = _KINDS[kind].finder(members)
        return finder(resource)

    def to_json(self) -> dict[str, Any]:
        """Returns the set as a capability document, JSON-ready."""
        return {"version": 1, "capabilities": [str(c) for c in self]}

    @classmethod
    def from_json(cls, document: object) -> CapabilitySet:
        """Reads a decoded capability document.

        Raises:
            ConfigurationError: The document does not have the published shape.
            CapabilityError: A capability in it is malformed.
        """
        from omnibase.core.security.capability_file import read_document

        return read_document(document)
