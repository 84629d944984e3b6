"""Request, overrides and policy → what a run gets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.conditions import Condition, Test, all_of, negate
from omnibase.core.security.containment import Undecided, find
from omnibase.core.security.decision import Decision, Outcome, PolicyContext, PolicyRef
from omnibase.core.security.policy import Policy
from omnibase.errors import CapabilityDenied

__all__ = [
    "UNSANDBOXED",
    "Denied",
    "GrantMask",
    "Grants",
    "effective_grants",
    "refusal",
    "unsandboxed_permits",
]

UNSANDBOXED = Capability.parse("EXTERNAL_COMMAND:host-python")
"""What a component must require, and its policy permit, to run without a sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantMask:
    """A file or directory in a granted tree that is to be covered by an empty one.

    Attributes:
        path: The file or directory.
        policy_id: The policy that leaves it out.
        reason: For the violation that an attempt on it makes; names the policy.
    """

    path: str
    policy_id: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Returns the mask as JSON-ready data."""
        return {"path": self.path, "policy_id": self.policy_id, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A requested capability that is not granted.

    Attributes:
        capability: What was requested.
        reason: Why, in one sentence.
        policies: The policies that forbid it; none if no policy permits it.
        witness: A concrete resource of it that is denied, if one is known.
    """

    capability: Capability
    reason: str
    policies: tuple[PolicyRef, ...]
    witness: str | None

    def to_dict(self) -> dict[str, Any]:
        """Returns what was denied as JSON-ready data."""
        return {
            "capability": str(self.capability),
            "reason": self.reason,
            "policies": [ref.to_dict() for ref in self.policies],
            "witness": self.witness,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a run gets.

    Attributes:
        granted: Capabilities, each of them one that was requested.
        masks: What is covered in granted trees, by path.
        denied: What was requested and is not granted.
        decision: The decision behind it.
    """

    granted: CapabilitySet
    masks: tuple[GrantMask, ...]
    denied: tuple[Denied, ...]
    decision: Decision

    def to_dict(self) -> dict[str, Any]:
        """Returns the grants as JSON-ready data."""
        return {
            "granted": [str(capability) for capability in self.granted],
            "masks": [mask.to_dict() for mask in self.masks],
            "denied": [one.to_dict() for one in self.denied],
            "policy_sha256": self.decision.policy_sha256,
        }


def effective_grants(
    metadata: CapabilitySet,
    overrides: CapabilitySet,
    policy: Policy,
    principal: UUID,
    context: PolicyContext,
    *,
    degrade: bool,
) -> Grants:
    """Decides what a run gets: metadata and overrides together, narrowed by policy.

    Args:
        metadata: What the component requires.
        overrides: What the caller asks for in addition; the policy is the ceiling.
        policy: The component's policy.
        principal: The component.
        context: Trust, lifecycle and environment.
        degrade: Whether to go on with what is granted if something is denied.

    Raises:
        CapabilityDenied: Something is denied, and ``degrade`` is not set;
            ``details["denied"]`` lists each capability with the reason, the
            policies and a witness.
    """
    # It is no capability of the sandbox: `unsandboxed_permits` decides about it.
    request = CapabilitySet(
        c for c in metadata | overrides if c != UNSANDBOXED or c not in metadata
    )
    decision = policy.decide(principal, request, context)
    denied = tuple(
        Denied(
            capability=verdict.capability,
            reason=verdict.message,
            policies=verdict.policies,
            witness=verdict.witness,
        )
        for verdict in decision.denied
    )
    if denied and not degrade:
        raise refusal(denied, principal)
    masks: dict[str, GrantMask] = {}
    for verdict in decision.verdicts:
        if verdict.outcome is Outcome.MASKED:
            for mask in verdict.masks:
                id = mask.policies[0].id
                masks.setdefault(
                    mask.path, GrantMask(path=mask.path, policy_id=id, reason=mask.reason)
                )
    return Grants(
        granted=decision.granted,
        masks=tuple(masks[path] for path in sorted(masks)),
        denied=denied,
        decision=decision,
    )


def refusal(
    denied: tuple[Denied, ...], principal: UUID, *, may_degrade: bool = True
) -> CapabilityDenied:
    """Returns the error for what is denied, which is at least one capability."""
    first = denied[0]
    more = f" (and {len(denied) - 1} more)" if len(denied) > 1 else ""
    return CapabilityDenied(
        f"`{first.capability}` is denied{more}: {first.reason}",
        details={"principal": str(principal), "denied": [one.to_dict() for one in denied]},
        hint=f"see `omnibase policy explain {principal} '{first.capability}'`"
        + (", or run with `--degrade` to go on without it" if may_degrade else ""),
    )


def unsandboxed_permits(
    metadata: CapabilitySet,
    policy: Policy,
    principal: UUID,
    context: PolicyContext,
) -> tuple[str, ...]:
    """Returns the policies by which a component may run without a sandbox.

    The component must be ``trusted``, its metadata must require `UNSANDBOXED` by
    name, and a permit for that name alone must grant it. An override cannot stand
    in for the metadata, nor a wildcard for the name.

    Args:
        metadata: What the component requires.
        policy: The component's policy.
        principal: The component.
        context: Trust, lifecycle and environment.

    Raises:
        CapabilityDenied: One of these does not hold; the message says which.
    """
    if context.trust != "trusted":
        raise _not_unsandboxed(f"its trust is `{context.trust}`, not `trusted`", principal)
    if UNSANDBOXED not in metadata:
        raise _not_unsandboxed("its `capabilities_required` do not name it", principal)
    (verdict,) = policy.decide(principal, CapabilitySet((UNSANDBOXED,)), context).verdicts
    if verdict.outcome is not Outcome.GRANTED:
        raise _not_unsandboxed(verdict.message, principal)
    granting = {ref.id for ref in verdict.permits}
    others = negate(Test("resource", "name", "==", UNSANDBOXED.resource))
    named = tuple(
        rule.id
        for rule, condition in policy.conditions(context)
        if rule.id in granting and _has_none(all_of((condition, others)))
    )
    if not named:
        raise _not_unsandboxed("no policy permits that name and no other", principal)
    return named


def _not_unsandboxed(reason: str, principal: UUID) -> CapabilityDenied:
    return CapabilityDenied(
        f"it may not run without a sandbox: `{UNSANDBOXED}` is denied: {reason}",
        details={
            "principal": str(principal), "capability": str(UNSANDBOXED), "reason": reason,
        },
        hint="run it without `--unsandboxed`; trust, metadata and policy must all allow it",
    )  # fmt: skip


def _has_none(condition: Condition) -> bool:
    try:
        return find(UNSANDBOXED.type, None, condition) is None
    except Undecided:
        return False
