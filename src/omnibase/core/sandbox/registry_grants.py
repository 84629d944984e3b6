"""Registry grants → what carries them out. Pure: it looks at no registry."""

from __future__ import annotations

import re
from typing import Final

from omnibase.core.sandbox.spec import RegistryGrant
from omnibase.core.security.capabilities import Capability
from omnibase.errors import CapabilityError

__all__ = ["registry_grant"]

# What a component's name is made of, and wildcards.
_NAMES: Final = re.compile(r"[a-z0-9._*?-]{1,64}")


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
