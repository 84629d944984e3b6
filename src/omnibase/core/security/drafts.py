"""A verdict before Cedar was asked, and how Cedar's answers settle it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.containment import attributes_of
from omnibase.core.security.decision import Outcome, PolicyRef, Verdict
from omnibase.core.security.engine import Answer, Question

if TYPE_CHECKING:
    from omnibase.core.security.deciding import Case

__all__ = ["MAX_NAMED", "Draft", "Probe", "denied", "listed", "why_denied"]

MAX_NAMED = 16
"""Policies that a verdict names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A concrete question to Cedar.

    Attributes:
        type: What kind of use it is about.
        concrete: The resource.
        allowed: What our own code expects; ``None``: Cedar decides.
    """

    type: CapabilityType
    concrete: str
    allowed: bool | None = None

    @property
    def question(self) -> Question:
        """The question as the engine takes it."""
        return self.type, attributes_of(self.type, self.concrete)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A verdict before Cedar was asked.

    Attributes:
        capability: What was requested.
        verdict: What our own code says; ``None``: it is Cedar's to decide.
        probes: What Cedar is asked.
        case: The policies.
    """

    capability: Capability
    verdict: Verdict | None
    probes: tuple[Probe, ...]
    case: Case

    def settle(self, answers: Sequence[Answer]) -> Verdict:
        """Returns the verdict, given Cedar's answers to the probes."""
        if self.verdict is None:
            return self._decided_by_cedar(answers)
        for probe, answer in zip(self.probes, answers, strict=True):
            if answer.allowed is not probe.allowed:
                return self._disagreement(probe)
        return self.verdict

    def _disagreement(self, probe: Probe) -> Verdict:
        message = f"cedar and the analysis of patterns disagree about `{probe.concrete}`"
        return denied(self.capability, message)

    def _decided_by_cedar(self, answers: Sequence[Answer]) -> Verdict:
        permits: dict[PolicyRef, None] = {}
        forbids: dict[PolicyRef, None] = {}
        unpermitted = []
        refs = self.case.refs
        for probe, answer in zip(self.probes, answers, strict=True):
            if not refs.keys() >= set(answer.reasons):
                # Cedar says that a policy holds which cannot hold in this context.
                return self._disagreement(probe)
            found = dict.fromkeys(refs[id] for id in answer.reasons)
            if answer.allowed:
                permits |= found
            else:
                forbids |= found
                # Of a permit that lacks as well, Cedar says nothing.
                unpermitted += [] if self.case.permits_some(probe) else [probe.type.value]
        if all(answer.allowed for answer in answers):
            return Verdict(
                capability=self.capability,
                outcome=Outcome.GRANTED,
                message=f"permitted by {listed(permits)}",
                permits=tuple(permits)[:MAX_NAMED],
            )
        if not forbids and not unpermitted:
            return self._disagreement(self.probes[0])
        return denied(
            self.capability,
            why_denied(self.probes[0].concrete, tuple(forbids), tuple(unpermitted)),
            permits=tuple(permits)[:MAX_NAMED],
            forbids=tuple(forbids)[:MAX_NAMED],
            witness=self.probes[0].concrete,
            unpermitted=tuple(unpermitted),
        )


def listed(refs: Iterable[PolicyRef]) -> str:
    return ", ".join(f"`{ref.id}`" for ref in list(refs)[:MAX_NAMED])


def why_denied(witness: str, forbids: tuple[PolicyRef, ...], unpermitted: tuple[str, ...]) -> str:
    if forbids:
        return f"policy {forbids[0]} forbids `{witness}`"
    return f"no policy permits `{unpermitted[0]}` of `{witness}`"


def denied(
    capability: Capability,
    message: str,
    *,
    permits: tuple[PolicyRef, ...] = (),
    forbids: tuple[PolicyRef, ...] = (),
    witness: str | None = None,
    unpermitted: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        capability=capability,
        outcome=Outcome.DENIED,
        message=message,
        permits=permits,
        forbids=forbids,
        witness=witness,
        unpermitted=unpermitted,
    )
