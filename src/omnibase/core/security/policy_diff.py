"""Compares two policies of a component: what becomes granted, and what denied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.conditions import Condition, Test, all_of, any_of, comparisons, negate
from omnibase.core.security.containment import Meter, Undecided, find
from omnibase.core.security.deciding import MAX_TOTAL_STEPS, Case
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.patterns import DatabasePattern, Pattern
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_schema import ATTRIBUTES, ENTITY_OF, LIFECYCLES, TRUSTS
from omnibase.core.security.policy_text import condition_of
from omnibase.errors import CapabilityError

__all__ = ["DiffEntry", "diff", "relevant_contexts"]

MAX_CANDIDATES = 200
"""Patterns of one type that are tried; what they leave is told by an example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffEntry:
    """One difference.

    Attributes:
        change: ``granted``: denied by the old policy, granted by the new one;
            ``denied``: the other way round; ``undecided``: too complex to compare.
        capability: The pattern, as ``TYPE:resource``; the type alone if undecided.
        witness: A concrete resource of it that is decided otherwise.
        whole: Whether all of it changes; else only some, the witness for example.
    """

    change: Literal["granted", "denied", "undecided"]
    capability: str
    witness: str | None
    whole: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Returns the difference as JSON-ready data."""
        return {
            "change": self.change,
            "capability": self.capability,
            "witness": self.witness,
            "whole": self.whole,
        }


def relevant_contexts(*policies: Policy) -> tuple[PolicyContext, ...]:
    """Returns contexts in which all that policies can say is said by some.

    What no policy asks for has one value; for environments it is those that are
    named and another one.
    """
    named: dict[str, set[str]] = {"trust": set(), "lifecycle": set(), "environment": set()}
    for policy in policies:
        for rule in policy.rules:
            for test in comparisons(rule.condition):
                if test.owner == "context":
                    named[test.attribute].add(str(test.value))
    plain = PolicyContext()
    other = next(
        name
        for name in (plain.environment, *(f"other-{n}" for n in range(len(named["environment"]))))
        if name not in named["environment"]
    )
    environments = (other, *sorted(n for n in named["environment"] if _can_be(n)))
    return tuple(
        PolicyContext(trust=trust, lifecycle=lifecycle, environment=environment)
        for trust in (TRUSTS if named["trust"] else (plain.trust,))
        for lifecycle in (LIFECYCLES if named["lifecycle"] else (plain.lifecycle,))
        for environment in environments
    )


def _can_be(environment: str) -> bool:
    return 0 < len(environment) <= 64


def diff(old: Policy, new: Policy, context: PolicyContext) -> tuple[DiffEntry, ...]:
    """Returns what a change of policy grants and takes away in one context.

    It is complete: no entry of a type means that both allow exactly the same
    resources of it.
    """
    before, after = Case(old.conditions(context)), Case(new.conditions(context))
    entries: list[DiffEntry] = []
    for kind in CapabilityType:
        was, now = before.allowed(kind), after.allowed(kind)
        meter = Meter(MAX_TOTAL_STEPS)
        candidates = _candidates(kind, (was, now))
        try:
            entries += _changes("granted", kind, was, now, candidates, meter)
            entries += _changes("denied", kind, now, was, candidates, meter)
        except (Undecided, CapabilityError):
            entries.append(DiffEntry(change="undecided", capability=kind.value, witness=None))
    return tuple(entries)


def _changes(
    change: Literal["granted", "denied"],
    kind: CapabilityType,
    without: Condition,
    having: Condition,
    candidates: list[Capability],
    meter: Meter,
) -> Iterator[DiffEntry]:
    gained = all_of((having, negate(without)))
    example = find(kind, None, gained, meter)
    if example is None:
        return
    left = gained
    # First what changes altogether, then requests that are decided otherwise now, then
    # patterns of which some does.
    for whole, granted in ((True, gained), (False, having), (False, True)):
        found = [
            (one, witness)
            for one in candidates
            if (witness := find(kind, one.pattern, left, meter)) is not None
            and find(kind, one.pattern, negate(granted), meter) is None
        ]
        kept = [
            (one, witness)
            for one, witness in found
            if not any(other != one and other.covers(one) for other, _ in found)
        ]
        for one, witness in kept:
            yield DiffEntry(change=change, capability=str(one), witness=witness, whole=whole)
        left = all_of((left, negate(any_of(condition_of(one) for one, _ in kept))))
        example = find(kind, None, left, meter)
        if example is None:
            return
    text = f"{kind.value}:{_kind_of_pattern(kind).literal(example)}"
    yield DiffEntry(change=change, capability=text, witness=example, whole=False)


def _kind_of_pattern(kind: CapabilityType) -> type[Pattern]:
    samples = {"path": "/a", "host": "a:1", "bytes": "1B"}
    if kind.value.startswith("DATABASE"):
        return DatabasePattern
    first = next(iter(ATTRIBUTES[ENTITY_OF[kind]]))
    return type(Capability(kind, samples.get(first, "a")).pattern)


def _candidates(kind: CapabilityType, conditions: tuple[Condition, ...]) -> list[Capability]:
    """Returns capabilities that the conditions speak of and that are easily written."""
    found: dict[str, dict[str, None]] = {}
    was, now = (dict.fromkeys(comparisons(condition)) for condition in conditions)
    # What only one of them says comes first: it is more likely to matter.
    for test in sorted({**was, **now}, key=lambda test: test in was and test in now):
        found.setdefault(test.attribute, {}).update(dict.fromkeys(_texts(test)))
    resources: list[str]
    if kind is CapabilityType.NETWORK_CONNECT:
        ports = _ranges(list(found.get("port", {})))
        resources = [f"{host}:{port}" for host in [*found.get("host", {}), "*"] for port in ports]
    elif kind is CapabilityType.SECRET_ACCESS:
        hosts = ["", *(f"@{host}" for host in found.get("host", {}) if host)]
        resources = [name + host for name in found.get("name", {}) for host in hosts]
    else:
        resources = [text for texts in found.values() for text in texts]
    capabilities: dict[Capability, None] = {}
    for resource in resources[:MAX_CANDIDATES]:
        try:
            capabilities[Capability(kind, resource)] = None
        except CapabilityError:
            continue  # it says something that no capability can
    return list(capabilities)


def _texts(test: Test) -> Iterator[str]:
    if isinstance(test.value, tuple):
        text = "".join("*" if part is None else part for part in test.value)
        if test.attribute == "path" and text.endswith("/*"):
            yield text + "*"
        yield text
    elif test.attribute == "bytes":
        value = int(test.value)
        yield from (f"{value}B", f"{value - 1}B" if value > 1 else f"{value + 1}B")
    else:
        yield str(test.value)


def _ranges(ports: list[str]) -> list[str]:
    """Returns ranges of ports between those that are named."""
    cuts = sorted({1, 65536, *(int(p) + n for p in ports for n in (0, 1) if int(p) < 65536)} - {0})
    spans = [f"{low}-{high - 1}" for i, low in enumerate(cuts) for high in cuts[i + 1 :][:8]]
    return ["*", *spans]
