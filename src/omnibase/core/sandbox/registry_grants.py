"""Registry grants → what carries them out. Pure: it looks at no registry."""

from __future__ import annotations

import re
from typing import Final

from omnibase.core.sandbox.monitor.registry import PROPOSALS
from omnibase.core.sandbox.spec import Outlet, RegistryGrant
from omnibase.core.security.capabilities import Capability
from omnibase.errors import CapabilityError

__all__ = ["proposals", "registry_grant"]

# What a component's name is made of, and wildcards.
_NAMES: Final = re.compile(r"[a-z0-9._*?-]{1,64}")


_MAX_FILES: Final = 32  # two of each component
_MAX_BYTES: Final = 8 << 20


def proposals(grant: Capability) -> Outlet:
    """Returns where components are proposed that a grant is for.

    Raises:
        CapabilityError: No component can have such a name.
    """
    registry_grant(grant)
    return Outlet(
        path=PROPOSALS, capability=grant.type.value, max_files=_MAX_FILES, max_bytes=_MAX_BYTES
    )


def registry_grant(grant: Capability) -> RegistryGrant:
    """Returns what a grant comes to: the names of components that it is for.

    Raises:
        CapabilityError: No component can have such a name.
    """
    if _NAMES.fullmatch(grant.resource) is None:
        raise CapabilityError(
            f"`{grant}` names no component: a name has small letters, digits, `.`, `_` and `-`",
            details={"capability": str(grant)},
            hint="write a name such as `report` or `report-*`; a grant is for all its versions",
        )
    return RegistryGrant(pattern=grant.resource, capability=str(grant))
