"""Finds what is unsafe or useless in a policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from omnibase.core.security.capabilities import CapabilityType
from omnibase.core.security.conditions import (
    Condition,
    Glob,
    Test,
    all_of,
    any_of,
    comparisons,
    evaluate,
    negate,
)
from omnibase.core.security.containment import Meter, Undecided, attributes_of, find
from omnibase.core.security.path_patterns import PathPattern
from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_diff import relevant_contexts
from omnibase.core.security.policy_document import Rule
from omnibase.core.security.policy_schema import LINT_CODES

__all__ = ["LintFinding", "lint"]

MAX_LINT_STEPS = 1_000_000
"""Steps that one lint may take (some seconds); what it leaves open is told as ``OBP009``."""

MAX_LINT_CASES = 200_000
"""Policies times contexts that one lint looks at; likewise."""

_WIDE = {
    CapabilityType.FILE_READ: "OBP002",
    CapabilityType.FILE_WRITE: "OBP002",
    CapabilityType.NETWORK_CONNECT: "OBP003",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One thing that a policy had better not say.

    Attributes:
        code: A key of `LINT_CODES`.
        policy: The policy's id.
        message: One sentence.
        other: The policy that makes it useless, for ``OBP004`` and ``OBP005``.
    """

    code: str
    policy: str
    message: str
    other: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Returns the finding as JSON-ready data."""
        return {
            "code": self.code,
            "policy": self.policy,
            "message": self.message,
            "other": self.other,
        }


def lint(policy: Policy) -> tuple[LintFinding, ...]:
    """Returns findings in the order of the policies.

    The annotation ``@lint_ignore("OBP002, OBP007")`` of a policy silences it. All
    contexts count: a policy is shadowed, dead or unsatisfiable only if it is so in
    each of them.
    """
    linter = _Linter(policy)
    findings = [
        found
        for rule in policy.rules
        for found in linter.findings(rule)
        if found.code not in rule.ignored
    ]
    if linter.left_open is not None and "OBP009" not in linter.left_open.ignored:
        findings.append(_finding("OBP009", linter.left_open))
    return tuple(findings)


class _Linter:
    """Looks at one policy after the other.

    Attributes:
        left_open: The first that was too complex to be checked whole.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.meter = Meter(MAX_LINT_STEPS)
        self.left_open: Rule | None = None
        contexts = relevant_contexts(policy)
        whole = len(contexts) * len(policy.rules) <= MAX_LINT_CASES
        if not whole:
            self.left_open = policy.rules[0]
        # Contexts in which every policy says the same are one.
        distinct = dict.fromkeys(policy.conditions(one) for one in contexts if whole)
        self.contexts = [dict(one) for one in distinct]
        self.position = {rule: i for i, rule in enumerate(policy.rules)}

    def findings(self, rule: Rule) -> Iterator[LintFinding]:
        """Yields what is wrong with one policy."""
        code = self._too_wide(rule) if rule.is_permit else None
        if not rule.is_permit and rule.reason is None:
            code = "OBP007"
        if code is not None:
            yield _finding(code, rule)
        told = dict(filter(None, map(_wildcard_fault, comparisons(rule.condition))))
        yield from (_finding(code, rule, message=told[code]) for code in sorted(told))
        if not self.contexts:
            return
        try:
            samples = [self._find(rule, where.get(rule, False)) for where in self.contexts]
            if not any(samples):
                yield _finding("OBP006", rule)
                return
            shadow = next(
                (o for o in self._similar(rule) if self._within(rule, [o], samples)), None
            )
            if shadow is not None:
                yield _finding("OBP004", rule, shadow)
            forbids = [o for o in self.policy.rules if o.type is rule.type and not o.is_permit]
            if rule.is_permit and self._within(rule, forbids, samples):
                yield _finding("OBP005", rule, forbids[0] if len(forbids) == 1 else None)
        except Undecided:
            self.left_open = self.left_open or rule

    def _find(self, rule: Rule, condition: Condition) -> str | None:
        self.meter.spend(1)
        return find(rule.type, None, condition, self.meter)

    def _too_wide(self, rule: Rule) -> str | None:
        if rule.condition is True:
            return "OBP001"
        tests = comparisons(rule.condition)
        if rule.type is CapabilityType.SECRET_ACCESS:
            wide = any(test.attribute == "host" and test.value == (None,) for test in tests)
            return "OBP008" if wide else None
        code = _WIDE.get(rule.type, "OBP008")
        everything = PathPattern.parse("/**") if code == "OBP002" else None
        try:
            for where in self.contexts:
                rest = negate(where.get(rule, False))
                if find(rule.type, everything, rest, self.meter) is None:
                    return code
        except Undecided:
            self.left_open = self.left_open or rule
        return None

    def _similar(self, rule: Rule) -> Iterator[Rule]:
        """Yields the policies that might make this one useless."""
        for other in self.policy.rules:
            if other is rule or (other.type, other.effect) != (rule.type, rule.effect):
                continue
            # Of two that say the same, the first is kept.
            before = self.position[other] < self.position[rule]
            if before or not self._within(other, [rule], None):
                yield other

    def _within(self, rule: Rule, others: list[Rule], samples: list[str | None] | None) -> bool:
        """Says whether others say all that a policy says, in every context."""
        for i, where in enumerate(self.contexts):
            self.meter.spend(len(others))
            union = any_of(where.get(other, False) for other in others)
            sample = samples[i] if samples else None
            # A quick answer for most: the one resource that is known.
            if sample is not None and not _holds(rule, union, sample):
                return False
            rest = all_of((where.get(rule, False), negate(union)))
            if self._find(rule, rest) is not None:
                return False
        return True


def _wildcard_fault(test: Test) -> tuple[str, str] | None:
    """Says what a comparison's stars and question marks look like, and are not."""
    if test.attribute not in ("path", "name", "host") or not isinstance(test.value, str | tuple):
        return None
    parts = test.value if isinstance(test.value, tuple) else (test.value,)
    signs = "*?" if test.operator == "==" else "?"
    sign = next((sign for sign in signs if any(sign in part for part in parts if part)), None)
    if sign is not None:
        kind, more = {
            "*": ("star", ""),
            "?": ("question mark", ", which is more: cedar has no wildcard for one character"),
        }[sign]
        glob = re.sub(r"[*?]+", "*", "".join("*" if part is None else part for part in parts))
        wanted = quoted(f'resource.{test.attribute} like "{glob}"')
        message = f"`{sign}` is a plain {kind} here: as a wildcard, write {wanted}"
        return "OBP010", message + more
    if test.attribute == "path" and _is_cut_off(parts):
        start = "".join("*" if part is None else part for part in parts[:-1])
        wanted = quoted(f'resource.path like "{start}/*"')
        return "OBP011", (
            f"{quoted(start + '*')} is also for {quoted(start + '-old')}: "
            f"for all below {quoted(start)} write {wanted}"
        )
    return None


def _is_cut_off(parts: Glob) -> bool:
    """Says whether a pattern ends in a whole name, as it seems, and a star."""
    if len(parts) < 2 or parts[-1] is not None:
        return False
    # What ends in a sign, such as `report-*`, or is a file's name is meant to go on.
    _, slash, name = str(parts[-2]).rpartition("/")
    return bool(slash) and name[-1:].isalnum() and "." not in name[1:]


def _holds(rule: Rule, condition: Condition, concrete: str) -> bool:
    actual = attributes_of(rule.type, concrete)
    return evaluate(condition, lambda test: test.holds(actual[test.attribute]))


def _finding(
    code: str, rule: Rule, other: Rule | None = None, *, message: str | None = None
) -> LintFinding:
    message = message or LINT_CODES[code] + (f": see `{other.id}`" if other else "")
    return LintFinding(
        code=code, policy=rule.id, message=message, other=other.id if other else None
    )
