"""What a self-test is made of, and what it finds: values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from omnibase.selftest.stage import Stage

__all__ = ["GROUPS", "Finding", "Machine", "Probe", "Report", "Sides", "described"]

GROUPS: Final = ("sandbox", "policy", "capabilities", "secrets", "egress", "registry", "audit")
"""The groups of the security tests."""

_PART: Final = re.compile(
    r"^(Threat|Expected|Granted): (.*?)(?=\n(?:Threat|Expected|Granted): |\Z)", re.M | re.S
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What a probe saw. A text says what did not hold, ``None`` that it did.

    Attributes:
        refused: Of the hostile side: whether it got anything.
        reported: Whether what it tried is with the caller and on the bus.
        granted: Whether the same works once it is granted.
        silent: There is nothing to report: the guest looked at its own world.
        seen: What was on record, in a few words.
    """

    refused: str | None = None
    reported: str | None = None
    granted: str | None = None
    silent: bool = False
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One attack, and the same with a grant.

    Attributes:
        name: Unique, in words.
        group: One of `GROUPS`.
        threat: Id in the threat model.
        description: What its script, or its function, says of it: see `described`.
        attempt: Makes it, on a stage of its own.
    """

    name: str
    group: str
    threat: str
    description: str
    attempt: Callable[[Stage], Sides]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one probe.

    Attributes:
        probe: Which.
        sides: What it saw.
        seconds: How long it took.
    """

    probe: Probe
    sides: Sides
    seconds: float

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not hold."""
        sides = self.sides
        return tuple(text for text in (sides.refused, sides.reported, sides.granted) if text)

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data."""
        said = described(self.probe.description)
        sides = self.sides
        return {
            "name": self.probe.name,
            "group": self.probe.group,
            "threat": self.probe.threat,
            "what": said["what"],
            "expected": said["expected"],
            "granted_twin": said["granted"],
            "holds": self.holds,
            "refused": sides.refused is None,
            "reported": None if sides.silent else sides.reported is None,
            "granted_works": sides.granted is None,
            "problems": list(self.problems),
            "seen": list(sides.seen),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was found out.

    Attributes:
        omnibase: Version.
        python: Version.
        kernel: Release.
        runsc: Version and path.
        platform: Of gVisor.
        cgroup: Version of the hierarchy.
    """

    omnibase: str
    python: str
    kernel: str
    runsc: str
    platform: str
    cgroup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What holds on a machine.

    Attributes:
        machine: Which.
        findings: One for each probe, in the order of the table.
        began: When, in UTC, as ISO 8601.
        seconds: How long it took.
    """

    machine: Machine
    findings: tuple[Finding, ...]
    began: str
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether there is a finding, and all hold."""
        return bool(self.findings) and all(finding.holds for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data."""
        return {
            "holds": self.holds,
            "began": self.began,
            "seconds": round(self.seconds, 3),
            "machine": asdict(self.machine),
            "probes": [finding.to_dict() for finding in self.findings],
        }


def described(text: str) -> dict[str, str]:
    """Reads a probe's docstring: ``what``, ``threat``, ``expected``, ``granted``.

    Raises:
        ValueError: A part of it is missing.
    """
    what, _, rest = text.strip().partition("\n\n")
    lines = "\n".join(line.strip() for line in rest.strip().splitlines())
    parts = {match[1].lower(): " ".join(match[2].split()) for match in _PART.finditer(lines)}
    if not what or parts.keys() != {"threat", "expected", "granted"}:
        raise ValueError(f"no description of a probe: {text[:80]!r}")
    return {"what": " ".join(what.split()), **parts}
