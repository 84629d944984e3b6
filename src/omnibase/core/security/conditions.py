"""Conditions of policies as values: tests joined by and, or and not, without any text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "AllOf",
    "AnyOf",
    "Condition",
    "Glob",
    "Not",
    "Test",
    "all_of",
    "any_of",
    "comparisons",
    "evaluate",
    "glob_matches",
    "negate",
    "simplify",
]

Glob = tuple[str | None, ...]
"""A Cedar ``like`` pattern: literal texts, none of them empty, and ``None`` for each ``*``."""


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison of an attribute with a constant.

    Attributes:
        owner: ``resource`` or ``context``.
        attribute: Its name.
        operator: ``==``, ``like``, ``<``, ``<=``, ``>`` or ``>=``.
        value: A text, a number, or a `Glob` for ``like``.
    """

    owner: str
    attribute: str
    operator: str
    value: str | int | Glob

    # pytest would collect a class of this name.
    __test__ = False

    def holds(self, actual: str | int) -> bool:
        """Says whether the comparison holds for an actual value of the attribute."""
        value = self.value
        if isinstance(value, tuple):
            return isinstance(actual, str) and glob_matches(value, actual)
        if isinstance(value, str) or isinstance(actual, str) or self.operator == "==":
            return self.operator == "==" and actual == value
        if self.operator in ("<", "<="):
            return actual < value or (self.operator == "<=" and actual == value)
        return actual > value or (self.operator == ">=" and actual == value)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    part: Condition


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds if every part does."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds if some part does."""

    parts: tuple[Condition, ...]


Condition = bool | Test | Not | AllOf | AnyOf


def negate(part: Condition) -> Condition:
    """Returns the opposite."""
    if isinstance(part, bool):
        return not part
    return part.part if isinstance(part, Not) else Not(part)


def all_of(parts: Iterable[Condition]) -> Condition:
    """Joins parts; constants are folded, and what is said twice is said once."""
    kept: dict[Condition, None] = {}
    for part in parts:
        if part is False:
            return False
        if part is not True:
            kept[part] = None
    if len(kept) < 2:
        return next(iter(kept), True)
    return AllOf(tuple(kept))


def any_of(parts: Iterable[Condition]) -> Condition:
    """Joins parts of which one is enough."""
    kept: dict[Condition, None] = {}
    for part in parts:
        if part is True:
            return True
        if part is not False:
            kept[part] = None
    if len(kept) < 2:
        return next(iter(kept), False)
    return AnyOf(tuple(kept))


def simplify(condition: Condition, judge: Callable[[Test], bool | None]) -> Condition:
    """Puts constants in place of the tests that ``judge`` has an answer for."""
    if isinstance(condition, bool):
        return condition
    if isinstance(condition, Test):
        known = judge(condition)
        return condition if known is None else known
    if isinstance(condition, Not):
        return negate(simplify(condition.part, judge))
    parts = (simplify(part, judge) for part in condition.parts)
    return all_of(parts) if isinstance(condition, AllOf) else any_of(parts)


def evaluate(condition: Condition, judge: Callable[[Test], bool]) -> bool:
    """Says whether a condition holds, given what each test says."""
    if isinstance(condition, bool):
        return condition
    if isinstance(condition, Test):
        return judge(condition)
    if isinstance(condition, Not):
        return not evaluate(condition.part, judge)
    if isinstance(condition, AllOf):
        return all(evaluate(part, judge) for part in condition.parts)
    return any(evaluate(part, judge) for part in condition.parts)


def comparisons(condition: Condition) -> Iterator[Test]:
    """Yields each test, from left to right."""
    if isinstance(condition, Test):
        yield condition
    elif isinstance(condition, Not):
        yield from comparisons(condition.part)
    elif isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from comparisons(part)


def glob_matches(glob: Glob, text: str) -> bool:
    """Says whether a ``like`` pattern matches; ``*`` is any text, ``/`` and nothing included."""
    if None not in glob:
        return text == "".join(part or "" for part in glob)
    first = glob[0] or ""
    last = glob[-1] or ""
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    inner = glob[1 if glob[0] is not None else 0 : -1 if glob[-1] is not None else len(glob)]
    for part in inner:
        if part is not None:
            # The leftmost place is always good enough.
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
    return True
