"""The decision on each connection: what is asked for, how often, and what it resolves to."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from typing import Final

from omnibase.core.sandbox.egress.allowlist import (
    Address,
    Allowlist,
    Target,
    TargetError,
    parse_address,
    target,
)
from omnibase.core.sandbox.egress.reports import Assigned, Denied, Failed, Limit
from omnibase.core.sandbox.egress.routes import is_own_address
from omnibase.core.sandbox.egress.stream import Sockets
from omnibase.core.sandbox.spec import EgressGrant, EgressLimits

__all__ = ["Gate"]

_MAX_CANDIDATES: Final = 8
_SPECIAL: Final = "an address that only a grant of that very address opens"
_OWN: Final = "an address of this host, which only a grant of that very address opens"


class Gate:
    """Decides for one run, from its grants and what it has used of their limits."""

    def __init__(self, grants: Sequence[EgressGrant], limits: EgressLimits) -> None:
        self._allow = Allowlist(grants)
        self._limits = limits
        self._at_once: Counter[str] = Counter()
        self._in_all: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._said: set[str] = set()

    def decide(self, host: bytes, port: int) -> tuple[Target, EgressGrant] | Denied:
        """Decides whether a grant covers an endpoint that the guest asks for."""
        try:
            wanted = target(host, port)
        except TargetError as error:
            return _denied(escaped(host), port, f"the host is {error}")
        grant = self._allow.find(wanted)
        if grant is None:
            return _denied(wanted.host, port)
        if wanted.address is not None and not self._allow.admits(wanted, wanted.address):
            return _denied(wanted.host, port, f"it is {_SPECIAL}")
        return wanted, grant

    def admit(self, wanted: Target, answers: Sequence[str]) -> list[Address] | Denied:
        """Checks what a granted endpoint resolves to.

        One answer out of bounds spoils all: whoever gave it gave the others.
        """
        addresses: list[Address] = []
        for answer in answers:
            address = parse_address(answer)
            if address is None or not self._allow.admits(wanted, address):
                return _denied(wanted.host, wanted.port, f"{_short(answer)} is {_SPECIAL}")
            if not self._allow.names(address, wanted.port) and is_own_address(address):
                return _denied(wanted.host, wanted.port, f"{_short(answer)} is {_OWN}")
            addresses.append(address)
        return addresses[:_MAX_CANDIDATES]

    def looked_up(self, name: bytes) -> Denied | None:
        """Judges a look-up that the guest did not answer."""
        text = escaped(name)
        return None if self._allow.knows(text) else Denied(operation="lookup", host=text)

    def assigned(self, name: bytes, offset: int) -> Assigned | None:
        """Takes note of a name's address in the guest, if the name is granted."""
        text = escaped(name)
        return Assigned(offset=offset, name=text) if self._allow.knows(text) else None

    def exceeded(self, grant: EgressGrant, streams: int) -> tuple[str, Limit | None] | None:
        """Returns the limit that stands against one more connection, in words and by its name.

        Args:
            grant: What covers it.
            streams: Connections of the run at this time.
        """
        limits, key = self._limits, grant.capability
        if self._at_once[key] >= limits.at_once:
            words = f"the limit of {limits.at_once} connections at once (`egress_connections`)"
            return words, "egress_connections"
        if streams >= Sockets.most():
            most = Sockets.most()
            return f"the limit of {most} connections at once for a run on this host", None
        if self._in_all[key] >= limits.connections:
            return f"the limit of {limits.connections} connections", None
        if self._bytes[key] >= limits.total_bytes:
            return f"the limit of {limits.total_bytes} bytes (`egress_bytes`)", "egress_bytes"
        return None

    def over_limit(
        self, wanted: Target, grant: EgressGrant, reason: str, limit: Limit | None
    ) -> Failed | None:
        """Returns what there is to report: each limit once for each grant."""
        key = f"{grant.capability} {reason}"
        if key in self._said:
            return None
        self._said.add(key)
        return Failed(target=str(wanted), capability=grant.capability, reason=reason, limit=limit)

    def opened(self, grant: EgressGrant) -> None:
        """Counts a connection."""
        self._at_once[grant.capability] += 1
        self._in_all[grant.capability] += 1

    def closed(self, grant: EgressGrant) -> None:
        """Counts it off again."""
        self._at_once[grant.capability] -= 1

    def moved(self, grant: EgressGrant, size: int) -> bool:
        """Counts bytes; returns whether they are within the limit."""
        self._bytes[grant.capability] += size
        return self._bytes[grant.capability] <= self._limits.total_bytes


def _denied(host: str, port: int, reason: str | None = None) -> Denied:
    return Denied(operation="connect", host=host, port=port, errno=errno.EACCES, reason=reason)


def _short(answer: str) -> str:
    return f"`{escaped(answer.encode('ascii', 'replace')[:64])}`"


def escaped(text: bytes) -> str:
    """Spells out whatever is not a visible ASCII character: it comes from the guest."""
    return "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in text.lower())
