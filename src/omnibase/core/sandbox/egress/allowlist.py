"""Which endpoint a grant covers, and which address may stand for it. Pure.

A host is made canonical once, strictly, and only then matched: a name in lower
case, an IPv4 address as four plain decimal numbers, or an IPv6 address in
brackets in the form of RFC 5952. Any other spelling is refused, never guessed at.

An address is for everybody only if it is a public unicast one. Every other
(loopback, link-local, private, shared, multicast, a cloud's metadata service)
needs a grant that names it literally: what a name resolves to is decided by
whoever runs its name server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from omnibase.core.sandbox.spec import EgressGrant

__all__ = ["MAX_HOST", "Address", "Allowlist", "Target", "TargetError", "parse_address", "target"]

Address: TypeAlias = IPv4Address | IPv6Address

MAX_HOST: Final = 253
"""Longest host in bytes (RFC 1035, without the root's dot)."""

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")

# Written out: what `ipaddress` calls global has changed between Python's releases.
# The IANA registries of special-purpose addresses, and RFC 5771 for multicast.
_SPECIAL_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # a public address, and the metadata service of one cloud
    )
)  # fmt: skip
_GLOBAL_V6: Final = IPv6Network("2000::/3")
# Tunnels (Teredo, 6to4) carry an IPv4 address that nobody has checked.
_SPECIAL_V6: Final = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


class TargetError(ValueError):
    """A host or port is not in the one plain form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One endpoint in canonical form.

    Attributes:
        host: A name, or an address (IPv6 in brackets).
        port: 1 to 65535.
        address: The host as an address, if it is one.
    """

    host: str
    port: int
    address: Address | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def target(host: bytes, port: int) -> Target:
    """Makes an endpoint canonical.

    Args:
        host: As it came: hostile bytes.
        port: Likewise.

    Raises:
        TargetError: The host has another form than the plain one, or there is no such port.
    """
    if not 1 <= port <= 65535:
        raise TargetError("no such port")
    if len(host) > MAX_HOST:
        raise TargetError("too long for a host")
    try:
        text = host.decode("ascii").lower()
    except UnicodeDecodeError:
        raise TargetError("not ASCII") from None
    if text.startswith("["):
        return Target(host=text, port=port, address=_ipv6(text))
    if _NAME.fullmatch(text) is None:
        raise TargetError("not a host name")
    last = text.rpartition(".")[2]
    # Resolvers read these as addresses: `127.1`, `2130706433`, `0x7f.1`, `0177.0.0.1`.
    if last.isdigit() or last.startswith("0x"):
        if _IPV4.fullmatch(text) is None:
            raise TargetError("not the plain form of an IPv4 address")
        return Target(host=text, port=port, address=IPv4Address(text))
    return Target(host=text, port=port, address=None)


def _ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text[1:-1])
    except AddressValueError:
        raise TargetError("not an IPv6 address") from None
    if text != f"[{address.compressed}]" or address.ipv4_mapped or address.scope_id:
        raise TargetError("not the plain form of an IPv6 address")
    return address


def parse_address(text: str) -> Address | None:
    """Reads an address as a resolver gives it; ``None`` if it is none, or has a zone."""
    try:
        return IPv6Address(text) if ":" in text and "%" not in text else IPv4Address(text)
    except AddressValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether an address is a public unicast one, which a name may stand for."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)


class Allowlist:
    """Answers questions about the grants of one run."""

    def __init__(self, grants: Iterable[EgressGrant]) -> None:
        self._by_host: dict[str, list[EgressGrant]] = {}
        for grant in grants:
            self._by_host.setdefault(grant.host, []).append(grant)

    def find(self, wanted: Target) -> EgressGrant | None:
        """Returns the grant that covers an endpoint, the narrowest host first."""
        for key in _keys(wanted):
            found = self._at(key, wanted.port)
            if found is not None:
                return found
        return None

    def knows(self, name: str) -> bool:
        """Whether some port of a name is granted, so that it may be looked up."""
        try:
            wanted = target(name.encode("ascii", "replace"), 1)
        except TargetError:
            return False
        return wanted.address is None and any(key in self._by_host for key in _keys(wanted))

    def admits(self, wanted: Target, address: Address) -> bool:
        """Whether an endpoint that a grant covers may be reached at this address.

        Args:
            wanted: What was asked for, and is granted.
            address: What it stands for: itself, or a resolver's answer.
        """
        return is_public(address) or self.names(address, wanted.port)

    def names(self, address: Address, port: int) -> bool:
        """Whether a grant names this very address."""
        text = f"[{address.compressed}]" if isinstance(address, IPv6Address) else str(address)
        return self._at(text, port) is not None

    def _at(self, host: str, port: int) -> EgressGrant | None:
        for grant in self._by_host.get(host, ()):
            if grant.low <= port <= grant.high:
                return grant
        return None


def _keys(wanted: Target) -> list[str]:
    keys, rest = [wanted.host], wanted.host
    if wanted.address is None:
        while "." in rest:
            rest = rest.partition(".")[2]
            keys.append(f"*.{rest}")
    keys.append("*")
    return keys
