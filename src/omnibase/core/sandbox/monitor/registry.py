"""What a denied access below ``/registry`` would have needed."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["PROPOSALS", "REGISTRY", "registry_capability"]

REGISTRY: Final = "/registry"
PROPOSALS: Final = "/registry/out"
# As the registry's own names, of which one is taken for what the script proposes.
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def registry_capability(kind: str, path: str) -> str | None:
    """Returns the capability, or ``None`` if none could ever allow the access.

    Args:
        kind: ``FILE_READ`` or ``FILE_WRITE``.
        path: What was reached for, ``/registry`` or below.
    """
    inside = path[len(REGISTRY) + 1 :]
    proposed = f"{path}/".startswith(f"{PROPOSALS}/")
    name = (path[len(PROPOSALS) + 1 :] if proposed else inside).partition("/")[0]
    if not name:
        name = "*"
    elif _NAME.fullmatch(name) is None:
        return None
    if proposed:
        return f"REGISTRY_WRITE:{name}"
    # What is there is never changed: the way in is a proposal.
    return f"REGISTRY_READ:{name}" if kind == "FILE_READ" else None
