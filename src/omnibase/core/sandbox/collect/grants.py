"""Artifact grants → names to be given and outlets to be collected. Pure."""

from __future__ import annotations

from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.spec import Outlet
from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.errors import CapabilityError

__all__ = ["artifact_name", "outlet"]


def artifact_name(grant: Capability) -> str:
    """Returns the name, or the pattern of names, that a grant is for.

    Raises:
        CapabilityError: It is a name that no artifact can have.
    """
    from omnibase.core.artifacts.store import name_fault

    fault = name_fault(grant.resource) if grant.pattern.is_literal else None
    if fault is not None:
        raise CapabilityError(
            f"`{grant}` names no artifact: the name {fault}",
            details={"capability": str(grant)},
            hint="name it as it is in the store, e.g. `plot.png` or `reports/*`",
        )
    return grant.resource


def outlet(kind: CapabilityType, path: str, context: ExecutionContext) -> Outlet:
    """Returns the directory of the guest in which files of a type may be left."""
    return Outlet(
        path=path,
        capability=kind.value,
        max_files=context.artifact_count,
        max_bytes=context.artifact_bytes,
    )
