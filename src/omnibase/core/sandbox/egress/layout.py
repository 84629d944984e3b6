"""Where a run's granted targets are in the guest: which loopback address stands for what. Pure.

The guest has no network. Its loopback carries the granted addresses, and an
address of a pool (RFC 2544, never routed) for each granted name; the in-guest
agent listens there.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Final

from omnibase.core.sandbox.spec import EgressGrant

__all__ = ["FIRST_DYNAMIC", "NAMESERVER", "POOL", "Layout", "agent_rows", "in_pool", "is_address"]

NAMESERVER: Final = "192.0.2.53"
"""Of the guest's ``resolv.conf``; the agent answers there."""

POOL: Final = IPv4Network("198.18.0.0/16")
_NO_HOSTS: Final = IPv4Network("224.0.0.0/3")
FIRST_DYNAMIC: Final = 256
"""Below are the addresses of exact names; from here on, of names under wildcards."""


def agent_rows(grants: Iterable[EgressGrant]) -> list[str]:
    """Returns what the agent is told: address, host, first port and last port of each grant.

    A wildcard has no address: its names are given theirs at their first look-up.
    """
    rows: list[str] = []
    for grant, address in _placed(grants):
        rows += [address, grant.host, str(grant.low), str(grant.high)]
    return rows


def _placed(grants: Iterable[EgressGrant]) -> list[tuple[EgressGrant, str]]:
    names: dict[str, str] = {}
    placed = []
    for grant in grants:
        if grant.host.startswith("*"):
            address = ""
        elif is_address(grant.host):
            address = grant.host.strip("[]")
        else:
            address = names.setdefault(grant.host, str(POOL[1 + len(names)]))
        placed.append((grant, address))
    return placed


def is_address(host: str) -> bool:
    """Whether a canonical host is an address rather than a name."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def in_pool(host: str) -> bool:
    """Whether an address is of the pool whose addresses stand for names."""
    return ":" not in host and IPv4Address(host) in POOL


def _is_anybodys(host: str) -> bool:
    """Whether a grant for any host has an address in the guest: IPv4 up to multicast."""
    return ":" not in host and IPv4Address(host) not in _NO_HOSTS


class Layout:
    """Answers what an address of the guest's stands for."""

    def __init__(self, grants: Iterable[EgressGrant] = ()) -> None:
        self._served: dict[str, list[tuple[int, int]]] = {}
        self._names: dict[str, str] = {}
        self._wild: list[EgressGrant] = []
        self._any: list[tuple[int, int]] = []
        for grant, address in _placed(grants):
            if grant.host == "*":
                self._any.append((grant.low, grant.high))
            elif not address:
                self._wild.append(grant)
            else:
                self._served.setdefault(address, []).append((grant.low, grant.high))
                if not is_address(grant.host):
                    self._names[address] = grant.host

    def assign(self, offset: int, name: str) -> None:
        """Learns that an address of the pool was given to a name."""
        if FIRST_DYNAMIC <= offset < POOL.num_addresses:
            self._names.setdefault(str(POOL[offset]), name)

    def serves(self, host: str, port: int) -> bool:
        """Whether the agent listens there for a grant."""
        ranges = self._served.get(host, []) + (self._any if _is_anybodys(host) else [])
        name = self._names.get(host)
        if name is not None:
            ranges += [(g.low, g.high) for g in self._wild if name.endswith(g.host[1:])]
        return any(low <= port <= high for low, high in ranges)

    def owns(self, host: str) -> bool:
        """Whether the guest itself has this address because of a grant."""
        anybodys = bool(self._any) and _is_anybodys(host)
        return anybodys or host in self._served or self.in_pool(host)

    def in_pool(self, host: str) -> bool:
        """Whether this is an address that stands for a name, if names are granted at all."""
        return bool(self._wild or self._any or self._names) and in_pool(host)

    def name_of(self, host: str) -> str:
        """Returns the name that an address stands for, or the address itself."""
        return self._names.get(host, host)

    def loopback_ports(self) -> set[int]:
        """Ports of the guest's own loopback on which the agent listens."""
        return {
            port
            for host, ranges in self._served.items()
            if ip_address(host).is_loopback
            for low, high in ranges
            for port in range(low, high + 1)
        }
