"""What became of the files that a script left in its outlets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Collected", "Left"]


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
