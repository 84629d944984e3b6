"""Patterns of secrets and of memory sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from omnibase.core.context import parse_size
from omnibase.core.security.globs import quoted
from omnibase.core.security.host_patterns import (
    host_contains,
    host_keys,
    host_meet,
    host_outside,
    host_witness,
    parse_host,
)
from omnibase.errors import CapabilityError, ConfigurationError

__all__ = ["SecretPattern", "SizePattern"]

T = TypeVar("T")

_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_UNITS = tuple(
    (unit + suffix, base**power)
    for power, unit in ((3, "G"), (2, "M"), (1, "K"))
    for suffix, base in (("iB", 1024), ("B", 1000))
)
MAX_SIZE = 1 << 44
"""Largest memory size in bytes; the ceiling of a run cannot be higher either."""


@dataclass(frozen=True, slots=True)
class SecretPattern:
    """A secret by its exact name, such as ``API_TOKEN`` or ``API_TOKEN@api.example.com``.

    Attributes:
        name: The secret's name; case counts, there are no wildcards.
        host: If set, the secret may only be sent to hosts of this pattern, and
            the script never sees it. ``NAME`` contains ``NAME@host``.
    """

    name: str
    host: str | None = None

    @classmethod
    def parse(cls, text: str) -> SecretPattern:
        """Reads a pattern and makes its host canonical.

        Raises:
            CapabilityError: The name or the host is malformed.
        """
        name, at, host = text.partition("@")
        if _SECRET.fullmatch(name) is None:
            raise CapabilityError(
                f"{quoted(name)} is not the name of a secret",
                details={"resource": quoted(text)[1:-1]},
                hint="use letters, digits, `_`, `.` and `-`, a letter or `_` first, "
                "and at most 255 of them",
            )
        return cls(name, parse_host(host) if at else None)

    @property
    def text(self) -> str:
        """The canonical text; parsing it gives an equal pattern."""
        return self.name if self.host is None else f"{self.name}@{self.host}"

    def __str__(self) -> str:
        return self.text

    @property
    def is_literal(self) -> bool:
        """Whether the text is one concrete use, not a pattern of hosts."""
        return self.host is None or not self.host.startswith("*")

    def matches(self, concrete: str) -> bool:
        """Says whether a use, ``NAME`` or ``NAME@host``, is allowed; a malformed one never is."""
        try:
            use = SecretPattern.parse(concrete)
        except CapabilityError:
            return False
        return use.is_literal and self.contains(use)

    def contains(self, other: SecretPattern) -> bool:
        """Says whether all that ``other`` matches is matched by this pattern."""
        if self.name != other.name or self.host is None:
            return self.name == other.name
        return other.host is not None and host_contains(self.host, other.host)

    def intersects(self, other: SecretPattern) -> bool:
        """Says whether some use is matched by both."""
        return bool(self.intersection(other))

    def outside(self, other: SecretPattern) -> str | None:
        """Returns a use that this pattern matches and ``other`` does not."""
        if other.contains(self):
            return None
        if self.host is None:
            return self.name
        host = host_outside(self.host, other.host or "*")
        return f"{self.name}@{host or host_witness(self.host)}"

    def witness(self, other: SecretPattern) -> str | None:
        """Returns a use that both match, or ``None``."""
        for both in self.intersection(other):
            return both.name if both.host is None else f"{both.name}@{host_witness(both.host)}"
        return None

    def intersection(self, other: SecretPattern) -> tuple[SecretPattern, ...]:
        """Returns the pattern for exactly what both match; empty if disjoint."""
        if self.name != other.name:
            return ()
        if self.host is None or other.host is None:
            return (other if self.host is None else self,)
        host = host_meet(self.host, other.host)
        return () if host is None else (SecretPattern(self.name, host),)

    @staticmethod
    def literal(concrete: str) -> str:
        """Returns the canonical text of one concrete use.

        Raises:
            CapabilityError: The text is malformed or names a pattern of hosts.
        """
        use = SecretPattern.parse(concrete)
        if not use.is_literal:
            raise CapabilityError(
                f"{quoted(concrete)} is not one use of a secret",
                details={"resource": quoted(concrete)[1:-1]},
                hint="name one host after the `@`",
            )
        return use.text

    @staticmethod
    def finder(entries: Iterable[tuple[SecretPattern, T]]) -> Callable[[str], T | None]:
        """Returns a function from a concrete use to the value of a pattern that matches."""
        by_text: dict[str, T] = {}
        for pattern, value in entries:
            by_text.setdefault(pattern.text, value)

        def find(text: str) -> T | None:
            try:
                use = SecretPattern.parse(text)
            except CapabilityError:
                return None
            if not use.is_literal:
                return None
            if use.host is None:
                return by_text.get(use.name)
            keys = (use.name, *(f"{use.name}@{host}" for host in host_keys(use.host)))
            return next((by_text[key] for key in keys if key in by_text), None)

        return find


@dataclass(frozen=True, slots=True)
class SizePattern:
    """All sizes up to one, such as ``128MiB``.

    Attributes:
        bytes: The size; a pattern contains each smaller one.
    """

    bytes: int

    @classmethod
    def parse(cls, text: str) -> SizePattern:
        """Reads a whole number with a unit, as `parse_size` does.

        Raises:
            CapabilityError: The text is no size, zero, or more than 16 TiB.
        """
        try:
            size = parse_size(text)
        except ConfigurationError as error:
            raise CapabilityError(
                f"{quoted(text)} is not a size",
                details={"resource": quoted(text)[1:-1]},
                hint=error.hint,
            ) from None
        if not 0 < size <= MAX_SIZE:
            raise CapabilityError(
                f"{quoted(text)} is out of range",
                details={"resource": quoted(text)[1:-1]},
                hint="choose more than 0 and at most 16384GiB",
            )
        return cls(size)

    @property
    def text(self) -> str:
        """The size with the largest unit that divides it, e.g. ``50MB`` or ``128MiB``."""
        for unit, factor in _UNITS:
            if self.bytes % factor == 0:
                return f"{self.bytes // factor}{unit}"
        return f"{self.bytes}B"

    def __str__(self) -> str:
        return self.text

    @property
    def is_literal(self) -> bool:
        """Always false: each pattern allows all smaller sizes, too."""
        return False

    def matches(self, concrete: str) -> bool:
        """Says whether a size is at most this one; a malformed one never is."""
        try:
            return SizePattern.parse(concrete).bytes <= self.bytes
        except CapabilityError:
            return False

    def contains(self, other: SizePattern) -> bool:
        """Says whether ``other`` is at most this size."""
        return other.bytes <= self.bytes

    def intersects(self, other: SizePattern) -> bool:
        """Always true: both allow one byte."""
        return True

    def outside(self, other: SizePattern) -> str | None:
        """Returns a size that this pattern allows and ``other`` does not."""
        return None if other.contains(self) else self.text

    def witness(self, other: SizePattern) -> str:
        """Returns the largest size that both allow."""
        return min(self, other, key=lambda size: size.bytes).text

    def intersection(self, other: SizePattern) -> tuple[SizePattern, ...]:
        """Returns the smaller of the two."""
        return (min(self, other, key=lambda size: size.bytes),)

    @staticmethod
    def literal(concrete: str) -> str:
        """Returns the canonical text of a size.

        Raises:
            CapabilityError: The text is no size in range.
        """
        return SizePattern.parse(concrete).text

    @staticmethod
    def finder(entries: Iterable[tuple[SizePattern, T]]) -> Callable[[str], T | None]:
        """Returns a function from a size to the value of a pattern that allows it."""
        sizes = {pattern: value for pattern, value in entries}
        largest = max(sizes, key=lambda size: size.bytes, default=None)

        def find(text: str) -> T | None:
            if largest is None or not largest.matches(text):
                return None
            return sizes[largest]

        return find
