"""What this host says about packages: pip, its settings, and the interpreter's platform."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omnibase.core.packages.index import SOURCES, Index, configured, pip_default, pip_settings
from omnibase.core.sandbox.egress.allowlist import is_public, parse_address
from omnibase.errors import ConfigurationError

__all__ = ["Pip", "find_pip", "host_index", "platform_name", "private_addresses"]

_INDEX_MODULE: Final = "pip/_internal/models/index.py"
_MAX_SETTINGS: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pip:
    """A pip to run in a sandbox.

    Attributes:
        directory: Host directory to attach.
        inside: What to put on ``sys.path``, relative to that; empty for itself.
        default: Its own index, and that index's host of files.
    """

    directory: str
    inside: str
    default: tuple[str, str]


def find_pip() -> Pip:
    """Finds the pip of this environment, else the one that Python brings along.

    Raises:
        ConfigurationError: There is none.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        found = importlib.util.find_spec("pip")
        if found is not None and found.origin is not None:
            package = Path(os.path.realpath(found.origin)).parent
            source = (package.parent / _INDEX_MODULE).read_text()
            return Pip(directory=str(package), inside="", default=pip_default(source))
    bundled = Path(os.path.realpath(sysconfig.get_path("stdlib"))) / "ensurepip" / "_bundled"
    for wheel in sorted([*bundled.glob("pip-*.whl"), *_wheels_of_debian()]):
        with contextlib.suppress(OSError, KeyError, zipfile.BadZipFile):
            with zipfile.ZipFile(wheel) as archive:
                source = archive.read(_INDEX_MODULE).decode()
            return Pip(directory=str(wheel.parent), inside=wheel.name, default=pip_default(source))
    raise ConfigurationError(
        "no pip was found, and phase one needs one",
        hint=f"`{sys.executable} -m ensurepip`, or `apt-get install python3-pip-whl`",
    )


def _wheels_of_debian() -> list[Path]:
    return list(Path("/usr/share/python-wheels").glob("pip-*.whl"))


def host_index(pip: Pip) -> Index:
    """Returns the index that pip is configured to use on this host.

    Raises:
        ConfigurationError: It cannot be used by phase one.
    """
    environment = dict(os.environ)
    texts = []
    for path in _settings_files(environment):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
            texts.append(file.read(_MAX_SETTINGS))
    return configured(
        pip_settings(texts, environment),
        pip.default,
        sources=environment.get(SOURCES, ""),
        certificates=environment.get("SSL_CERT_FILE") or _system_certificates(),
    )


def _settings_files(environment: dict[str, str]) -> list[str]:
    """Pip's configuration files, the weakest first (pip documentation, "Configuration")."""
    named = environment.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = os.path.expanduser("~")
    shared = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    own = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = [f"{directory}/pip/pip.conf" for directory in reversed(shared)]
    files += ["/etc/pip.conf", f"{home}/.pip/pip.conf", f"{own}/pip/pip.conf"]
    return [*files, f"{sys.prefix}/pip.conf", *([named] if named else [])]


def _system_certificates() -> str | None:
    import ssl

    found: str | None = ssl.get_default_verify_paths().cafile
    return found


def private_addresses(endpoints: Iterable[str]) -> list[str]:
    """Returns the addresses of endpoints that the operator named and that are not public.

    A name is not enough to reach those: see `omnibase.core.sandbox.egress`.
    """
    found: dict[str, None] = {}
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        with contextlib.suppress(OSError, UnicodeError):
            for row in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM):
                address = parse_address(str(row[4][0]))
                if address is None or is_public(address):
                    continue
                if address.is_link_local or address.is_multicast or address.is_unspecified:
                    continue
                text = f"[{address.compressed}]" if address.version == 6 else str(address)
                found.setdefault(f"{text}:{port}")
    return list(found)


def platform_name() -> str:
    """Names what wheels and bytecode are made for: interpreter, ABI, machine and libc."""
    abi = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag or ""
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return f"{sys.implementation.cache_tag} {abi} {libc}".strip()
