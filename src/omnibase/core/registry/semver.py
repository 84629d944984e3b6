"""Semantic versions (SemVer 2.0.0) and constraints on them.

Precedence follows section 11 of the specification; build metadata has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from omnibase.core.security.patterns import quoted
from omnibase.errors import RegistryError

__all__ = ["MAX_VERSION_CHARS", "Constraint", "Version"]

MAX_VERSION_CHARS = 128

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRERELEASE = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z\-][0-9A-Za-z\-]*)"
_BUILD = r"[0-9A-Za-z\-]+"
SEMVER_PATTERN = (
    rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+{_BUILD}(?:\.{_BUILD})*)?$"
)
"""A version as the published schema writes it."""

_SEMVER = re.compile(SEMVER_PATTERN[1:-1])
_PARTIAL = re.compile(rf"({_NUMBER})(?:\.({_NUMBER}))?")
_COMPARATOR = re.compile(r"(\^|~|==|=|!=|>=|<=|>|<)?\s*(\S+)")

_Key = tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]


def _invalid(message: str, hint: str) -> RegistryError:
    return RegistryError(message, details={"reason": "invalid"}, hint=hint)


@dataclass(frozen=True, slots=True)
class Version:
    """One semantic version.

    Ordered by precedence: two versions that differ in build metadata alone are
    neither equal nor is one less than the other; ``<=`` and ``>=`` hold both ways.

    Attributes:
        prerelease: Dot-separated identifiers, or the empty text.
        build: Likewise.
    """

    major: int
    minor: int
    patch: int
    prerelease: str = ""
    build: str = ""
    _key: _Key = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = str(self)
        if len(text) > MAX_VERSION_CHARS or not _SEMVER.fullmatch(text):
            raise _invalid(
                f"{quoted(text)} is not a semantic version",
                "write `MAJOR.MINOR.PATCH`, e.g. `1.4.0` or `2.0.0-rc.1`",
            )
        parts = self.prerelease.split(".") if self.prerelease else []
        identifiers = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)
        # A version without a prerelease comes after all of its prereleases.
        key = (self.major, self.minor, self.patch, 0 if parts else 1, identifiers)
        object.__setattr__(self, "_key", key)

    @classmethod
    def parse(cls, text: str) -> Version:
        """Reads a version.

        Raises:
            RegistryError: It is not strict SemVer 2.0.0, or has more than 128 characters.
        """
        if len(text) > MAX_VERSION_CHARS or not _SEMVER.fullmatch(text):
            raise _invalid(
                f"{quoted(text)} is not a semantic version",
                "write `MAJOR.MINOR.PATCH`, e.g. `1.4.0` or `2.0.0-rc.1`",
            )
        rest, _, build = text.partition("+")
        core, _, prerelease = rest.partition("-")
        major, minor, patch = (int(number) for number in core.split("."))
        return cls(major, minor, patch, prerelease, build)

    def __str__(self) -> str:
        build = f"+{self.build}" if self.build else ""
        return self.precedence + build

    @property
    def precedence(self) -> str:
        """The version without its build metadata: equal texts have equal precedence."""
        prerelease = f"-{self.prerelease}" if self.prerelease else ""
        return f"{self.major}.{self.minor}.{self.patch}{prerelease}"

    @property
    def triple(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.major, self.minor, self.patch

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __le__(self, other: Version) -> bool:
        return self._key <= other._key

    def __gt__(self, other: Version) -> bool:
        return self._key > other._key

    def __ge__(self, other: Version) -> bool:
        return self._key >= other._key


@dataclass(frozen=True, slots=True)
class Constraint:
    """Which versions will do: comparators, all of which must hold.

    ``1.2.3`` or ``=1.2.3`` (that one), ``!=``, ``<``, ``<=``, ``>``, ``>=``,
    ``^1.2`` (no change of the leftmost digit that is not zero), ``~1.2`` (no change
    of the minor version), ``*``; with commas between, e.g. ``>=1.2.0,<2.0.0``.
    A prerelease will do only if a comparator names one of the same
    ``MAJOR.MINOR.PATCH``.
    """

    text: str
    _bounds: tuple[tuple[str, Version], ...]
    _prereleases: frozenset[tuple[int, int, int]]

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Reads a constraint.

        Raises:
            RegistryError: It is malformed.
        """
        bounds: list[tuple[str, Version]] = []
        prereleases = set()
        if len(text) > 4 * MAX_VERSION_CHARS:
            raise _bad_constraint(text)
        for part in text.split(",") if text.strip() != "*" else ():
            match = _COMPARATOR.fullmatch(part.strip())
            if not match:
                raise _bad_constraint(text)
            operator, wanted = match[1] or "=", match[2]
            partial = _PARTIAL.fullmatch(wanted)
            if partial and operator in ("^", "~", ">=", "<"):
                version = Version.parse(f"{partial[1]}.{partial[2] or 0}.0")
            else:
                version = Version.parse(wanted)
            if version.prerelease:
                prereleases.add(version.triple)
            if operator in ("^", "~"):
                given = 3 if not partial else 2 if partial[2] else 1
                bounds.append((">=", version))
                bounds.append(("<", _ceiling(operator, version, given)))
            else:
                bounds.append((operator.replace("==", "="), version))
        return cls(text, tuple(bounds), frozenset(prereleases))

    @property
    def exact(self) -> Version | None:
        """The one version that will do, if it is written that way."""
        if len(self._bounds) == 1 and self._bounds[0][0] == "=":
            return self._bounds[0][1]
        return None

    def allows(self, version: Version) -> bool:
        """Says whether a version will do."""
        if version.prerelease and version.triple not in self._prereleases:
            return False
        return all(_holds(operator, version, bound) for operator, bound in self._bounds)


def _bad_constraint(text: str) -> RegistryError:
    return _invalid(
        f"{quoted(text)} is not a version constraint",
        "write e.g. `1.4.0`, `^1.4`, `~1.4.2` or `>=1.4.0,<2.0.0`",
    )


def _ceiling(operator: str, version: Version, given: int) -> Version:
    """Returns the first version too high; ``given`` numbers of three were written."""
    major, minor, patch = version.triple
    if given == 1 or (operator == "^" and major):
        triple = (major + 1, 0, 0)
    elif given == 2 or operator == "~" or minor:
        triple = (major, minor + 1, 0)
    else:
        triple = (major, minor, patch + 1)
    # "0" is the lowest prerelease of all: `^1.2` must not let 2.0.0-rc.1 in.
    return Version(*triple, prerelease="0")


def _holds(operator: str, version: Version, bound: Version) -> bool:
    same = version >= bound and version <= bound
    if operator == "=":
        return same and bound.build in ("", version.build)
    if operator == "!=":
        return not same
    if operator[0] == ">":
        return version > bound or (operator == ">=" and same)
    return version < bound or (operator == "<=" and same)
