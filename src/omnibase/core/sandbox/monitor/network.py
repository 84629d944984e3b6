"""What of a run's network is a violation: the part of the judge that knows addresses. Pure."""

from __future__ import annotations

import errno as errors
import ipaddress
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.egress.layout import Layout
from omnibase.core.sandbox.monitor.attempts import Attempt, attempt_of
from omnibase.core.sandbox.monitor.paths import endpoint
from omnibase.core.sandbox.monitor.wire import Message

__all__ = ["NetworkJudge"]

_DONE: Final = frozenset({0, errors.EISCONN, errors.EALREADY, errors.EINTR})
_MOST: Final = 1024


class NetworkJudge:
    """Decides connects, binds and look-ups; it keeps only what a later message may need."""

    def __init__(self, nameserver: str, layout: Layout) -> None:
        self._nameserver = nameserver
        self._layout = layout
        self._lookups: dict[int, str] = {}
        self._told: dict[str, str] = {}
        self._refused: dict[tuple[str, int], Attempt] = {}
        self._bound_ports: set[int] = layout.loopback_ports()
        self._unnamed: dict[tuple[str, int], Attempt] = {}
        self._any_port_bound = False

    def named(self, group: int, name: str) -> None:
        """Learns the name that a process is about to look up, as its own runtime tells it."""
        if len(self._lookups) < _MOST:
            self._lookups[group] = name
        if len(self._told) < _MOST:  # the broker's word of one may come after the next
            self._told[name.rpartition(":")[0].lower()] = name

    def pending(self) -> list[Attempt]:
        """Returns what is known only at the end.

        Connects to ports of the guest's own loopback on which nothing ever
        listened (a script may connect before its own server is up), and to
        addresses that turned out to stand for no granted name.
        """
        found: list[Attempt] = []
        if not self._any_port_bound:
            refused = self._refused.items()
            found += [attempt for (_, port), attempt in refused if port not in self._bound_ports]
        for (host, port), attempt in self._unnamed.items():
            if not self._layout.serves(host, port):
                target = endpoint(self._layout.name_of(host), port)
                capability = f"NETWORK_CONNECT:{target}"
                found.append(replace(attempt, capability=capability, resource=target))
        return found

    def assign(self, offset: int, name: str) -> None:
        """Learns which name an address of the guest's pool stands for."""
        self._layout.assign(offset, name)

    def denied(
        self, operation: str, host: str, port: int, errno: int, reason: str | None
    ) -> Attempt:
        """Returns the attempt that the broker has refused.

        The port of a look-up is known if the script's own runtime told it.
        """
        if operation == "lookup":
            target = self._told.get(host, f"{host}:*")
        else:
            target = f"{host}:{port}"
        return Attempt(
            capability=f"NETWORK_CONNECT:{target}",
            operation=operation,
            resource=target,
            errno=errno,
            reason=reason,
        )

    def connect(self, message: Message, host: str, port: int) -> Attempt | None:
        """Judges a connect to an Internet address."""
        if self._layout.serves(host, port):
            return None
        if self._layout.in_pool(host):
            self._connect_by_name(message, host, port)
            return None
        if message.errno in _DONE and not self._is_datagram(message, host, port):
            return None
        if host == self._nameserver:
            return self._lookup(message)
        attempt = attempt_of(
            message, f"NETWORK_CONNECT:{endpoint(host, port)}", "connect", endpoint(host, port)
        )
        if ipaddress.ip_address(host).is_loopback or host in ("0.0.0.0", "::"):
            # In progress: the refusal comes later, where no trace point is.
            told = message.errno in (errors.ECONNREFUSED, errors.EINPROGRESS)
            if told and len(self._refused) < _MOST:
                self._refused.setdefault((host, port), attempt)
            return None
        return attempt

    def _connect_by_name(self, message: Message, host: str, port: int) -> None:
        """Keeps it for the end: whose address it is may be known only then."""
        if message.errno not in _DONE and len(self._unnamed) < _MOST:
            self._unnamed.setdefault((host, port), attempt_of(message, None, "connect", host))

    def _is_datagram(self, message: Message, host: str, port: int) -> bool:
        """Whether a connect that succeeded can only be that of a datagram socket.

        An address that is the guest's because of a grant takes them, and nothing
        listens there for this port. Port 0 is how libc compares addresses.
        """
        return (
            message.errno == 0
            and port != 0
            and host != self._nameserver
            and self._layout.owns(host)
            and not ipaddress.ip_address(host).is_loopback
        )

    def _lookup(self, message: Message) -> Attempt:
        """A name look-up: the kernel saw it, the script's own runtime may have named it."""
        name = self._lookups.pop(message.group_id, None)
        capability = f"NETWORK_CONNECT:{name}" if name else None
        return attempt_of(message, capability, "lookup", name or "(a name look-up)")

    def bind(self, message: Message, host: str, port: int) -> Attempt | None:
        """Judges a bind to an Internet address, and remembers its port."""
        if message.errno == 0:
            self._any_port_bound |= port == 0
            if len(self._bound_ports) < _MOST:
                self._bound_ports.add(port)
            return None
        if message.errno not in (errors.EACCES, errors.EPERM, errors.EADDRNOTAVAIL):
            return None
        return attempt_of(message, None, "bind", endpoint(host, port))
