"""What is a violation: a pure decision over trace messages.

The rule that tells an attempt from a probe: a failed open is an attempt unless
its path lies in the guest's own world (interpreter, scratch, ``/proc``, …) and
merely does not exist, or is one that the runtime itself looks for. Host paths
do not exist in the guest, so whether a path exists on the host plays no part;
but for ``/tmp`` and ``/dev``, which guest and host both have: there, a missing
file that the host has is an attempt.
"""

from __future__ import annotations

import errno as errors
import ipaddress
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.egress.layout import Layout
from omnibase.core.sandbox.monitor.attempts import AGENT, Attempt, Evidence, Granted, Violation
from omnibase.core.sandbox.monitor.reads import SecretReads, capability_of
from omnibase.core.sandbox.monitor.tally import Tally
from omnibase.core.sandbox.monitor.wire import Message, MessageType
from omnibase.core.sandbox.spec import Mask, WatchRules
from omnibase.core.sandbox.syscalls import (
    FILE_CHANGES,
    FORKS,
    NATIVE,
    PRIVILEGE,
    SENDS,
    SIGSYS,
)

__all__ = ["Attempt", "Evidence", "Granted", "Judge", "Violation"]

_DENIED: Final = frozenset({errors.EACCES, errors.EPERM, errors.EROFS})
_ABSENT: Final = frozenset({errors.ENOENT, errors.ENOTDIR})
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CREAT_SYSNO: Final = 85
_LOOKUP: Final = "/.lookup/"

# The loader's, libc's and curses' own searches; what they find there is no secret.
_PROBE_DIRECTORIES: Final = (
    "/usr/lib/locale/", "/usr/share/locale/", "/usr/share/locale-langpack/", "/usr/share/zoneinfo/",
    "/usr/share/lib/zoneinfo/", "/usr/lib/zoneinfo/", "/etc/zoneinfo/", "/usr/share/terminfo/",
    "/usr/lib/terminfo/", "/lib/terminfo/", "/etc/terminfo/",
)  # fmt: skip
_LIBRARY: Final = re.compile(
    r"(/usr)?/lib(32|64|x32)?(/[\w.+-]+)*/((lib|ld-)[^/]*\.so[^/]*|gconv/.*)"
)

_JAIL: Final = "/guest"
# The script's own root and working directory; PID 1's are the agent's, and closed.
_PROC_LINK: Final = re.compile(
    r"proc/(?:self|thread-self|(?!1/)[0-9]+)(?:/task/[0-9]+)?/(?:root|cwd)"
)
# Below a descriptor's link anything may lie: only the link itself is the guest's own.
_PROC_BELOW_FD: Final = re.compile(
    r"/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:fd|map_files)/[^/]+/"
)
_SCRATCH: Final = ("/tmp/", "/dev/shm/")
_SYMLINKS: Final = frozenset({88, 266})

# libuuid keeps its clock there, and does without.
_WRITE_PROBES: Final = frozenset({"/var/lib/libuuid/clock.txt"})
# Commands that stock modules look for and do without: `platform`, `ctypes.util`, `uuid`.
_COMMAND_PROBES: Final = frozenset(
    {("uname", "-p"), ("/sbin/ldconfig", "-p"), ("/usr/sbin/ldconfig", "-p"), ("ld", "-t")}
)
_DONE: Final = frozenset({0, errors.EISCONN, errors.EALREADY, errors.EINTR})


class Judge:
    """Decides message by message; it keeps only what a later message may need."""

    def __init__(
        self,
        rules: WatchRules,
        granted: tuple[Granted, ...] = (),
        masks: tuple[Mask, ...] = (),
        on_host: Callable[[str], bool] = lambda _path: False,
        covered: Mapping[str, bool] | None = None,
        resolve: Callable[[str], str] = str,
        secrets: tuple[str, ...] = (),
        network: Layout | None = None,
    ) -> None:
        self._rules = rules
        self._network = network or Layout()
        self._on_host = on_host
        self._resolve = resolve
        self._granted = granted
        # Directories that the agent made in scratch for a grant's sake: the script
        # cannot create anything there, so what it misses there is the host's.
        self._guarded = tuple(
            sorted({f"{above}/" for grant in granted for above in _above_in_scratch(grant.path)})
        )
        self._masks = masks
        # Masks in trees that may be written are covered; a cover goes when the host
        # puts something else in its place. ``path → is directory``.
        self._covered = dict(covered or {})
        self._lookups: dict[int, str] = {}
        self._refused_ports: dict[int, Attempt] = {}
        self._bound_ports: set[int] = self._network.loopback_ports()
        self._unnamed: dict[tuple[str, int], Attempt] = {}
        self._any_port_bound = False
        self._killed: set[int] = set()
        self._links_made = False
        self._tally = Tally()
        self.reads = SecretReads(secrets)
        self.pids_refused = False

    def judge(self, message: Message) -> Attempt | None:
        """Returns the attempt that a message shows, if it shows one."""
        self._tally.count(message)
        if message.group_id == AGENT:
            self.reads.told(message.path)
            return None
        decide = _DECIDERS.get(message.type)
        return None if decide is None else decide(self, message)

    def recount(self, message: Message) -> None:
        """Counts a message whose answer is known."""
        self._tally.count(message)

    def pending(self) -> list[Attempt]:
        """Returns what is known only at the end.

        Connects to ports of the guest's own loopback on which nothing ever
        listened (a script may connect before its own server is up), calls whose
        message was lost to a name that is not UTF-8, and threads that seccomp
        ended.
        """
        found = self._tally.attempts()
        if not self._any_port_bound:
            refused = self._refused_ports.items()
            found += [attempt for port, attempt in refused if port not in self._bound_ports]
        for (host, port), attempt in self._unnamed.items():
            if not self._network.serves(host, port):
                endpoint = _endpoint(self._network.name_of(host), port)
                capability = f"NETWORK_CONNECT:{endpoint}"
                found.append(replace(attempt, capability=capability, resource=endpoint))
        return found

    def assign(self, offset: int, name: str) -> None:
        """Learns which name an address of the guest's pool stands for."""
        self._network.assign(offset, name)

    def denied(
        self, operation: str, host: str, port: int, errno: int, reason: str | None
    ) -> Attempt:
        """Returns the attempt that the broker has refused.

        The port of a look-up is known if the script's own runtime told it.
        """
        if operation == "lookup":
            known = [peer for peer in self._lookups.values() if peer.rpartition(":")[0] == host]
            endpoint = known[-1] if known else f"{host}:*"
        else:
            endpoint = f"{host}:{port}"
        return Attempt(
            capability=f"NETWORK_CONNECT:{endpoint}",
            operation=operation,
            resource=endpoint,
            errno=errno,
            reason=reason,
        )

    @staticmethod
    def stateless(message: Message) -> bool:
        """Whether equal messages always get equal answers, so that one can be remembered."""
        if message.type == MessageType.SYSCALL_RAW:
            return message.sysno not in _SYMLINKS
        return (
            message.type in (MessageType.OPEN, MessageType.EXECVE, MessageType.CHDIR)
            and not message.path.startswith(_LOOKUP)
            # What a missing file in a place to write means changes with the first link.
            and (
                message.errno == 0
                or message.type == MessageType.EXECVE
                or not _absolute(message).startswith(_SCRATCH)
            )
        )

    def _open(self, message: Message) -> Attempt | None:
        if message.errno == 0:
            if self.reads.waiting:
                self.reads.opened(message, _absolute(message))
            return self._got_through(message) if self._covered else None
        if not message.path:
            return None
        path = _absolute(message)
        if path.startswith(_LOOKUP):
            if len(self._lookups) < 1024:
                self._lookups[message.group_id] = path[len(_LOOKUP) :]
            return None
        writing = bool(message.flags & _WRITING) or message.sysno == _CREAT_SYSNO
        return self._path_attempt(message, path, writing)

    def _chdir(self, message: Message) -> Attempt | None:
        if message.errno == 0 and self._covered:
            return self._got_through(message)
        if message.errno == 0 or not message.path:
            return None
        return self._path_attempt(message, _absolute(message), False)

    def _got_through(self, message: Message) -> Attempt | None:
        """A successful open of what a mask covers; the cover itself is an empty directory."""
        path = _absolute(message)
        if not any(grant.tree and grant.holds(path) for grant in self._granted):
            return None
        for seen in dict.fromkeys((path, self._resolve(path))):
            mask = _covering(self._masks, seen)
            if mask is None or mask.path not in self._covered:
                continue
            if seen != mask.path or not self._covered[mask.path]:
                writing = message.flags & _WRITING or message.sysno == _CREAT_SYSNO
                kind = "FILE_WRITE" if writing else "FILE_READ"
                attempt = _attempt(message, f"{kind}:{path}", _NAMES[message.type], path)
                return replace(attempt, reason=f"{mask.reason}; the host replaced its cover")
        return None

    def _path_attempt(self, message: Message, path: str, writing: bool) -> Attempt | None:
        number = message.errno
        if number not in _DENIED and number not in _ABSENT:
            return None
        kind = "FILE_WRITE" if writing else "FILE_READ"
        attempt = _attempt(message, capability_of(kind, path), _NAMES[message.type], path)
        mask = _covering(self._masks, path)
        if mask is not None:
            return replace(attempt, reason=mask.reason)
        for grant in self._granted:
            if grant.holds(path) and (grant.writable or not writing):
                # A link in the granted tree may lead below a mask.
                mask = _covering(self._masks, self._resolve(path)) if self._masks else None
                if mask is not None:
                    return replace(attempt, reason=mask.reason)
                linked = self._links_made and grant.writable and number in _DENIED
                return attempt if linked else None
        if path.startswith(_SCRATCH) and not path.startswith(self._guarded):
            # The script's own files; but a refusal may come from behind a link of its
            # making, and a file granted for reading may lie there too.
            granted = any(grant.holds(path) for grant in self._granted)
            if granted or (self._links_made and number in _DENIED):
                return attempt
            return attempt if number in _ABSENT and self._on_host(path) else None
        guarded = path.startswith(self._guarded)
        if number in _ABSENT and not guarded and f"{path}/".startswith(self._rules.owned):
            shared = path.startswith("/dev/") and self._on_host(path)
            return attempt if shared or _PROC_BELOW_FD.match(path) else None
        if path in (_WRITE_PROBES if writing else self._rules.probes):
            return None
        if not writing and _is_search(path):
            return None
        return attempt

    def _execve(self, message: Message) -> Attempt | None:
        path = _absolute(message) if message.path or message.fd_path else "(a descriptor)"
        command = posixpath.basename(path) or path
        searched = path == f"{self._rules.command_directory}/{command}"
        asked = (command if searched else path, *message.argv[1:2])
        if message.errno != 0 and asked in _COMMAND_PROBES:
            return None
        return _attempt(message, f"EXTERNAL_COMMAND:{command}", "execve", path)

    def _connect(self, message: Message) -> Attempt | None:
        family, host, port = _address(message.address)
        if family == "unix":
            return self._unix(message, host, "connect")
        if family != "inet" or not host or self._network.serves(host, port):
            return None
        if self._network.in_pool(host):
            self._connect_by_name(message, host, port)
            return None
        if message.errno in _DONE and not self._is_datagram(message, host, port):
            return None
        if host == self._rules.nameserver:
            return self._lookup(message)
        attempt = _attempt(
            message, f"NETWORK_CONNECT:{_endpoint(host, port)}", "connect", _endpoint(host, port)
        )
        if ipaddress.ip_address(host).is_loopback or host in ("0.0.0.0", "::"):
            # In progress: the refusal comes later, where no trace point is.
            told = message.errno in (errors.ECONNREFUSED, errors.EINPROGRESS)
            if told and len(self._refused_ports) < 1024:
                self._refused_ports.setdefault(port, attempt)
            return None
        return attempt

    def _connect_by_name(self, message: Message, host: str, port: int) -> None:
        """Keeps it for the end: whose address it is may be known only then."""
        if message.errno not in _DONE and len(self._unnamed) < 1024:
            self._unnamed.setdefault((host, port), _attempt(message, None, "connect", host))

    def _is_datagram(self, message: Message, host: str, port: int) -> bool:
        """Whether a connect that succeeded can only be that of a datagram socket.

        An address that is the guest's because of a grant takes them, and nothing
        listens there for this port. Port 0 is how libc compares addresses.
        """
        return (
            message.errno == 0
            and port != 0
            and host != self._rules.nameserver
            and self._network.owns(host)
            and not ipaddress.ip_address(host).is_loopback
        )

    def _unix(self, message: Message, name: str, operation: str) -> Attempt | None:
        if not name or message.errno not in _DENIED | _ABSENT:
            return None  # unnamed, or in the guest's own abstract name space
        path = _normal(posixpath.join("/", _in_jail(message.cwd), name))
        if path.startswith(self._rules.owned) or path in self._rules.probes:
            return None
        return _attempt(message, f"FILE_WRITE:{path}", operation, path)

    def _lookup(self, message: Message) -> Attempt:
        """A name look-up: the kernel saw it, the script's own runtime may have named it."""
        name = self._lookups.pop(message.group_id, None)
        capability = f"NETWORK_CONNECT:{name}" if name else None
        return _attempt(message, capability, "lookup", name or "(a name look-up)")

    def _bind(self, message: Message) -> Attempt | None:
        family, host, port = _address(message.address)
        if family == "unix":
            return self._unix(message, host, "bind")
        if family != "inet":
            return None
        if message.errno == 0:
            self._any_port_bound |= port == 0
            if len(self._bound_ports) < 1024:
                self._bound_ports.add(port)
            return None
        if message.errno not in (errors.EACCES, errors.EPERM, errors.EADDRNOTAVAIL):
            return None
        return _attempt(message, None, "bind", _endpoint(host, port))

    def _socket(self, message: Message) -> Attempt | None:
        if message.errno not in (errors.EPERM, errors.EACCES):
            return None
        return _attempt(
            message, None, "socket", f"family {message.flags}, type {message.kind & 15}"
        )

    def _clone(self, message: Message) -> Attempt | None:
        if message.errno == errors.EAGAIN:
            self.pids_refused = True
        if message.errno != errors.EPERM:
            return None
        return _attempt(message, None, "clone", f"flags {message.flags:#x}")

    def _chroot(self, message: Message) -> Attempt | None:
        return _attempt(message, None, "chroot", message.path) if message.errno else None

    def _setid(self, message: Message) -> Attempt | None:
        if message.errno != errors.EPERM:
            return None
        return _attempt(message, None, "setuid", "another user or group")

    def _raw(self, message: Message) -> Attempt | None:
        number, error = message.sysno, message.errno
        if error == 0:
            if number in _SYMLINKS:
                self._links_made = True
            return None
        if number in FORKS:
            self.pids_refused |= error == errors.EAGAIN
            return None
        if number in NATIVE:
            return _attempt(message, None, NATIVE[number], NATIVE[number])
        if number in FILE_CHANGES and error in _DENIED:
            return _attempt(message, None, FILE_CHANGES[number], "a path outside the grants")
        if number in PRIVILEGE and error == errors.EPERM:
            return _attempt(message, None, PRIVILEGE[number], "another user's rights or processes")
        if number in SENDS and error in (
            errors.ENETUNREACH, errors.EHOSTUNREACH, errors.EACCES, errors.EPERM,
        ):  # fmt: skip
            return _attempt(message, None, SENDS[number], "an address outside the sandbox")
        return None

    def _task_exit(self, message: Message) -> Attempt | None:
        if message.result & 0x7F != SIGSYS or message.group_id in self._killed:
            return None
        if len(self._killed) < 1024:
            self._killed.add(message.group_id)
        return _attempt(message, None, "seccomp", "a system call that no script needs")


_DECIDERS: Final = {
    MessageType.OPEN: Judge._open,
    MessageType.CHDIR: Judge._chdir,
    MessageType.EXECVE: Judge._execve,
    MessageType.CONNECT: Judge._connect,
    MessageType.BIND: Judge._bind,
    MessageType.SOCKET: Judge._socket,
    MessageType.CLONE: Judge._clone,
    MessageType.CHROOT: Judge._chroot,
    MessageType.SETID: Judge._setid,
    MessageType.SETRESID: Judge._setid,
    MessageType.SYSCALL_RAW: Judge._raw,
    MessageType.TASK_EXIT: Judge._task_exit,
}
_NAMES: Final = {MessageType.OPEN: "open", MessageType.CHDIR: "chdir"}


def _attempt(message: Message, capability: str | None, operation: str, resource: str) -> Attempt:
    return Attempt(
        capability=capability,
        operation=operation,
        resource=resource,
        errno=message.errno,
        pid=message.group_id,
        process_name=message.process_name[:64],
    )


def _covering(masks: tuple[Mask, ...], path: str) -> Mask | None:
    for mask in masks:
        if path == mask.path or path.startswith(f"{mask.path}/"):
            return mask
    return None


def _absolute(message: Message) -> str:
    """The path as the guest meant it: ``..`` folded, and links to roots in ``/proc`` taken out.

    Other links are not followed.
    """
    cwd = _normal(_in_jail(message.cwd))
    names: list[str] = []
    for name in posixpath.join(cwd, _in_jail(message.fd_path), message.path).split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(name)
            if name in ("root", "cwd") and _PROC_LINK.fullmatch("/".join(names)):
                names = cwd.split("/")[1:] if name == "cwd" and cwd != "/" else []
    return "/" + "/".join(names)


def _is_search(path: str) -> bool:
    return path.startswith(_PROBE_DIRECTORIES) or _LIBRARY.fullmatch(path) is not None


def _above_in_scratch(path: str) -> list[str]:
    above = []
    while path.startswith(_SCRATCH):
        path = posixpath.dirname(path)
        above.append(path)
    return [directory for directory in above if f"{directory}/" not in _SCRATCH]


def _in_jail(path: str) -> str:
    """Takes the guest's root off: directories of descriptors are told from outside of it."""
    if path == _JAIL or path.startswith(f"{_JAIL}/"):
        return path[len(_JAIL) :] or "/"
    return path


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _address(data: bytes) -> tuple[str, str, int]:
    """Reads a Linux ``sockaddr`` (native little-endian family, network-order port)."""
    if len(data) < 2:
        return "", "", 0
    family = int.from_bytes(data[:2], "little")
    if family == 1:
        return "unix", data[2:].split(b"\0", 1)[0].decode("utf-8", "surrogateescape"), 0
    if family == 2 and len(data) >= 8:
        return "inet", str(ipaddress.IPv4Address(data[4:8])), int.from_bytes(data[2:4], "big")
    if family == 10 and len(data) >= 24:
        address = ipaddress.IPv6Address(data[8:24])
        mapped = address.ipv4_mapped
        return "inet", str(mapped or address), int.from_bytes(data[2:4], "big")
    return "", "", 0


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
