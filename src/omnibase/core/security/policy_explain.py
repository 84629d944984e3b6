"""Explains a decision: the policies, a witness, and the smallest change that flips it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.core.security.decision import Outcome, PolicyContext, Verdict
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_schema import ENTITY_OF
from omnibase.core.security.policy_text import (
    condition_of,
    condition_text,
    expression_of,
    new_policy,
    written,
)
from omnibase.errors import PolicyError

__all__ = ["Change", "Explanation", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One edit of a document.

    Attributes:
        action: ``add`` a policy, or ``narrow`` one with a further ``unless``.
        policy: The id of the new policy, or of the one to narrow.
        cedar: The new policy, or the clause, in Cedar's own syntax.
    """

    action: Literal["add", "narrow"]
    policy: str
    cedar: str

    def to_dict(self) -> dict[str, str]:
        """Returns the change as JSON-ready data."""
        return {"action": self.action, "policy": self.policy, "cedar": self.cedar}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a capability is granted or denied, and what would flip that.

    Attributes:
        verdict: The decision.
        changes: Edits that together flip it: what is denied becomes granted, what is
            granted becomes denied; empty if no edit of this policy does.
        document: The document after the changes, which was tried; ``None`` likewise.
    """

    verdict: Verdict
    changes: tuple[Change, ...] = ()
    document: bytes | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the explanation as JSON-ready data."""
        return {
            "verdict": self.verdict.to_dict(),
            "changes": [change.to_dict() for change in self.changes],
        }


def explain(
    policy: Policy, principal: UUID, capability: Capability, context: PolicyContext
) -> Explanation:
    """Decides one capability and finds the smallest change that flips the decision.

    The changes are applied to a copy of the document and decided again: only what
    really flips the decision is returned.
    """
    (verdict,) = policy.decide(principal, CapabilitySet((capability,)), context).verdicts
    if principal != policy.principal:
        return Explanation(verdict=verdict)
    for changes in _attempts(verdict):
        editor = _Editor(policy, capability)
        for action, name in changes:
            action(editor, name)
        data = written(editor.document)
        try:
            changed = Policy.parse(data, "the changed policy", principal)
        except PolicyError:  # the document is full, or a policy is as long as it may be
            continue
        (after,) = changed.decide(principal, CapabilitySet((capability,)), context).verdicts
        if (after.outcome is Outcome.DENIED) is not (verdict.outcome is Outcome.DENIED):
            return Explanation(verdict=verdict, changes=tuple(editor.changes), document=data)
    return Explanation(verdict=verdict)


_Edit = tuple[Callable[["_Editor", str], None], str]


def _attempts(verdict: Verdict) -> list[list[_Edit]]:
    """Returns edits that may flip a verdict, the smallest first."""
    if verdict.outcome is not Outcome.DENIED:
        return [[(_Editor.forbid, verdict.capability.type.value)]]
    permits: list[_Edit] = [(_Editor.permit, type) for type in verdict.unpermitted]
    narrowed: list[_Edit] = [(_Editor.narrow, ref.id) for ref in verdict.forbids]
    return [edits for edits in (permits, permits + narrowed) if edits]


class _Editor:
    """Edits a copy of a document for one capability."""

    def __init__(self, policy: Policy, capability: Capability) -> None:
        self.document = policy.document
        self.changes: list[Change] = []
        self._principal = str(policy.principal)
        self._condition = condition_of(capability)

    def permit(self, type: str) -> None:
        self._add("permit", CapabilityType(type))

    def forbid(self, type: str) -> None:
        self._add("forbid", CapabilityType(type))

    def _add(self, effect: str, kind: CapabilityType) -> None:
        policies, entity = self.document["staticPolicies"], ENTITY_OF[kind]
        stem = f"{effect}-{kind.value.lower().replace('_', '-')}"
        # One more than there are policies is always free.
        names = (stem, *(f"{stem}-{n}" for n in range(2, len(policies) + 3)))
        id = next(name for name in names if name not in policies)
        policies[id] = new_policy(effect, self._principal, entity, self._condition)
        cedar = (
            f'@id("{id}") {effect}(principal == Component::"{self._principal}", '
            f'action == Action::"use", resource is {entity}) '
            f"when {{ {condition_text(self._condition)} }};"
        )
        self.changes.append(Change(action="add", policy=id, cedar=cedar))

    def narrow(self, id: str) -> None:
        clause = {"kind": "unless", "body": expression_of(self._condition)}
        self.document["staticPolicies"][id]["conditions"].append(clause)
        cedar = f"unless {{ {condition_text(self._condition)} }}"
        self.changes.append(Change(action="narrow", policy=id, cedar=cedar))
