"""Which gVisor platform works here: tried once with a deadline, then remembered.

A device file proves nothing: on a VM with ``/dev/kvm`` the kvm platform may hang.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

from omnibase.core.sandbox._runsc import Runtime, try_platform
from omnibase.errors import ConfigurationError, SandboxUnavailable

__all__ = ["PLATFORMS", "choose_platform", "probe_platform"]

PLATFORMS: Final = ("systrap", "ptrace", "kvm")
_AUTOMATIC: Final = ("systrap", "ptrace")
_DEADLINE_SECONDS: Final = 10.0


def choose_platform(runtime: Runtime, state: Path) -> str:
    """Returns the platform to use: ``$OMNIBASE_PLATFORM``, else the first that works.

    Raises:
        ConfigurationError: The variable names no platform.
        SandboxUnavailable: None works, or the one asked for does not.
    """
    named = os.environ.get("OMNIBASE_PLATFORM")
    if named and named not in PLATFORMS:
        raise ConfigurationError(
            f"`OMNIBASE_PLATFORM={named[:40]}` is not a platform",
            hint="choose systrap, ptrace or kvm",
        )
    reasons = {}
    for name in (named,) if named else _AUTOMATIC:
        problem = probe_platform(runtime, name, state)
        if problem is None:
            return name
        reasons[name] = problem
    raise SandboxUnavailable(
        "no gVisor platform works here: " + "; ".join(f"{n}: {r}" for n, r in reasons.items()),
        details={"platforms": reasons},
        hint="run `omnibase doctor`",
    )


def probe_platform(runtime: Runtime, name: str, state: Path, *, fresh: bool = False) -> str | None:
    """Returns ``None`` if a sandbox starts on the platform, else why not.

    A success is remembered per binary and kernel; a failure is tried again.
    """
    status = os.stat(runtime.path)
    key = f"{runtime.path}:{status.st_size}:{status.st_mtime_ns}:{os.uname().release}:{name}"
    cache = state / "platforms.json"
    known: list[str] = []
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = [str(k) for k in json.loads(cache.read_bytes())]
    if key in known and not fresh:
        return None
    import tempfile  # once per binary and kernel

    with tempfile.TemporaryDirectory(prefix="probe-", dir=state) as root:
        problem = try_platform(runtime, name, root, _DEADLINE_SECONDS)
    if problem is None and key not in known:
        draft = cache.with_suffix(f".{os.getpid()}.tmp")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps([*known[-8:], key]))
        draft.replace(cache)
    return problem
