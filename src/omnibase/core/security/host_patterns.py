"""Patterns of network endpoints, ``host:port``, and the canonical form of a host.

A host is a name (ASCII, lower case, no dot at the end), an IPv4 address in four
plain decimal numbers, an IPv6 address in brackets in the form of RFC 5952, ``*.``
and a name (one or more labels in front of it), or ``*`` (any name or address).
Every other spelling of an address is refused rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from omnibase.core.security.globs import quoted
from omnibase.errors import CapabilityError

__all__ = [
    "HostPattern",
    "host_contains",
    "host_keys",
    "host_meet",
    "host_outside",
    "host_witness",
    "literal_endpoint",
    "parse_host",
]

T = TypeVar("T")

MAX_PORT = 65535
MAX_NAME = 253
"""Longest host name in characters (RFC 1035, without the root's dot)."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_NETWORK = re.compile(r"\[?[0-9a-f.:]+(/[0-9]+\]?|\]/[0-9]+)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

_NOT_BARE = ("is not a bare host", "write `host:port`, without scheme and path")


def _refuse(text: str, fault: str, hint: str) -> CapabilityError:
    return CapabilityError(
        f"{quoted(text)} {fault}", details={"resource": quoted(text)[1:-1]}, hint=hint
    )


@lru_cache(maxsize=256)
def _parse_ipv6(text: str) -> str:
    # Costs some milliseconds to import, and few endpoints are IPv6 literals.
    from ipaddress import AddressValueError, IPv6Address

    inner = text[1:-1]
    if "%" in inner:
        raise _refuse(text, "has a zone id", "write the address without `%` and what follows")
    try:
        address = IPv6Address(inner)
    except AddressValueError:
        raise _refuse(
            text, "is not an IPv6 address", "write it in brackets, e.g. `[2001:db8::1]`"
        ) from None
    if address.ipv4_mapped is not None:
        raise _refuse(
            text, "is an IPv4 address in IPv6 form", f"write `{address.ipv4_mapped}` instead"
        )
    return f"[{address.compressed}]"


def _name_fault(name: str) -> tuple[str, str]:
    """Says why a lower-case ASCII text is not a host name."""
    if "/" in name:
        return _NOT_BARE
    if "@" in name:
        return "has a user in front of the host", "write the host alone"
    if "%" in name:
        return "has percent-encoding", "write the host plainly"
    if "*" in name or "?" in name:
        return "has a wildcard inside the name", "write `*.` and a name, or `*` for any host"
    if ":" in name:
        return "is not a host name", "write an IPv6 address in brackets, e.g. `[::1]:443`"
    if name.endswith("."):
        return "ends with a dot", "write the name without it"
    if name == "" or name.startswith(".") or ".." in name:
        return "has an empty label", "write the name in full, e.g. `api.example.com`"
    if any(len(label) > 63 for label in name.split(".")):
        return "has a label longer than 63 characters", "no host can have that name"
    return (
        "is not a host name",
        "use letters, digits, `_`, and `-` inside a label only",
    )


def parse_host(text: str) -> str:
    """Returns a host, or a pattern of hosts, in its canonical form.

    Raises:
        CapabilityError: The text is no host, or not the plain spelling of one.
    """
    if not text.isascii():
        raise _refuse(
            text,
            "has characters beyond ASCII, which can look like others",
            "write the name in its `xn--` form (punycode)",
        )
    host = text.lower()
    if host == "*":
        return host
    if host.startswith("["):
        if not host.endswith("]"):
            raise _refuse(text, "lacks the closing bracket", "write it like `[2001:db8::1]`")
        return _parse_ipv6(host)
    name = host[2:] if host.startswith("*.") else host
    if _NAME.fullmatch(name) is None:
        raise _refuse(text, *_name_fault(name))
    # Room for the dot and at least one character in front of a wildcard's name.
    if len(name) > MAX_NAME - 2 * (name is not host):
        raise _refuse(text, f"is longer than {MAX_NAME} characters", "no host can have that name")
    last = name.rpartition(".")[2]
    # Resolvers read these as addresses: `127.1`, `2130706433`, `0x7f.1`, `0177.0.0.1`.
    if last.isdigit() or last.startswith("0x"):
        if name is not host:
            raise _refuse(
                text, "puts a wildcard in front of an address", "grant each address by itself"
            )
        if _IPV4.fullmatch(name) is None:
            raise _refuse(
                text,
                "is not the plain form of an IPv4 address",
                "write four decimal numbers without leading zeros, e.g. `127.0.0.1`",
            )
    return host


def _is_name(host: str) -> bool:
    return not (host.startswith("[") or host.rpartition(".")[2].isdigit())


def host_contains(outer: str, inner: str) -> bool:
    """Says whether a canonical host pattern contains another one."""
    if outer == "*" or outer == inner:
        return True
    # A base is a name, so no address ends with it.
    return outer.startswith("*.") and inner.endswith(outer[1:])


def host_keys(host: str) -> list[str]:
    """Returns the canonical host patterns that match a concrete host, narrowest first."""
    keys, rest = [host], host
    if _is_name(host):
        while "." in rest:
            rest = rest.partition(".")[2]
            keys.append("*." + rest)
    keys.append("*")
    return keys


def host_meet(a: str, b: str) -> str | None:
    """Returns the canonical host pattern for what both match: always one of the two."""
    if host_contains(a, b):
        return b
    return a if host_contains(b, a) else None


def host_witness(host: str) -> str:
    """Returns a concrete host that the pattern matches."""
    return "a" + host[1:] if host.startswith("*") else host


def host_outside(inner: str, outer: str) -> str | None:
    """Returns a concrete host that ``inner`` matches and ``outer`` does not."""
    if host_contains(outer, inner):
        return None
    first = host_witness(inner)
    return first if not host_contains(outer, first) else "b" + first[1:]


def _parse_ports(text: str, ports: str) -> tuple[int, int]:
    if ports == "*":
        return 1, MAX_PORT
    low, dash, high = ports.partition("-")
    bounds = []
    for port in (low, high) if dash else (low,):
        if _PORT.fullmatch(port) is None or int(port) > MAX_PORT:
            raise _refuse(
                text,
                f"has the port {quoted(port)}",
                f"write 1 to {MAX_PORT} without leading zeros, a range `8000-8010`, or `*`",
            )
        bounds.append(int(port))
    if bounds[0] > bounds[-1]:
        raise _refuse(text, "has a range of ports that ends before it begins", "swap the two")
    return bounds[0], bounds[-1]


def _split(text: str) -> tuple[str, str]:
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        raise _refuse(text, f"contains the character {quoted(bad)}", "remove it")
    if "://" in text:
        raise _refuse(text, *_NOT_BARE)
    host, colon, port = text.rpartition(":")
    if _NETWORK.fullmatch(host) or _NETWORK.fullmatch(text):
        raise _refuse(
            text,
            "is a network, and a grant is for one host",
            "name each address by itself, e.g. `10.0.0.5:5432`",
        )
    if not colon or (text.startswith("[") and not host.endswith("]")):
        raise _refuse(text, "has no port", "write `host:port`, e.g. `api.example.com:443`")
    return host, port


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A set of endpoints, such as ``*.example.com:443`` or ``[::1]:8000-8010``.

    Attributes:
        host: Canonical host: a name, an address, ``*.`` and a name, or ``*``.
        low: First port.
        high: Last port, itself included.
    """

    host: str
    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Reads a pattern and makes it canonical.

        Raises:
            CapabilityError: The host or the port is not in one of the plain forms.
        """
        host, port = _split(text)
        return cls(parse_host(host), *_parse_ports(text, port))

    @property
    def text(self) -> str:
        """The canonical text; parsing it gives an equal pattern."""
        if (self.low, self.high) == (1, MAX_PORT):
            return f"{self.host}:*"
        if self.low == self.high:
            return f"{self.host}:{self.low}"
        return f"{self.host}:{self.low}-{self.high}"

    def __str__(self) -> str:
        return self.text

    @property
    def is_literal(self) -> bool:
        """Whether the pattern matches its own text and nothing else."""
        return self.low == self.high and not self.host.startswith("*")

    def matches(self, concrete: str) -> bool:
        """Says whether a concrete endpoint is in the language; a malformed one never is."""
        try:
            endpoint = HostPattern.parse(concrete)
        except CapabilityError:
            return False
        return endpoint.is_literal and self.contains(endpoint)

    def contains(self, other: HostPattern) -> bool:
        """Says whether all that ``other`` matches is matched by this pattern."""
        return (
            self.low <= other.low
            and other.high <= self.high
            and host_contains(self.host, other.host)
        )

    def intersects(self, other: HostPattern) -> bool:
        """Says whether some endpoint is matched by both."""
        return bool(self.intersection(other))

    def outside(self, other: HostPattern) -> str | None:
        """Returns an endpoint that this pattern matches and ``other`` does not."""
        host = host_outside(self.host, other.host)
        if host is not None:
            return f"{host}:{self.low}"
        for port in (self.low, self.high):
            if not other.low <= port <= other.high:
                return f"{host_witness(self.host)}:{port}"
        return None

    def witness(self, other: HostPattern) -> str | None:
        """Returns an endpoint that both match, or ``None``."""
        for both in self.intersection(other):
            return f"{host_witness(both.host)}:{both.low}"
        return None

    def intersection(self, other: HostPattern) -> tuple[HostPattern, ...]:
        """Returns the pattern for exactly what both match; empty if disjoint."""
        host = host_meet(self.host, other.host)
        low, high = max(self.low, other.low), min(self.high, other.high)
        return () if host is None or low > high else (HostPattern(host, low, high),)

    @staticmethod
    def literal(concrete: str) -> str:
        """Is `literal_endpoint`."""
        return literal_endpoint(concrete)

    @staticmethod
    def finder(entries: Iterable[tuple[HostPattern, T]]) -> Callable[[str], T | None]:
        """Returns a function from a concrete endpoint to the value of a pattern that matches."""
        exact: dict[str, T] = {}
        by_host: dict[str, list[tuple[int, int, T]]] = {}
        for pattern, value in entries:
            if pattern.is_literal:
                exact.setdefault(pattern.text, value)
            by_host.setdefault(pattern.host, []).append((pattern.low, pattern.high, value))

        def find(text: str) -> T | None:
            value = exact.get(text)
            if value is not None:
                return value
            try:
                endpoint = HostPattern.parse(text)
            except CapabilityError:
                return None
            if not endpoint.is_literal:
                return None
            port = endpoint.low
            for key in host_keys(endpoint.host):
                for low, high, value in by_host.get(key, ()):
                    if low <= port <= high:
                        return value
            return None

        return find


def literal_endpoint(endpoint: str) -> str:
    """Returns the canonical text of one concrete endpoint.

    Raises:
        CapabilityError: The text is not one host and one port.
    """
    pattern = HostPattern.parse(endpoint)
    if not pattern.is_literal:
        raise _refuse(endpoint, "is not one endpoint", "write one host and one port")
    return pattern.text
