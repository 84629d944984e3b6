"""Packages for runs: layers that are there or are made, and virtual environments."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from omnibase.asked import Extras
from omnibase.backend import require_root
from omnibase.core import events
from omnibase.core.packages import lock, requirements, sources
from omnibase.core.packages.index import Index
from omnibase.core.packages.layer import Cache
from omnibase.core.packages.lock import Layer
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.spec import Attachment
from omnibase.core.sandbox.state import state_dir
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import (
    ConfigurationError,
    PackageError,
)
from omnibase.inputs import Packages, Venv
from omnibase.phase_one import SITE, Job, Progress, install

PackageLayer = Layer

__all__ = [
    "PackageLayer", "cache", "equipped", "extras_of", "find_site", "held", "install_packages",
    "offered", "planned", "provided", "require_hashed", "wanted_of",
]  # fmt: skip


# Where matplotlib looks for the system's fonts; it brings its own.
_FONTS: Final = frozenset(
    {
        "/usr/X11R6/lib/X11/fonts/TTF", "/usr/X11/lib/X11/fonts", "/usr/share/fonts",
        "/usr/local/share/fonts", "/usr/lib/openoffice/share/fonts/truetype",
    }
)  # fmt: skip


def install_packages(
    packages: Packages,
    *,
    upgrade: bool = False,
    require_hashes: bool = False,
    progress: Progress | None = None,
    bus: events.EventBus | None = None,
) -> Layer:
    """Resolves, fetches and unpacks packages, unless that was done before.

    Args:
        packages: A requirements file, or a list of requirements.
        upgrade: Resolve anew, whatever is there.
        require_hashes: Refuse requirements that do not name each file's hash.
        progress: Called with a line of text now and then.
        bus: Where events go; `omnibase.default_bus` by default.

    Returns:
        The layer: pass it on as ``packages=``.

    Raises:
        ConfigurationError: The requirements, or pip's configuration, cannot be used.
        PackageError: A package cannot be had, or is not what was locked.
        SandboxUnavailable: This machine cannot run sandboxes.
    """
    with (
        contextlib.closing(Cancel()) as cancel,
        provided(
            packages, bus=bus, cancel=cancel, progress=progress, upgrade=upgrade,
            require_hashes=require_hashes,
        ) as layer,
    ):  # fmt: skip
        if layer is None:
            raise ConfigurationError("no packages are named", hint="name a requirements file")
        return layer


@contextlib.contextmanager
def provided(
    packages: Packages,
    *,
    bus: events.EventBus | None = None,
    cancel: Cancel,
    progress: Progress | None = None,
    upgrade: bool = False,
    require_hashes: bool = False,
) -> Iterator[Layer | None]:
    """Gives a layer with the packages, and keeps it while it is used.

    Raises:
        As `install_packages`.
    """
    if packages is None:
        yield None
        return
    require_root()
    kept = cache()
    if isinstance(packages, Layer):
        with held(packages.digest, kept) as layer:
            yield layer
        return
    wanted = wanted_of(packages)
    if require_hashes:
        require_hashed(wanted)
    known, key, index = _known(kept, wanted)
    if known is not None and not (upgrade and index is not None):
        with kept.hold(known) as layer:
            if layer is not None:
                yield layer
                return
    job = Job(bus or events.default_bus(), cancel, progress or (lambda _: None))
    digest = install(kept, wanted, index, key, job, fresh=upgrade)
    with kept.hold(digest) as layer:
        if layer is None:
            raise PackageError(
                "the layer went away while it was built", reason="failed", hint="run it again"
            )
        yield layer


@contextlib.contextmanager
def held(digest: str, kept: Cache | None = None) -> Iterator[Layer]:
    """Gives a layer that is there, and keeps it while it is used.

    Args:
        digest: Of its lock.
        kept: Where it is; among this host's by default.

    Raises:
        PackageError: It is not there any more, or not what was built.
    """
    with (kept or cache()).hold(digest) as layer:
        if layer is None:
            raise PackageError(
                f"the layer `{digest}` is not there any more",
                reason="not_found", hint="install it again",
            )  # fmt: skip
        yield layer


@contextlib.contextmanager
def offered(file: Path) -> Iterator[Extras]:
    """Gives what runs of the pool's daemon come with, and keeps it while it is used.

    Args:
        file: Where the daemon says so. One that was killed leaves it behind: what is not
            there any more is offered by nobody.

    Raises:
        PackageError: It is not what was built.
    """
    try:
        with open(file, encoding="ascii") as text:
            digest = text.read(65)
    except (OSError, ValueError):
        digest = ""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        yield Extras()
        return
    with cache().hold(digest) as layer:
        yield Extras() if layer is None else extras_of(layer)


def _known(
    kept: Cache, wanted: tuple[requirements.Wanted, ...]
) -> tuple[str | None, str, Index | None]:
    """Returns the digest of requirements, if it is known, what names them, and their index."""
    digest = lock.pinned_digest(sources.platform_name(), wanted)
    if digest is not None:  # they say it all: no index is looked at
        return digest, digest, None
    index = sources.host_index(sources.find_pip())
    key = _key(wanted, index)
    return kept.resolved(key), key, index


@contextlib.contextmanager
def equipped(
    packages: Packages,
    venv: Venv,
    grants: CapabilitySet,
    *,
    bus: events.EventBus | None,
    cancel: Cancel,
) -> Iterator[tuple[CapabilitySet, Extras]]:
    """Gives what a run with packages is granted, and what it comes with, while it lasts.

    Raises:
        As `install_packages`.
    """
    more, extras = _venv(venv, grants)
    with provided(packages, bus=bus, cancel=cancel) as layer:
        yield more, _joined(layer, extras)


def planned(packages: Packages, venv: Venv, grants: CapabilitySet) -> tuple[CapabilitySet, Extras]:
    """Returns the same as things stand: packages that are not there yet are left out.

    Raises:
        ConfigurationError: The requirements, or pip's configuration, cannot be used.
        PackageError: The layer is not what was built.
    """
    more, extras = _venv(venv, grants)
    if packages is None:
        return more, extras
    require_root()
    kept = cache()
    known = packages.digest if isinstance(packages, Layer) else _known(kept, wanted_of(packages))[0]
    if known is None:
        return more, extras
    with kept.hold(known) as layer:
        return more, _joined(layer, extras)


def _venv(venv: Venv, grants: CapabilitySet) -> tuple[CapabilitySet, Extras]:
    if venv is None:
        return grants, Extras()
    site = find_site(venv)
    extras = Extras(imports=(site,), probes=_FONTS)
    return grants.union([Capability.parse(f"FILE_READ:{site}/**")]), extras


def _joined(layer: Layer | None, extras: Extras) -> Extras:
    return extras if layer is None else extras.over(extras_of(layer))


def extras_of(layer: Layer) -> Extras:
    """Returns what a run with a layer comes with."""
    attached = (Attachment(source=layer.path, target=SITE),)
    return Extras(attached=attached, imports=(SITE,), lock=layer.lock, probes=_FONTS)


def cache() -> Cache:
    """Returns the layers of this host, for this interpreter."""
    return Cache(state_dir(), sources.platform_name())


def wanted_of(packages: str | os.PathLike[str] | Iterable[str]) -> tuple[requirements.Wanted, ...]:
    """Reads requirements, from a file or a list.

    Raises:
        ConfigurationError: They cannot be read, or there are none.
    """
    if isinstance(packages, str | os.PathLike):
        where = os.fspath(packages)
        try:
            fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, encoding="utf-8") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file")
                text = file.read(requirements.MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigurationError(
                f"the requirements `{where}` cannot be read: {reason}",
                hint="name a file of requirements, one on each line, e.g. `numpy>=2`",
            ) from error
    else:
        where, parts = "packages", list(packages)
        if not all(isinstance(part, str) for part in parts):
            raise ConfigurationError(
                "`packages` holds what is no text", hint="pass e.g. `['numpy>=2']`"
            )
        text = "\n".join(parts)
    wanted = requirements.parse(text, where)
    if not wanted:
        raise ConfigurationError(
            f"`{where}` names no package", hint="write one on each line, e.g. `numpy>=2`"
        )
    return wanted


def require_hashed(wanted: tuple[requirements.Wanted, ...]) -> None:
    """Refuses requirements that do not name each file's hash.

    Raises:
        ConfigurationError: One has none.
    """
    for one in wanted:
        if not one.hashes:
            raise ConfigurationError(
                f"`{one.text}` has no hash",
                hint="lock it: `omnibase packages lock REQUIREMENTS -o FILE`",
            )


def _key(wanted: tuple[requirements.Wanted, ...], index: Index) -> str:
    """Names a resolution: what was asked for, where, and for what."""
    facts: list[Any] = [sources.platform_name(), requirements.to_text(wanted), index.arguments]
    for path in index.constraints:
        try:
            facts.append(Path(path).read_bytes())
        except OSError as error:
            raise ConfigurationError(
                f"pip's constraints `{path}` cannot be read: {error.strerror}",
                hint="`pip config debug` shows where they are named",
            ) from error
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def find_site(venv: str | os.PathLike[str]) -> str:
    """Returns the site-packages of a virtual environment of this Python.

    Raises:
        ConfigurationError: It is none, or one of another Python.
    """
    top = os.path.realpath(venv)
    if "*" in top or "?" in top:
        raise ConfigurationError(
            f"`{top}` has a wildcard in its name", hint="rename it: no grant can name it exactly"
        )
    settings: dict[str, str] = {}
    try:
        with open(os.path.join(top, "pyvenv.cfg"), encoding="utf-8") as file:
            for line in file.read(65536).splitlines():
                name, _, value = line.partition("=")
                settings[name.strip().lower()] = value.strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`{top}` is not a virtual environment: it has no `pyvenv.cfg`",
            hint="make one: `python3 -m venv DIR`, then `DIR/bin/pip install …`",
        ) from error
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    theirs = settings.get("version") or settings.get("version_info") or ""
    site = os.path.join(top, "lib", f"python{ours}", "site-packages")
    if ".".join(theirs.split(".")[:2]) != ours or not os.path.isdir(site):
        raise ConfigurationError(
            f"the virtual environment `{top}` is of Python {theirs or 'unknown'}, and the "
            f"sandbox runs {ours}",
            hint=f"make one with this Python: `{sys.executable} -m venv DIR`",
        )
    return os.path.realpath(site)
