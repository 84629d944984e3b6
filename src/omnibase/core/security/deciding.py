"""The rules by which one request is decided under one context: pure, without Cedar.

A draft is what our own code finds; it lists the concrete resources that Cedar has to
be asked about, and is settled with the answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.conditions import (
    Condition,
    Test,
    all_of,
    any_of,
    comparisons,
    evaluate,
    negate,
)
from omnibase.core.security.containment import (
    MAX_STEPS,
    Meter,
    Undecided,
    find,
    is_concrete,
)
from omnibase.core.security.decision import Outcome, PathMask, PolicyRef, Verdict
from omnibase.core.security.drafts import MAX_NAMED, Draft, Probe, denied, listed, why_denied
from omnibase.core.security.path_patterns import PathPattern, literal_path
from omnibase.core.security.policy_document import Rule
from omnibase.errors import CapabilityError

__all__ = ["MAX_MASKS", "Case", "Draft", "Probe", "mask_test", "needed_types", "ref"]

MAX_MASKS = 64
"""Masks that one capability may need."""
MAX_TOTAL_STEPS = 20 * MAX_STEPS
"""Steps that one capability may take in all (some seconds)."""
MAX_CASE_STEPS = 5 * MAX_TOTAL_STEPS
"""Steps that all capabilities of a request may take together."""
_PAIR_STEPS = 50
"""What it costs to look at two masked capabilities together, beside the search."""

_READ, _WRITE = CapabilityType.FILE_READ, CapabilityType.FILE_WRITE


def needed_types(type: CapabilityType) -> tuple[CapabilityType, ...]:
    """Returns the types that must be permitted: what can be written can be read."""
    return (_WRITE, _READ) if type is _WRITE else (type,)


def ref(rule: Rule) -> PolicyRef:
    """Returns what a verdict says of a policy."""
    return PolicyRef(id=rule.id, effect=rule.effect, reason=rule.reason)


def mask_test(pattern: str) -> Test:
    """Returns the condition that a mask's paths meet."""
    if pattern.endswith("/**"):
        return Test("resource", "path", "like", (pattern[:-2], None))
    return Test("resource", "path", "==", pattern)


def _candidate(test: Test, below: str) -> str | None:
    """Returns the mountable subtree that a comparison describes, strictly below a directory."""
    if isinstance(test.value, tuple):
        directory = test.value[0] or ""
        if len(test.value) != 2 or not directory.endswith("/"):
            return None
        path, pattern = directory[:-1], directory + "**"
    else:
        path = pattern = str(test.value)
    # What no pattern can name, no mask is named after.
    if not path.startswith(below + "/") or PathPattern.fault(path) or literal_path(path) != path:
        return None
    return pattern


class _Gap:
    """A part of the request that is denied: by a forbid, or for want of a permit."""

    def __init__(self, type: CapabilityType, condition: Condition, rules: list[Rule]) -> None:
        self.type, self.condition, self.rules = type, condition, rules


class Case:
    """The policies that can hold under a context, and what they say to patterns."""

    def __init__(self, found: Iterable[tuple[Rule, Condition]]) -> None:
        self.permits: dict[CapabilityType, list[tuple[Rule, Condition]]] = {}
        self.forbids: dict[CapabilityType, list[tuple[Rule, Condition]]] = {}
        self.refs: dict[str, PolicyRef] = {}
        self._meter = Meter(MAX_CASE_STEPS)
        for rule, condition in found:
            side = self.permits if rule.is_permit else self.forbids
            side.setdefault(rule.type, []).append((rule, condition))
            self.refs[rule.id] = ref(rule)

    def allowed(self, type: CapabilityType) -> Condition:
        """Returns the condition for what is allowed in all of the types that are needed."""
        return all_of(
            part
            for kind in needed_types(type)
            for part in (
                any_of(condition for _, condition in self.permits.get(kind, ())),
                *(negate(condition) for _, condition in self.forbids.get(kind, ())),
            )
        )

    def permits_some(self, probe: Probe) -> bool:
        """Says whether a permit holds for a concrete resource, forbidden or not."""
        _, actual = probe.question
        return any(
            evaluate(condition, lambda test: test.holds(actual[test.attribute]))
            for _, condition in self.permits.get(probe.type, ())
        )

    def draft(self, capability: Capability) -> Draft:
        """Decides one capability as far as it goes without Cedar."""
        types = needed_types(capability.type)
        if is_concrete(capability.pattern):
            probes = tuple(Probe(type=kind, concrete=capability.resource) for kind in types)
            return Draft(capability=capability, verdict=None, probes=probes, case=self)
        try:
            verdict, probes = self._pattern(capability, types)
        except (Undecided, CapabilityError) as error:
            verdict, probes = denied(capability, str(error)), ()
        return Draft(capability=capability, verdict=verdict, probes=probes, case=self)

    def _pattern(
        self, asked: Capability, types: tuple[CapabilityType, ...]
    ) -> tuple[Verdict, tuple[Probe, ...]]:
        meter = Meter(MAX_TOTAL_STEPS, whole=self._meter)
        masks: dict[str, dict[PolicyRef, None]] = {}
        forbids: dict[PolicyRef, None] = {}
        fatal: list[tuple[_Gap, str]] = []
        for gap in self._gaps(types):
            witness = find(asked.type, asked.pattern, gap.condition, meter)
            if witness is None:
                continue
            if _is_forbid(gap):
                forbids[ref(gap.rules[0])] = None
            found = self._masks(asked, gap, witness, meter)
            if found is None:
                fatal.append((gap, witness))
            for pattern, rules in (found or {}).items():
                masks.setdefault(pattern, {}).update(dict.fromkeys(map(ref, rules)))
        permits = self._touching(asked, types)
        if fatal:
            # A missing permit comes first, then the forbids in the document's order.
            gap, witness = fatal[0]
            unpermitted = tuple(g.type.value for g, _ in fatal if not _is_forbid(g))
            why = why_denied(
                witness, tuple(map(ref, gap.rules)) if _is_forbid(gap) else (), unpermitted
            )
            if asked.resource.endswith("/**") and not unpermitted:
                why += ", and no mount leaves out just what is denied"
            verdict = denied(
                asked, why, permits=permits, forbids=tuple(forbids)[:MAX_NAMED],
                witness=witness, unpermitted=unpermitted,
            )  # fmt: skip
            return verdict, (Probe(type=gap.type, concrete=witness, allowed=False),)
        return self._granted(asked, types, _outermost(masks), permits, tuple(forbids), meter)

    def _gaps(self, types: tuple[CapabilityType, ...]) -> Iterable[_Gap]:
        for kind in types:
            permits = self.permits.get(kind, [])
            nothing = negate(any_of(condition for _, condition in permits))
            yield _Gap(kind, nothing, [rule for rule, _ in permits])
        for kind in types:
            for rule, condition in self.forbids.get(kind, ()):
                yield _Gap(kind, condition, [rule])

    def _masks(
        self, asked: Capability, gap: _Gap, witness: str, meter: Meter
    ) -> dict[str, list[Rule]] | None:
        """Returns subtrees that are exactly what is denied; ``None`` if there are none such."""
        pattern = asked.pattern
        if not isinstance(pattern, PathPattern) or not pattern.deep:
            return None
        below = asked.resource.removesuffix("/**")
        if "*" in below or "?" in below:
            return None
        found: dict[str, list[Rule]] = {}
        for rule in gap.rules:
            for test in comparisons(rule.condition):
                candidate = _candidate(test, below) if test.owner == "resource" else None
                if candidate is not None:
                    rules = found.setdefault(candidate, [])
                    rules += [rule] if rule not in rules else []
        if not any(mask_test(candidate).holds(witness) for candidate in found):
            return None
        for candidate in list(found):
            extra = all_of((mask_test(candidate), negate(gap.condition)))
            if find(asked.type, pattern, extra, meter) is not None:
                del found[candidate]
        rest = all_of((gap.condition, negate(any_of(map(mask_test, found)))))
        return found if find(asked.type, pattern, rest, meter) is None else None

    def _granted(
        self,
        asked: Capability,
        types: tuple[CapabilityType, ...],
        masks: tuple[PathMask, ...],
        permits: tuple[PolicyRef, ...],
        forbids: tuple[PolicyRef, ...],
        meter: Meter,
    ) -> tuple[Verdict, tuple[Probe, ...]]:
        inside = any_of(mask_test(mask.pattern) for mask in masks)
        sample = find(asked.type, asked.pattern, negate(inside), meter)
        if sample is None or len(masks) > MAX_MASKS:
            raise Undecided(f"more than {MAX_MASKS} parts of it are denied")
        probes = [Probe(type=kind, concrete=sample, allowed=True) for kind in types]
        witness = None
        for mask in masks:
            outside = all_of((mask_test(mask.pattern), negate(self.allowed(asked.type))))
            witness = find(asked.type, asked.pattern, outside, meter) or witness
        message = f"permitted by {listed(permits) or 'several policies'}"
        if masks:
            shown = ", ".join(f"`{mask.pattern}`" for mask in masks[:3])
            more = f" and {len(masks) - 3} more" if len(masks) > 3 else ""
            message += f", without {shown}{more}"
        verdict = Verdict(
            capability=asked,
            outcome=Outcome.MASKED if masks else Outcome.GRANTED,
            message=message,
            permits=permits,
            forbids=forbids[:MAX_NAMED],
            masks=masks,
            witness=witness,
        )
        return verdict, tuple(probes)

    def _touching(
        self, asked: Capability, types: tuple[CapabilityType, ...]
    ) -> tuple[PolicyRef, ...]:
        """Returns permits that some of the request has, as many as are easily found."""
        found: list[PolicyRef] = []
        meter = Meter(whole=self._meter)
        candidates = (entry for kind in types for entry in self.permits.get(kind, ()))
        try:
            for rule, condition in candidates:
                if find(asked.type, asked.pattern, condition, meter) is not None:
                    found.append(ref(rule))
                if len(found) == MAX_NAMED:
                    break
        except Undecided:
            pass  # the names are for people; the decision does not depend on them
        return tuple(found)

    def reconcile(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """Denies a masked capability whose masks would hide what another one grants.

        A mask covers a path for reading and writing alike, so a subtree that may be
        read but not written cannot be left out of a tree that is to be written.
        """
        return tuple(self._reconciled(verdict, verdicts) for verdict in verdicts)

    def _reconciled(self, verdict: Verdict, verdicts: Sequence[Verdict]) -> Verdict:
        if not verdict.masks:
            return verdict
        for other in verdicts:
            if other is verdict or other.outcome is Outcome.DENIED:
                continue
            if other.capability.type not in (_READ, _WRITE):
                continue
            begin = _fixed(other.capability.resource)
            if not any(
                mask.path.startswith(begin) or begin.startswith(mask.path) for mask in verdict.masks
            ):
                continue  # plainly apart
            hidden = all_of(
                (
                    any_of(mask_test(mask.pattern) for mask in verdict.masks),
                    negate(any_of(mask_test(mask.pattern) for mask in other.masks)),
                )
            )
            try:
                self._meter.spend(_PAIR_STEPS)
                clash = find(other.capability.type, other.capability.pattern, hidden, self._meter)
            except Undecided:
                clash = other.capability.resource
            if clash is not None:
                masks = ", ".join(f"`{mask.pattern}`" for mask in verdict.masks[:3])
                return denied(
                    verdict.capability,
                    f"leaving out {masks} would hide `{clash}`, which `{other.capability}` grants",
                    permits=verdict.permits,
                    forbids=verdict.forbids,
                    witness=verdict.witness,
                )
        return verdict


def _fixed(pattern: str) -> str:
    """Returns what every path of a pattern begins with."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]


def _is_forbid(gap: _Gap) -> bool:
    return any(not rule.is_permit for rule in gap.rules)


def _outermost(masks: dict[str, dict[PolicyRef, None]]) -> tuple[PathMask, ...]:
    """Returns masks none of which is inside another one."""
    trees = [pattern[:-2] for pattern in masks if pattern.endswith("/**")]
    return tuple(
        PathMask(
            pattern=pattern,
            policies=tuple(sorted(policies, key=lambda ref: ref.effect == "permit"))[:MAX_NAMED],
        )
        for pattern, policies in sorted(masks.items())
        if not any(pattern.startswith(tree) and pattern != tree + "**" for tree in trees)
    )
