"""The pattern language: which kinds of patterns there are and what each can do.

Every kind canonicalises what it reads and decides exactly whether it matches a
concrete resource, contains another pattern, or has something in common with it.
A *concrete* resource is one file, endpoint, name, secret or size; glob characters
in it stand for themselves. Each kind lives in a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

from omnibase.core.security.command_patterns import CommandPattern
from omnibase.core.security.database_patterns import DatabasePattern
from omnibase.core.security.globs import quoted
from omnibase.core.security.host_patterns import HostPattern, parse_host
from omnibase.core.security.name_patterns import SecretPattern, SizePattern
from omnibase.core.security.path_patterns import NamePattern, PathPattern
from omnibase.core.security.path_patterns import literal_path as literal_pattern

__all__ = [
    "CommandPattern",
    "DatabasePattern",
    "HostPattern",
    "NamePattern",
    "PathPattern",
    "Pattern",
    "SecretPattern",
    "SizePattern",
    "literal_pattern",
    "parse_host",
    "quoted",
]

T = TypeVar("T")


class Pattern(Protocol):
    """What every kind of pattern offers; two patterns compared are of one kind.

    The comparisons raise `CapabilityError` if the patterns are too complex to
    compare within a fixed bound: an undecided question is never answered.
    """

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a pattern; raises `CapabilityError` if it is malformed."""

    @property
    def text(self) -> str:
        """The canonical text; ``parse(text)`` gives an equal pattern."""

    @property
    def is_literal(self) -> bool:
        """Whether the pattern's text is also the one concrete resource it is for."""

    def matches(self, concrete: str) -> bool:
        """Says whether a concrete resource is in the language; a malformed one never is."""

    def contains(self, other: Any) -> bool:
        """Says whether this pattern matches all that ``other`` matches."""

    def intersects(self, other: Any) -> bool:
        """Says whether some concrete resource is matched by both."""

    def outside(self, other: Any) -> str | None:
        """Returns a concrete resource that this matches and ``other`` does not."""

    def witness(self, other: Any) -> str | None:
        """Returns a concrete resource that both match, or ``None`` if disjoint."""

    def intersection(self, other: Any) -> tuple[Self, ...] | None:
        """Returns patterns for exactly what both match, or ``None`` if inexpressible."""

    @staticmethod
    def literal(concrete: str) -> str:
        """Returns the narrowest pattern text for a concrete resource.

        A character that cannot be written in a pattern becomes ``?``. Raises
        `CapabilityError` if the resource is malformed.
        """

    @classmethod
    def finder(cls, entries: Iterable[tuple[Any, T]]) -> Callable[[str], T | None]:
        """Returns a fast function from a concrete resource to the value of a match."""
