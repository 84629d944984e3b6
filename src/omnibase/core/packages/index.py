"""Where packages come from: pip's configuration, and what of it phase one may reach. Pure."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from omnibase.errors import ConfigurationError

__all__ = ["SOURCES", "Index", "configured", "pip_default", "pip_settings"]

SOURCES: Final = "OMNIBASE_PACKAGE_SOURCES"
# Where mirrors keep the files that their pages in `simple` link to, beside it.
_BESIDE: Final = ("files", "packages")
_SECTIONS: Final = ("global", "download", "install")
_LISTS: Final = frozenset({"extra-index-url", "find-links", "constraint", "trusted-host"})
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]")
_TRUE: Final = frozenset({"1", "true", "yes", "on", "y", "t"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What phase one is told, and what it is given.

    Attributes:
        arguments: Options for pip.
        endpoints: ``host:port`` of each connection that it may make.
        trusted: Those of them that the operator named: they may be in a private network.
        trees: Host directories that it may read.
        files: Host files that it may read.
        constraints: Constraint files, among the files.
    """

    arguments: tuple[str, ...]
    endpoints: tuple[str, ...]
    trusted: tuple[str, ...]
    trees: tuple[str, ...]
    files: tuple[str, ...]
    constraints: tuple[str, ...]


def pip_default(source: str) -> tuple[str, str]:
    """Reads pip's default index and its host of files from pip's own source.

    Args:
        source: The text of ``pip/_internal/models/index.py``.

    Returns:
        The index's URL and the host; empty if pip no longer tells.
    """
    found = re.search(
        r"^PyPI = PackageIndex\(\s*\"([^\"]+)\",\s*file_storage_domain=\"([^\"]+)\"", source, re.M
    )
    return ("", "") if found is None else (f"{found[1].rstrip('/')}/simple", found[2])


def pip_settings(files: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Merges pip's settings as pip does: a later file wins, the environment before all.

    Args:
        files: The texts of its configuration files, the weakest first.
        environment: Of the process.

    Raises:
        ConfigurationError: A file cannot be read as one.
    """
    import configparser

    merged: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for text in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise ConfigurationError(
                f"pip's configuration cannot be read: {str(error)[:200]}",
                hint="`pip config debug` shows which files there are",
            ) from None
        for section in _SECTIONS:
            if parser.has_section(section):
                merged[section] |= {
                    name.replace("_", "-"): value for name, value in parser.items(section)
                }
    settings: dict[str, str] = {}
    for section in _SECTIONS:
        settings |= merged[section]
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def configured(
    settings: Mapping[str, str],
    default: tuple[str, str] = ("", ""),
    sources: str = "",
    certificates: str | None = None,
) -> Index:
    """Returns what phase one may reach.

    Args:
        settings: Pip's, merged.
        default: Pip's own index and host of files.
        sources: More hosts and directories that files may come from:
            ``$OMNIBASE_PACKAGE_SOURCES``.
        certificates: The certificates that TLS is verified with, if pip is not told any.

    Raises:
        ConfigurationError: A setting names a place that cannot be used, or needs a
            secret of the host.
    """
    for name in ("proxy", "client-cert"):
        if settings.get(name):
            raise ConfigurationError(
                f"pip's `{name}` cannot be used: phase one is given nothing of yours",
                hint="set `index-url` to an index that is reached without it, or `find-links` to "
                "a directory of wheels",
            )
    found = _Places()
    arguments: list[str] = []
    if settings.get("no-index", "").lower() in _TRUE:
        arguments.append("--no-index")
    else:
        url = settings.get("index-url") or default[0]
        if not url:
            raise ConfigurationError(
                "no package index is configured", hint="`pip config set global.index-url URL`"
            )
        arguments += ["--index-url", found.index(url)]
        if default[1] and url.rstrip("/") == default[0]:
            found.endpoints.setdefault(f"{default[1]}:443")
        for extra in _several(settings, "extra-index-url"):
            arguments += ["--extra-index-url", found.index(extra)]
    for place in _several(settings, "find-links"):
        arguments += ["--find-links", found.links(place)]
    for host in _several(settings, "trusted-host"):
        arguments += ["--trusted-host", host]
    certificates = settings.get("cert") or certificates
    if certificates:
        arguments += ["--cert", found.file(certificates)]
    constraints = [found.file(file) for file in _several(settings, "constraint")]
    for source in sources.replace(",", " ").split():
        found.source(source)
    return Index(
        arguments=tuple(arguments),
        endpoints=tuple(found.endpoints),
        trusted=tuple(found.trusted),
        trees=tuple(found.trees),
        files=tuple(found.files),
        constraints=tuple(constraints),
    )


def _several(settings: Mapping[str, str], name: str) -> list[str]:
    return settings.get(name, "").split() if name in _LISTS else []


class _Places:
    """Collects what has to be reached, each once, in order."""

    def __init__(self) -> None:
        self.endpoints: dict[str, None] = {}
        self.trusted: dict[str, None] = {}
        self.trees: dict[str, None] = {}
        self.files: dict[str, None] = {}

    def index(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "file" or "://" not in url:
            path = self._directory(unquote(parts.path) if parts.scheme else url)
            if os.path.basename(path) == "simple":
                for name in _BESIDE:
                    self.trees.setdefault(os.path.join(os.path.dirname(path), name))
            return f"file://{path}"
        return self._remote(url)

    def links(self, place: str) -> str:
        parts = urlsplit(place)
        if parts.scheme in ("http", "https"):
            return self._remote(place)
        path = unquote(parts.path) if parts.scheme == "file" else place
        if path.endswith((".html", ".htm")):
            return f"file://{self.file(path)}"
        return self._directory(path)

    def file(self, path: str) -> str:
        path = os.path.realpath(path)
        self.files.setdefault(path)
        return path

    def source(self, text: str) -> None:
        if text.startswith("/"):
            self._directory(text)
            return
        host, colon, port = text.rpartition(":")
        if not colon or "]" in port:
            host, port = text, "443"
        host = host.lower()
        if not _HOST.fullmatch(host) or not (port.isdigit() and 1 <= int(port) <= 65535):
            raise ConfigurationError(
                f"`{SOURCES}`: `{text[:120]}` is no host and no directory",
                hint=f"write e.g. `{SOURCES}=files.example.com:443,/srv/wheels`",
            )
        self._allow(host, int(port))

    def _allow(self, host: str, port: int) -> None:
        self.endpoints.setdefault(f"{host}:{port}")
        self.trusted.setdefault(f"{host}:{port}")

    def _directory(self, path: str) -> str:
        path = os.path.realpath(path)
        if path == "/":
            raise ConfigurationError(
                "`/` is no directory of packages", hint="name the directory that they are in"
            )
        self.trees.setdefault(path)
        return path

    def _remote(self, url: str) -> str:
        shown = url[:200]
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            port = -1
        host = (parts.hostname or "").lower()
        literal = f"[{host}]" if ":" in host else host
        if parts.scheme not in ("http", "https") or port == -1 or not _HOST.fullmatch(literal):
            raise ConfigurationError(
                f"`{shown}` is no index of packages",
                hint="write an `https://` URL, or `file://` and a directory",
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError(
                f"the index on `{host}` needs a password, and phase one is given no secret",
                hint="use a mirror that is reached without one, e.g. a caching proxy on this "
                "host, or download wheels yourself: "
                + shlex.join(["pip", "download", "-d", "DIR", "-r", "FILE"])
                + " and set `find-links`",
            )
        if host == "localhost":  # which would be the guest's own
            literal, url = "127.0.0.1", url.replace("localhost", "127.0.0.1", 1)
        self._allow(literal, port or (443 if parts.scheme == "https" else 80))
        return url
