"""What the broker has to say about the connections of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Assigned", "Closed", "Denied", "Failed", "Limit", "Opened", "Reason", "Report"]

Reason: TypeAlias = Literal["end", "reset", "idle", "time", "bytes", "run"]
Limit: TypeAlias = Literal["egress_connections", "egress_bytes", "egress_idle_seconds"]
"""Fields of the `ExecutionContext`, each a limit of every grant by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A connection is up.

    Attributes:
        connection: Its number within the run.
        target: ``host:port``, as the script asked for it.
        address: What it was resolved to, was checked, and is connected to.
        capability: The grant.
    """

    connection: int
    target: str
    address: str
    capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A connection that was up is over.

    Attributes:
        connection: Its number within the run.
        target: As in `Opened`.
        address: As in `Opened`.
        capability: As in `Opened`.
        sent: Bytes that reached the peer's side.
        received: Bytes that the peer sent and the guest was handed.
        seconds: From the script's connect to now.
        reason: ``end`` in order, ``reset`` by a side, ``idle``, ``time`` or
            ``bytes`` by a limit, ``run`` with the run.
    """

    connection: int
    target: str
    address: str
    capability: str
    sent: int
    received: int
    seconds: float
    reason: Reason

    @property
    def limit(self) -> Limit | None:
        """What ended it, if that can be set."""
        return (
            "egress_bytes"
            if self.reason == "bytes"
            else ("egress_idle_seconds" if self.reason == "idle" else None)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A connection that a grant covers did not come up.

    Attributes:
        target: ``host:port``.
        capability: The grant.
        reason: Why, for a person.
        limit: What stood against it, if that can be set.
    """

    target: str
    capability: str
    reason: str
    limit: Limit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The guest asked for what no grant covers.

    Attributes:
        operation: ``connect`` or ``lookup``.
        host: Canonical, or escaped if it has no canonical form.
        port: 0 for a look-up, which names none.
        errno: What the guest is told.
        reason: Why, where it is not merely that nothing grants it.
    """

    operation: Literal["connect", "lookup"]
    host: str
    port: int = 0
    errno: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """An address of the guest's pool stands for a name that is granted.

    Attributes:
        offset: In the pool.
        name: Canonical.
    """

    offset: int
    name: str


Report: TypeAlias = Opened | Closed | Failed | Denied | Assigned
