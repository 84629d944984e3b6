"""The runner: what it is asked, what it promises, and the gVisor one.

What a run does step by step is in `lifecycle`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omnibase.core.sandbox import _runsc
from omnibase.core.sandbox.cgroup import Cgroup, Hierarchy
from omnibase.core.sandbox.monitor.violations import Violation
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.core.sandbox.state import RunDirectory
from omnibase.errors import SandboxError

__all__ = ["Cancel", "Ended", "GVisorRunner", "Observer", "RunRequest", "SandboxRunner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One script and the spec to run it under.

    Attributes:
        spec: Everything that was decided.
        script: Source bytes, as Python reads them.
        name: File name that the script sees as its own (no slash).
        argv: Arguments after the script's name.
        stdin: Bytes on standard input.
    """

    spec: SandboxSpec
    script: bytes
    name: str = "script.py"
    argv: tuple[str, ...] = ()
    stdin: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        result: What came out.
        cause: ``exit`` by itself; else what ended it: ``time``, ``output``,
            ``cpu``, ``memory``, ``violation``, ``cancelled``.
        fault: A failure of the sandbox itself, for the caller to raise.
    """

    result: RunResult
    cause: str
    fault: SandboxError | None = None


class Observer(Protocol):
    """Told what happens while it happens, from the run's thread; must be quick."""

    def on_started(self, run_id: str) -> None:
        """The trace is alive and the script has been sent."""

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Bytes came out of ``stdout`` or ``stderr``."""

    def on_violation(self, violation: Violation) -> None:
        """A kind of attempt was seen for the first time."""


class Cancel:
    """Ends a run from another thread."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self) -> None:
        """Asks the run to end; it cleans up as always."""
        with contextlib.suppress(OSError):
            os.write(self._writer, b"x")

    def fileno(self) -> int:
        """Readable once `set`."""
        return self._reader

    def close(self) -> None:
        """Frees the descriptors."""
        for name in ("_reader", "_writer"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


class SandboxRunner(Protocol):
    """Runs a request to its end.

    Implementations confine the script to ``request.spec`` or do not start it:
    they raise rather than run with less. They return only when nothing of the
    run is left (process, mount, cgroup, file), on every path.
    """

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """Runs the script and returns how it ended.

        Raises:
            CapabilityError: A granted path cannot be mounted as it stands.
            SandboxStartError: The sandbox did not come up; nothing ran.
            SandboxUnavailable: This machine cannot run sandboxes.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GVisorRunner:
    """Runs in gVisor, through ``runsc``.

    Attributes:
        runtime: The binary.
        platform: ``systrap``, ``ptrace`` or ``kvm``.
        state: The state directory.
        hierarchy: Where cgroups are made.
    """

    runtime: _runsc.Runtime
    platform: str
    state: Path
    hierarchy: Hierarchy

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`."""
        from omnibase.core.sandbox.lifecycle import Run

        directory = RunDirectory.create(self.state)
        cgroup = Cgroup(self.hierarchy, directory.run_id)
        try:
            directory.record_cgroups(cgroup.paths)
            return _in_own_thread(
                lambda: Run(self, request, observer, cancel).execute(directory, cgroup), cancel
            )
        finally:
            # Outside of the run's mount namespace, where granted files are mounted
            # below the directory: from here none of them can be seen or deleted.
            cgroup.remove()
            directory.remove()


def _in_own_thread(work: Callable[[], Ended], cancel: Cancel) -> Ended:
    outcome: list[Ended] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="omnibase-run", daemon=True)
    try:
        thread.start()
        thread.join()
    except BaseException:  # Ctrl-C: end the run, then let it through
        cancel.set()
        if thread.ident is not None:
            thread.join()
        raise
    if failure:
        raise failure[0]
    return outcome[0]
