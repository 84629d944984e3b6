"""What a change of policy grants and takes away, in all circumstances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console
from omnibase.cli.policy_words import outcomes, say
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from omnibase.core.security.decision import PolicyContext
    from omnibase.core.security.policy import Policy
    from omnibase.core.security.policy_diff import DiffEntry

__all__ = ["Change", "Comparison", "compare", "show"]

MAX_CONTEXTS: Final = 500
"""Circumstances that are compared: each costs up to some seconds."""

_PARTS: Final = ("trust", "lifecycle", "environment")
# What contexts have in common: a set of values for each part.
_Box = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Differences, and the circumstances in which they are all there are.

    Attributes:
        contexts: The circumstances.
        entries: The differences.
        where: The circumstances in words, one text for each part of them.
    """

    contexts: tuple[PolicyContext, ...]
    entries: tuple[DiffEntry, ...]
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that a change of policy changes.

    Attributes:
        contexts: All circumstances that were looked at.
        changes: Those in which something differs; the same differences once.
        other: Stands for every environment that no policy names; ``None``: one was given.
    """

    contexts: tuple[PolicyContext, ...]
    changes: tuple[Change, ...]
    other: str | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the changes as JSON-ready data."""
        return {
            "contexts": len(self.contexts),
            "other_environment": self.other,
            "changes": [
                {
                    "contexts": [context.to_dict() for context in change.contexts],
                    "differences": [entry.to_dict() for entry in change.entries],
                }
                for change in self.changes
            ],
        }


def compare(old: Policy, new: Policy, given: Mapping[str, str]) -> Comparison:
    """Compares two policies in all circumstances that matter to them.

    Args:
        old: The policy before.
        new: The policy after.
        given: Circumstances that are fixed: ``trust``, ``lifecycle``, ``environment``.

    Raises:
        ConfigurationError: A given one is not known, or there are too many to compare.
    """
    from omnibase.core.security.policy_diff import diff, relevant_contexts

    contexts = tuple(dict.fromkeys(
        replace(context, **given) for context in relevant_contexts(old, new)
    ))  # fmt: skip
    if len(contexts) > MAX_CONTEXTS:
        raise ConfigurationError(
            f"the policies tell {len(contexts)} circumstances apart, which are too many to compare",
            hint="compare them in one environment: `--environment NAME`",
        )
    known: dict[Any, tuple[DiffEntry, ...]] = {}
    groups: dict[tuple[DiffEntry, ...], list[PolicyContext]] = {}
    for context in contexts:
        # Contexts in which every policy says the same need one look.
        key = (old.conditions(context), new.conditions(context))
        if key not in known:
            known[key] = diff(old, new, context)
        if known[key]:
            groups.setdefault(known[key], []).append(context)
    # The first environment is the one that no policy names.
    other = None if "environment" in given else contexts[0].environment
    return Comparison(
        contexts=contexts,
        changes=tuple(
            Change(
                contexts=tuple(found),
                entries=entries,
                where=tuple(_words(box, contexts, given, other) for box in _boxes(found)),
            )
            for entries, found in groups.items()
        ),
        other=other,
    )


def show(comparison: Comparison) -> None:
    """Prints the changes for people."""
    for change in comparison.changes:
        say(console.colour("bold", console.printable("; or ".join(change.where), 2000), 1))
        rows = ((entry.change, entry.capability, _told(entry)) for entry in change.entries)
        for line in outcomes(rows):
            say(f"  {line}")


def _told(entry: DiffEntry) -> str:
    if entry.change == "undecided":
        return "too complex to be compared"
    return f"{'all of it' if entry.whole else 'some of it'}, e.g. {entry.witness}"


def _boxes(contexts: Iterable[PolicyContext]) -> tuple[_Box, ...]:
    """Returns the contexts as few combinations of sets."""
    environments: dict[tuple[str, str], list[str]] = {}
    for one in contexts:
        environments.setdefault((one.trust, one.lifecycle), []).append(one.environment)
    lifecycles: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (trust, lifecycle), found in environments.items():
        lifecycles.setdefault((trust, tuple(found)), []).append(lifecycle)
    trusts: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (trust, named), found in lifecycles.items():
        trusts.setdefault((tuple(found), named), []).append(trust)
    return tuple((tuple(found), *rest) for rest, found in trusts.items())


def _words(
    box: _Box,
    contexts: tuple[PolicyContext, ...],
    given: Mapping[str, str],
    other: str | None,
) -> str:
    """Writes a combination; what is there in all circumstances goes without saying."""
    words = []
    for part, values in zip(_PARTS, box, strict=True):
        every = {getattr(context, part) for context in contexts}
        if part in given or set(values) != every:
            known = [value for value in values if value != other or part != "environment"]
            known += ["any other"] if len(known) < len(values) else []
            words.append(f"{part} {' or '.join(known)}")
    return ", ".join(words) or "in all circumstances"
