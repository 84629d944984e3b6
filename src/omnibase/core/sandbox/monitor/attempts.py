"""Violations and attempts: the values that the monitor deals in."""

from __future__ import annotations

import errno as errors
from dataclasses import dataclass
from typing import Any, Final, Literal

from omnibase.core.sandbox.monitor.wire import Message

__all__ = ["AGENT", "UNTOLD_PATH", "Attempt", "Evidence", "Granted", "Violation", "attempt_of"]

# Thread group of PID 1, in the root PID namespace: unforgeable.
AGENT: Final = 1
# What a denied `mkdir`, `rename`, … was about: the trace has no path of those.
UNTOLD_PATH: Final = "a path outside the grants"
Evidence = Literal["kernel", "broker", "agent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One kind of attempt beyond the grants, with how often it was made.

    Attributes:
        capability: What would have been needed, or ``None`` if no capability
            could ever allow it.
        operation: ``open``, ``execve``, ``connect``, or a system call's name.
        resource: What was reached for: untrusted text.
        errno: What the guest's kernel answered; 0 if it was ended instead.
        pid: Process in the guest, 0 if the trace does not tell.
        process_name: As the guest named it: untrusted text.
        first_seen: Host time of the first, in seconds since the epoch.
        last_seen: Host time of the last.
        count: How many.
        evidence: Who saw it.
        reason: Why it is denied, if a policy or a mask says so.
    """

    capability: str | None
    operation: str
    resource: str
    errno: int
    pid: int = 0
    process_name: str = ""
    first_seen: float = 0.0
    last_seen: float = 0.0
    count: int = 1
    evidence: Evidence = "kernel"
    reason: str | None = None

    @property
    def errno_name(self) -> str:
        """``EACCES`` and the like; empty for 0."""
        return errors.errorcode.get(self.errno, str(self.errno) if self.errno else "")

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data; undecodable bytes in paths are escaped."""
        return {
            "capability": _printable(self.capability),
            "operation": self.operation,
            "resource": _printable(self.resource),
            "errno": self.errno,
            "errno_name": self.errno_name,
            "pid": self.pid,
            "process_name": _printable(self.process_name),
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "count": self.count,
            "evidence": self.evidence,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A violation without its times and count: what makes two the same."""

    capability: str | None
    operation: str
    resource: str
    errno: int
    pid: int = 0
    process_name: str = ""
    reason: str | None = None

    @property
    def key(self) -> tuple[str | None, str, str, int]:
        """Attempts with the same key are counted together."""
        return self.capability, self.operation, self.resource, self.errno


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Guest paths that are mounted: a failure there is the file's own affair.

    Attributes:
        path: File, or top of a tree.
        tree: Whether everything below is granted.
        writable: Whether writing is.
    """

    path: str
    tree: bool
    writable: bool

    def holds(self, path: str) -> bool:
        """Whether the path is this file, or lies in this tree."""
        return path == self.path or (self.tree and path.startswith(self.path.rstrip("/") + "/"))


def attempt_of(message: Message, capability: str | None, operation: str, resource: str) -> Attempt:
    """Returns the attempt that a message shows, with who made it."""
    return Attempt(
        capability=capability,
        operation=operation,
        resource=resource,
        errno=message.errno,
        pid=message.group_id,
        process_name=message.process_name[:64],
    )


def _printable(text: str | None) -> str | None:
    if text is None:
        return None
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
