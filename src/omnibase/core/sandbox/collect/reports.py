"""What became of the files that a script left in its outlets."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from omnibase.core.sandbox.monitor.attempts import Attempt, Granted
from omnibase.core.sandbox.monitor.reads import ARTIFACTS
from omnibase.core.sandbox.spec import Outlet, SandboxSpec

__all__ = ["Collected", "Left", "own_files", "resource_of", "uncollected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A file that the script left and that does not come out.

    Attributes:
        capability: Type of its outlet's capability.
        name: Its path below the outlet: untrusted text, secrets taken out.
        reason: Why not, as the rest of a sentence about it.
        denied: No grant covers the name.
    """

    capability: str
    name: str
    reason: str
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A file that came out.

    Attributes:
        capability: Type of its outlet's capability, which covers the name.
        name: Its path below the outlet: untrusted text.
        path: Where its bytes are, until the run's directory goes.
        size: In bytes.
        sha256: Of the bytes, in hexadecimal.
    """

    capability: str
    name: str
    path: Path
    size: int
    sha256: str


def own_files(spec: SandboxSpec, artifacts: Iterable[str]) -> tuple[Granted, ...]:
    """Returns what of artifacts and outlets is in the guest: no attempt goes beyond it there."""
    inputs = (Granted(path=f"{ARTIFACTS}/{n}", tree=False, writable=False) for n in artifacts)
    outlets = (Granted(path=outlet.path, tree=True, writable=True) for outlet in spec.outlets)
    return (*inputs, *outlets)


def resource_of(capability: str, name: str) -> str:
    """Returns what a grant has to name for a file in an outlet to come out.

    Args:
        capability: The outlet's type.
        name: The file's path below it.
    """
    return name.partition("/")[0] if capability == "REGISTRY_WRITE" else name


def uncollected(left: Left, outlets: Iterable[Outlet]) -> Attempt:
    """Returns the attempt that a file is which was left under a name that no grant covers."""
    path = next(outlet.path for outlet in outlets if outlet.capability == left.capability)
    return Attempt(
        capability=f"{left.capability}:{resource_of(left.capability, left.name)}",
        operation="collect",
        resource=f"{path}/{left.name}",
        errno=errno.EACCES,
    )
