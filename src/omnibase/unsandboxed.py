"""The way past the sandbox, for trusted components whose policy says so."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace

from omnibase.asked import Authority, Options
from omnibase.backend import compile_grants, require_root
from omnibase.call import perform
from omnibase.core import events
from omnibase.core.sandbox import state
from omnibase.core.sandbox.cgroup import Hierarchy
from omnibase.core.sandbox.host import HostRunner
from omnibase.core.sandbox.image import Image
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Cancel, RunRequest
from omnibase.core.security.capabilities import CapabilitySet, CapabilityType
from omnibase.errors import SandboxStartError

__all__ = ["run_on_host"]

_NO_IMAGE = Image(path="/", digest="", python=sys.executable, probes=())


def run_on_host(
    name: str,
    source: bytes,
    permits: tuple[str, ...],
    authority: Authority,
    granted: CapabilitySet,
    options: Options,
    emitter: events.Emitter,
    cancel: Cancel,
) -> RunResult:
    """Runs a script on the host; the caller has decided that it may.

    Args:
        name: The script's file name.
        source: The script.
        permits: Ids of the policies that permit it, for the record.
        authority: Whose run it is.
        granted: What it was granted; of that, memory counts.
        options: Of the caller; of its context, the quotas hold.
        emitter: Of the run.
        cancel: Ends it early.

    Raises:
        SandboxStartError: Its start cannot be put on record.
        SandboxError: As `omnibase.run`.
    """
    require_root()
    directory = state.state_dir()
    state.recover(directory)
    runner = HostRunner(state=directory, hierarchy=Hierarchy.detect())
    memory = CapabilitySet(c for c in granted if c.type is CapabilityType.MEMORY)
    spec = compile_grants(memory, options.context, _NO_IMAGE, options.env)
    request = RunRequest(
        # Not the guest's variables, which name places in its image.
        spec=replace(spec, environment=tuple((options.env or {}).items())),
        script=source,
        name=name,
        argv=options.args,
        stdin=options.stdin,
        run_id=emitter.runid,
    )
    started = events.UnsandboxedStart(
        script=name,
        script_sha256=hashlib.sha256(source).hexdigest(),
        python=sys.executable,
        policies=permits,
    )
    check = _recorded(options.bus)
    return perform(runner, request, (started,), options, emitter, cancel, authority, check)


def _recorded(bus: events.EventBus) -> Callable[[], None]:
    """Makes a check that nothing of what was emitted since is lost."""
    before = sum(failure.lost for failure in bus.failures)

    def check() -> None:
        kept = bus.flush()
        lost = sum(failure.lost for failure in bus.failures) - before
        if lost or not kept:
            raise SandboxStartError(
                "its start without a sandbox could not be put on record: it was not started",
                details={"lost": lost},
                hint="see to the sinks of the event bus, or run it in a sandbox",
            )

    return check
