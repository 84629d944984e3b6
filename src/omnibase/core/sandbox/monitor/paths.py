"""Paths and addresses as the trace tells them, put into words that a judge compares. Pure."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import Final

from omnibase.core.sandbox.monitor.wire import Message

__all__ = [
    "BELOW_FD",
    "SCRATCH",
    "above_in_scratch",
    "absolute",
    "endpoint",
    "in_jail",
    "is_search",
    "normal",
    "socket_address",
]

SCRATCH: Final = ("/tmp/", "/dev/shm/")

# The loader's, libc's and curses' own searches; what they find there is no secret.
_PROBE_DIRECTORIES: Final = (
    "/usr/lib/locale/", "/usr/share/locale/", "/usr/share/locale-langpack/", "/usr/share/zoneinfo/",
    "/usr/share/lib/zoneinfo/", "/usr/lib/zoneinfo/", "/etc/zoneinfo/", "/usr/share/terminfo/",
    "/usr/lib/terminfo/", "/lib/terminfo/", "/etc/terminfo/",
)  # fmt: skip
_LIBRARY: Final = re.compile(
    r"(/usr)?/lib(32|64|x32)?(/[\w.+-]+)*/((lib|ld-)[^/]*\.so[^/]*|gconv/.*)"
)

# Each wheel that carries an OpenSSL looks where its builder would have put the configuration.
_OPENSSL: Final = re.compile(r"/(usr|opt)(/[\w.+-]+)*/openssl\.cnf")

_JAIL: Final = "/guest"
# The script's own root and working directory; PID 1's are the agent's, and closed.
_PROC_LINK: Final = re.compile(
    r"proc/(?:self|thread-self|(?!1/)[0-9]+)(?:/task/[0-9]+)?/(?:root|cwd)"
)
# Below a descriptor's link anything may lie: only the link itself is the guest's own.
BELOW_FD: Final = re.compile(
    r"/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:fd|map_files)/[^/]+/"
)
_FD_LINK: Final = re.compile(BELOW_FD.pattern.removeprefix("/").removesuffix("/"))
# The runtime's own links in `/dev`.
_DEVICE_LINKS: Final = {
    "fd": "proc/self/fd",
    "stdin": "proc/self/fd/0",
    "stdout": "proc/self/fd/1",
    "stderr": "proc/self/fd/2",
}


def absolute(message: Message) -> str:
    """The path as the guest meant it: ``..`` folded, and the guest's own links taken out.

    These are the links to roots and working directories in ``/proc``, and to descriptors
    in ``/dev``. What a descriptor's link leads to is not known, so no ``..`` leads back
    from behind it. Other links are not followed.
    """
    cwd = normal(in_jail(message.cwd))
    names: list[str] = []
    kept = 0
    for name in posixpath.join(cwd, in_jail(message.fd_path), message.path).split("/"):
        if name == "..":
            del names[max(kept, len(names) - 1) :]
        elif name not in ("", "."):
            names.append(name)
            if name in _DEVICE_LINKS and names[:-1] == ["dev"]:
                names = _DEVICE_LINKS[name].split("/")
            if len(names) > 3 and not kept and _FD_LINK.fullmatch("/".join(names)):
                kept = len(names)
            elif name in ("root", "cwd") and _PROC_LINK.fullmatch("/".join(names)):
                names = cwd.split("/")[1:] if name == "cwd" and cwd != "/" else []
    return "/" + "/".join(names)


def is_search(path: str) -> bool:
    found = _LIBRARY.fullmatch(path) or _OPENSSL.fullmatch(path)
    return found is not None or path.startswith(_PROBE_DIRECTORIES)


def above_in_scratch(path: str) -> list[str]:
    above = []
    while path.startswith(SCRATCH):
        path = posixpath.dirname(path)
        above.append(path)
    return [directory for directory in above if f"{directory}/" not in SCRATCH]


def in_jail(path: str) -> str:
    """Takes the guest's root off: directories of descriptors are told from outside of it."""
    if path == _JAIL or path.startswith(f"{_JAIL}/"):
        return path[len(_JAIL) :] or "/"
    return path


def normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def socket_address(data: bytes) -> tuple[str, str, int]:
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


def endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
