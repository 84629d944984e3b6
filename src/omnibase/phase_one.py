"""Phase one: resolves, fetches and unpacks packages, in sandboxes of its own.

The first has the configured index and nothing else; the second has nothing at all.
Whatever comes out of them is hostile: files are opened without following links,
bounded, and compared with the lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from omnibase.asked import Extras, Options
from omnibase.call import Call, tell_refused
from omnibase.core import events
from omnibase.core.context import GIB, MIB, ExecutionContext
from omnibase.core.packages import lock, requirements, sources
from omnibase.core.packages.index import Index
from omnibase.core.packages.layer import MAX_FILES, MAX_LAYER_BYTES, Cache
from omnibase.core.packages.trouble import explain
from omnibase.core.sandbox.image import GUEST_PREFIX
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.spec import Attachment
from omnibase.core.sandbox.state import storage_hint
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import (
    ConfigurationError,
    PackageError,
    ResourceLimitExceeded,
    SandboxTimeout,
)

__all__ = ["SITE", "Job", "Progress", "install"]

Progress = Callable[[str], None]

SITE: Final = f"{GUEST_PREFIX}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
_WORK: Final = f"{GUEST_PREFIX}/work"
_PIP: Final = f"{GUEST_PREFIX}/pip"
_WHEELS: Final = f"{GUEST_PREFIX}/wheels"
_MAX_WHEELS_BYTES: Final = 8 << 30
# Measured: pip needs about 150 MB to resolve and fetch pandas and matplotlib, and
# unpacking them 90 MB; large indexes need more.
_FETCH: Final = ExecutionContext(
    cpus=2, memory_bytes=1 * GIB, default_memory_bytes=1 * GIB, pids=64, wall_seconds=1800,
    scratch_bytes=8 * GIB, output_bytes=64 * MIB, egress_connections=64, egress_bytes=16 * GIB,
    on_violation="record",
)  # fmt: skip
_UNPACK: Final = ExecutionContext(
    cpus=2, memory_bytes=512 * MIB, default_memory_bytes=512 * MIB, pids=16, wall_seconds=1800,
    on_violation="record",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """What one installation shares."""

    bus: events.EventBus
    cancel: Cancel
    progress: Progress
    traceparent: str | None = None


def install(
    kept: Cache,
    wanted: tuple[requirements.Wanted, ...],
    index: Index | None,
    key: str,
    job: Job,
    *,
    fresh: bool,
) -> str:
    """Does phase one; returns the layer's digest."""
    began = time.monotonic()
    emitter = events.Emitter(job.bus, subject="packages")
    job = replace(job, traceparent=emitter.traceparent)
    try:
        with kept.building(key) as place:
            known = kept.resolved(key)
            if known is not None and not fresh:  # another builder was here meanwhile
                with kept.hold(known) as layer:
                    if layer is not None:
                        return known
            for name in ("out", "site"):
                (place / name).mkdir(mode=0o755)
            pip = sources.find_pip()
            locked = _fetch(wanted, index or sources.host_index(pip), pip, place, job)
            emitter.emit(
                events.PackagesResolved(
                    lock_digest=locked.digest, packages=locked.pins(),
                    seconds=time.monotonic() - began,
                )
            )  # fmt: skip
            with kept.hold(locked.digest) as layer:
                if layer is None:
                    _unpack(locked, place, job)
                    kept.add(locked, place)
            if layer is None:
                with kept.hold(locked.digest) as layer:
                    if layer is not None:
                        emitter.emit(
                            events.LayerBuilt(
                                lock_digest=layer.digest, files=layer.files,
                                layer_bytes=layer.size, seconds=time.monotonic() - began,
                            )
                        )  # fmt: skip
            kept.remember(key, locked.digest)
            return locked.digest
    except OSError as error:
        raise PackageError(
            f"the packages cannot be kept: {error}", reason="failed", hint=storage_hint(error)
        ) from error
    except (PackageError, ConfigurationError) as error:
        tell_refused(emitter, error)
        raise


def _fetch(
    wanted: tuple[requirements.Wanted, ...], index: Index, pip: sources.Pip, place: Path, job: Job
) -> lock.Lock:
    job.progress(f"resolving {len(wanted)} requirements")
    grants = [f"NETWORK_CONNECT:{endpoint}" for endpoint in index.endpoints]
    grants += [f"NETWORK_CONNECT:{one}" for one in sources.private_addresses(index.trusted)
               if one not in index.endpoints]  # fmt: skip
    for path in (*index.trees, *index.files):
        if "*" in path or "?" in path:
            raise ConfigurationError(
                f"`{path}` has a wildcard in its name", hint="rename it: pip's settings name it"
            )
        if os.path.exists(path):
            grants.append(f"FILE_READ:{path}/**" if os.path.isdir(path) else f"FILE_READ:{path}")
    task = {
        "pip": f"{_PIP}/{pip.inside}" if pip.inside else _PIP,
        "arguments": list(index.arguments),
        "requirements": requirements.to_text(wanted),
        "constraints": [path for path in index.constraints if os.path.exists(path)],
        "out": _WORK,
    }
    target = _PIP if pip.inside else f"{_PIP}/pip"
    result, log = _phase(
        "fetch", task, grants, _FETCH, job,
        Attachment(source=pip.directory, target=target),
        Attachment(source=str(place / "out"), target=_WORK, writable=True),
    )  # fmt: skip
    if result.exit_code != 0:
        denied = [v.capability for v in result.violations if v.capability is not None]
        raise explain(log, denied, index.endpoints)
    locked = _collect(place / "out")
    _check_against(wanted, locked)
    return locked


def _check_against(wanted: tuple[requirements.Wanted, ...], locked: lock.Lock) -> None:
    """Holds what was fetched to the hashes that were asked for: pip's word is not taken."""
    allowed: dict[str, set[str]] = {}
    for one in wanted:
        allowed.setdefault(one.name, set()).update(one.hashes)
    if not any(allowed.values()):
        return
    for package in locked.packages:
        if package.sha256 not in allowed.get(package.name, set()):
            raise PackageError(
                f"`{package.file}` does not have a hash that the requirements name",
                reason="hash", details={"file": package.file},
                hint="do not use it before you know why; `omnibase packages lock` locks anew",
            )  # fmt: skip


def _collect(directory: Path) -> lock.Lock:
    """Makes the lock of the files that were fetched; each is opened without following a link."""
    rows = []
    total = 0
    for name in sorted(os.listdir(directory)):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(directory / name, flags), "rb") as file:
            status = os.fstat(file.fileno())
            total += status.st_size
            if not stat.S_ISREG(status.st_mode) or total > _MAX_WHEELS_BYTES:
                raise PackageError(
                    f"`{name[:120]}` is no wheel of a sensible size",
                    reason="hostile",
                    hint="leave out the package that needs it",
                )
            rows.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
    try:
        return lock.of_files(rows, sources.platform_name())
    except ValueError as error:
        raise PackageError(
            f"the index leads to what is no wheel: {error}",
            reason="hostile",
            hint="every package has to be a wheel of the index",
        ) from error


def _unpack(locked: lock.Lock, place: Path, job: Job) -> None:
    job.progress(f"installing {len(locked.packages)} packages")
    task = {
        "wheels": [f"{_WHEELS}/{package.file}" for package in locked.packages],
        "out": _WORK,
        "shown": SITE,
        "files": MAX_FILES,
        "bytes": MAX_LAYER_BYTES,
        "workers": 2,
    }
    result, log = _phase(
        "unpack", task, [], _UNPACK, job,
        Attachment(source=str(place / "out"), target=_WHEELS),
        Attachment(source=str(place / "site"), target=_WORK, writable=True),
    )  # fmt: skip
    if result.exit_code != 0:
        _, _, told = log.rpartition("@refused ")
        name, _, why = told.strip().partition("\n")
        raise PackageError(
            f"the wheel `{name[:200]}` cannot be unpacked: {why[:300]}" if why else
            f"the packages cannot be unpacked: {log.strip()[-300:]}",
            reason="hostile", details={"file": name[:200]},
            hint="leave out the package, or use another version of it",
        )  # fmt: skip


def _phase(
    name: str,
    task: dict[str, Any],
    grants: list[str],
    context: ExecutionContext,
    job: Job,
    *attached: Attachment,
) -> tuple[RunResult, str]:
    """Runs one of our own scripts in a sandbox; returns the result and what it printed."""
    source = (Path(__file__).parent / "core" / "packages" / "guest" / f"{name}.py").read_bytes()
    teller = _Teller(job.progress)
    options = Options(
        stdin=json.dumps(task).encode(), context=context, bus=job.bus, on_output=teller, secrets={}
    )
    capabilities = CapabilitySet([Capability.parse(grant) for grant in grants])
    call = Call(
        f"packages-{name}.py", source, capabilities, options, extras=Extras(attached=attached)
    )
    emitter = events.Emitter(job.bus, subject=f"packages: {name}", traceparent=job.traceparent)
    try:
        result = call.execute(job.cancel, emitter)
    except (ResourceLimitExceeded, SandboxTimeout) as error:
        kind = getattr(error, "kind", "time")
        raise PackageError(
            f"the packages need more {kind} than phase one has: {error.message}",
            reason="hostile", details={"limit": kind}, hint="ask for fewer packages at a time",
        ) from error  # fmt: skip
    log = (result.stdout + b"\n" + result.stderr).decode("utf-8", "replace")
    return result, log


class _Teller:
    """Makes words for people of what pip and the unpacker print."""

    _WORDS: Final = {
        "Collecting ": "resolving",
        "Downloading ": "downloading",
        "Processing ": "reading",
        "@unpack ": "installing",
        "@compile ": "compiling",
    }

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rest = b""

    def __call__(self, stream: str, chunk: bytes) -> None:
        """Takes output as it comes."""
        if stream != "stdout":
            return
        *lines, self._rest = (self._rest + chunk)[-65536:].split(b"\n")
        for line in lines:
            self._tell(line.decode("utf-8", "replace").strip())

    def _tell(self, line: str) -> None:
        for start, verb in self._WORDS.items():
            if line.startswith(start):
                what = line[len(start) :]
                if not start.startswith("@"):
                    what = os.path.basename(what.split(" ", maxsplit=1)[0])
                self._progress(f"{verb} {what}"[:200])
