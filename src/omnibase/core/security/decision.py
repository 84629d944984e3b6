"""What a decision says, and what it is made for: values without any rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy_schema import LIFECYCLES, TRUSTS
from omnibase.errors import ConfigurationError

__all__ = ["Decision", "Outcome", "PathMask", "PolicyContext", "PolicyRef", "Verdict"]

MAX_ENVIRONMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyContext:
    """The circumstances that conditions on ``context`` ask for.

    Attributes:
        trust: ``untrusted``, ``semi_trusted`` or ``trusted``.
        lifecycle: ``draft``, ``active``, ``deprecated`` or ``retired``.
        environment: Where the run happens, e.g. ``production``.
    """

    trust: str = "untrusted"
    lifecycle: str = "active"
    environment: str = "default"

    def __post_init__(self) -> None:
        for name, known in (("trust", TRUSTS), ("lifecycle", LIFECYCLES)):
            value = str(getattr(self, name))
            if value not in known:
                raise ConfigurationError(
                    f"{quoted(value)} is no {name}",
                    hint="choose one of " + ", ".join(f"`{one}`" for one in known),
                )
            object.__setattr__(self, name, value)
        named: object = self.environment
        if not (isinstance(named, str) and 0 < len(named) <= MAX_ENVIRONMENT) or not (
            named.isprintable()
        ):
            raise ConfigurationError(
                f"{quoted(str(named))} is no name of an environment",
                hint=f"use 1 to {MAX_ENVIRONMENT} printable characters",
            )

    def to_dict(self) -> dict[str, str]:
        """Returns the context as Cedar gets it."""
        return {
            "trust": self.trust,
            "lifecycle": self.lifecycle,
            "environment": self.environment,
        }


class Outcome(StrEnum):
    """What became of one requested capability."""

    GRANTED = "granted"
    MASKED = "masked"
    """Granted without some subtrees, which the sandbox covers."""
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRef:
    """A policy that took part in a decision."""

    id: str
    effect: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"`{self.id}`" + (f" ({self.reason})" if self.reason else "")

    def to_dict(self) -> dict[str, str | None]:
        """Returns the policy as JSON-ready data."""
        return {"id": self.id, "effect": self.effect, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMask:
    """What is left out of a granted tree.

    Attributes:
        pattern: One exact path, or a directory and ``/**``.
        policies: The policies that leave it out, forbids first.
    """

    pattern: str
    policies: tuple[PolicyRef, ...]

    @property
    def path(self) -> str:
        """The file or directory that is covered by an empty one."""
        return self.pattern.removesuffix("/**")

    @property
    def reason(self) -> str:
        """Why, for the violation that an attempt makes."""
        return "; ".join(
            # A permit's own reason says why the rest is open.
            f"policy `{ref.id}` leaves it out"
            if ref.effect == "permit"
            else f"policy `{ref.id}`" + (f": {ref.reason}" if ref.reason else "")
            for ref in self.policies
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the mask as JSON-ready data."""
        return {"pattern": self.pattern, "policies": [ref.to_dict() for ref in self.policies]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision on one requested capability.

    Attributes:
        capability: What was requested.
        message: Why, in one sentence.
        permits: Policies that permit some of it.
        forbids: Policies that forbid some of it.
        masks: What has to be covered; only if `outcome` is ``masked``.
        witness: A concrete resource of the request that is denied, as
            ``TYPE:resource`` would name it; none if the question stayed open.
        unpermitted: Types that some of the request lacks a permit of; a
            ``FILE_WRITE`` needs ``FILE_READ``, too.
    """

    capability: Capability
    outcome: Outcome
    message: str
    permits: tuple[PolicyRef, ...] = ()
    forbids: tuple[PolicyRef, ...] = ()
    masks: tuple[PathMask, ...] = ()
    witness: str | None = None
    unpermitted: tuple[str, ...] = ()

    @property
    def policies(self) -> tuple[PolicyRef, ...]:
        """The policies that decided: forbids of what is denied, else permits and masks."""
        if self.outcome is Outcome.DENIED:
            return self.forbids
        return self.permits + self.forbids

    def to_dict(self) -> dict[str, Any]:
        """Returns the verdict as JSON-ready data."""
        return {
            "capability": str(self.capability),
            "outcome": self.outcome.value,
            "message": self.message,
            "permits": [ref.to_dict() for ref in self.permits],
            "forbids": [ref.to_dict() for ref in self.forbids],
            "masks": [mask.to_dict() for mask in self.masks],
            "witness": self.witness,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy says to a request.

    Attributes:
        verdicts: One for each requested capability, in the request's order.
        context: What it was decided for.
        policy_sha256: Digest of the document that decided.
        errors: What Cedar said could not be evaluated; then everything is denied.
    """

    verdicts: tuple[Verdict, ...]
    context: PolicyContext
    policy_sha256: str
    errors: tuple[str, ...] = ()

    @property
    def granted(self) -> CapabilitySet:
        """What is granted, masks or not."""
        return CapabilitySet(v.capability for v in self.verdicts if v.outcome is not Outcome.DENIED)

    @property
    def denied(self) -> tuple[Verdict, ...]:
        """The verdicts that deny."""
        return tuple(v for v in self.verdicts if v.outcome is Outcome.DENIED)

    def to_dict(self) -> dict[str, Any]:
        """Returns the decision as JSON-ready data."""
        return {
            "policy_sha256": self.policy_sha256,
            "context": self.context.to_dict(),
            "errors": list(self.errors),
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
        }
