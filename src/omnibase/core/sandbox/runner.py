"""The runner: what it is asked, what it promises, and the gVisor one.

What a run does step by step is in `lifecycle`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from omnibase.core.sandbox import _runsc
from omnibase.core.sandbox.cgroup import Cgroup, Hierarchy
from omnibase.core.sandbox.state import RunDirectory, storage_hint
from omnibase.errors import SandboxError, SandboxStartError

if TYPE_CHECKING:
    from omnibase.core.sandbox.collect.reports import Collected, Left
    from omnibase.core.sandbox.commands.layout import CommandLayer
    from omnibase.core.sandbox.databases.copying import DatabaseCopied
    from omnibase.core.sandbox.egress.reports import Closed, Failed, Opened
    from omnibase.core.sandbox.monitor.executions import CommandStart
    from omnibase.core.sandbox.monitor.reads import SecretReading
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.registry_files import RegistryFile
    from omnibase.core.sandbox.result import RunResult
    from omnibase.core.sandbox.spec import SandboxSpec
    from omnibase.core.secrets import Secret

__all__ = [
    "Cancel",
    "Ended",
    "GVisorRunner",
    "Observer",
    "Relay",
    "RunRequest",
    "SandboxRunner",
    "in_run",
]


# A signal that comes just before a lock is waited for does not interrupt the wait:
# its Python handler runs at the next wake-up.
_WAKE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One script and the spec to run it under.

    Attributes:
        spec: Everything that was decided.
        script: Source bytes, as Python reads them.
        name: File name that the script sees as its own (no slash).
        argv: Arguments after the script's name.
        stdin: Bytes on standard input.
        run_id: 32 hexadecimal digits, unguessable; made if empty.
        commands: What ``spec.commands`` names, brought in.
        registry: What it is shown of the registry.
        secrets: Values of what ``spec.secrets`` names, and what is made of them.
        artifacts: Names of what `Observer.on_staging` puts there.
        covers: Says whether a grant covers ``(type, name)``: the name of a file that the
            script left in the outlet for that type.
        idempotent: Running it again does no harm.
        session: Its process is to take call after call: see `session.running`.
    """

    spec: SandboxSpec
    script: bytes
    name: str = "script.py"
    argv: tuple[str, ...] = ()
    stdin: bytes = b""
    run_id: str = ""
    secrets: tuple[Secret, ...] = ()
    commands: CommandLayer | None = None
    idempotent: bool = False
    session: bool = False
    registry: tuple[RegistryFile, ...] = ()
    artifacts: tuple[str, ...] = ()
    covers: Callable[[str, str], bool] = lambda _kind, _name: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        result: What came out.
        cause: ``exit`` by itself; else what ended it: ``time``, ``output``,
            ``cpu``, ``memory``, ``violation``, ``cancelled``.
        fault: A failure of the sandbox itself, for the caller to raise.
        finished: When the script was over, by the monotonic clock, in seconds.
    """

    result: RunResult
    cause: str
    fault: SandboxError | None = None
    finished: float | None = None


class Observer(Protocol):
    """Told what happens while it happens, in the caller's thread; the run waits for it."""

    def on_retry(self, attempt: int, reason: str, delay_seconds: float) -> None:
        """An attempt failed, and after the delay there is another."""

    def on_staging(self, directory: Path) -> None:
        """The run has artifacts to read: it wants them below this directory, by name."""

    def on_started(
        self, run_id: str, boot_seconds: float | None = None, *, warm: bool = False
    ) -> None:
        """The trace is alive and the script is sent next; told with what that took.

        Args:
            run_id: Name of the sandbox's directory.
            boot_seconds: From the beginning until now.
            warm: The sandbox had been started before.
        """

    def on_staged(self, told: DatabaseCopied) -> None:
        """Something was made for the script to read; told once it has started."""

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Bytes came out of ``stdout`` or ``stderr``."""

    def on_violation(self, violation: Violation) -> None:
        """A kind of attempt was seen for the first time."""

    def on_secret_read(self, reading: SecretReading) -> None:
        """The script opened a secret, or may have, for the first time."""

    def on_command(self, start: CommandStart) -> None:
        """A granted command was started for the first time; at the end, how often it was."""

    def on_egress(self, report: Opened | Closed | Failed) -> None:
        """A granted connection came up, ended, or did not come up."""

    def on_collected(self, collected: tuple[Collected, ...], left: tuple[Left, ...]) -> None:
        """The script has ended by itself, and left files in its outlets.

        Their paths are gone once the run is.
        """


class Cancel:
    """Ends a run from another thread."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def set(self) -> None:
        """Asks the run to end; it cleans up as always."""
        with contextlib.suppress(OSError):
            os.write(self._writer, b"x")

    def is_set(self) -> bool:
        """Whether it was asked for."""
        poller = select.poll()  # descriptors past 1024 too
        poller.register(self._reader, select.POLLIN)
        return bool(poller.poll(0))

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

        return in_run(
            self.state,
            self.hierarchy,
            request,
            observer,
            cancel,
            lambda relay, directory, cgroup: Run(request, relay, cancel).execute(
                self, directory, cgroup
            ),
        )


def in_run(
    state: Path,
    hierarchy: Hierarchy,
    request: RunRequest,
    observer: Observer,
    cancel: Cancel,
    work: Callable[[Relay, RunDirectory, Cgroup], Ended],
) -> Ended:
    """Does a run's work in a thread of its own, with a directory and a cgroup that then go.

    Args:
        state: The state directory.
        hierarchy: Where cgroups are made.
        request: The run.
        observer: Told in the caller's thread.
        cancel: Ends it early.
        work: Gets the observer to tell, the directory and the cgroup.
    """
    directory = RunDirectory.create(state, request.run_id)
    cgroup = Cgroup(hierarchy, directory.run_id)
    try:
        try:
            directory.record_cgroups(cgroup.paths)
        except OSError as error:
            raise SandboxStartError(
                f"`{directory.path}` cannot be written: {error.strerror}",
                hint=storage_hint(error),
            ) from error
        relay = Relay(observer, cancel)
        return relay.serve(lambda: work(relay, directory, cgroup))
    finally:
        # Outside of the run's mount namespace, where granted files are mounted
        # below the directory: from here none of them can be seen or deleted.
        if cgroup.remove():
            directory.remove()
        else:  # the next sweep finds it by the directory
            directory.release()


class Relay:
    """Runs a run in a thread of its own, and its observer in the caller's.

    The run's thread is in other namespaces than the host: what an observer opens
    or starts there would end with the run. So each call is handed over, and the
    run waits for its answer.
    """

    def __init__(self, observer: Observer, cancel: Cancel) -> None:
        self._observer = observer
        self._cancel = cancel
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def on_retry(self, attempt: int, reason: str, delay_seconds: float) -> None:
        self.hand_over(lambda: self._observer.on_retry(attempt, reason, delay_seconds))

    def on_staging(self, directory: Path) -> None:
        self.hand_over(lambda: self._observer.on_staging(directory))

    def on_started(
        self, run_id: str, boot_seconds: float | None = None, *, warm: bool = False
    ) -> None:
        self.hand_over(lambda: self._observer.on_started(run_id, boot_seconds, warm=warm))

    def on_staged(self, told: DatabaseCopied) -> None:
        self.hand_over(lambda: self._observer.on_staged(told))

    def on_output(self, stream: str, chunk: bytes) -> None:
        self.hand_over(lambda: self._observer.on_output(stream, chunk))

    def on_violation(self, violation: Violation) -> None:
        self.hand_over(lambda: self._observer.on_violation(violation))

    def on_secret_read(self, reading: SecretReading) -> None:
        self.hand_over(lambda: self._observer.on_secret_read(reading))

    def on_command(self, start: CommandStart) -> None:
        self.hand_over(lambda: self._observer.on_command(start))

    def on_egress(self, report: Opened | Closed | Failed) -> None:
        self.hand_over(lambda: self._observer.on_egress(report))

    def on_collected(self, collected: tuple[Collected, ...], left: tuple[Left, ...]) -> None:
        self.hand_over(lambda: self._observer.on_collected(collected, left))

    def hand_over(self, call: Callable[[], None]) -> None:
        """Has something done in the caller's thread, and waits for it."""
        self._calls.put(call)
        error = self._answers.get()
        if error is not None:
            raise error

    def serve(self, work: Callable[[], Ended]) -> Ended:
        """Does the work, answering its calls; an exception of either comes out here.

        An interrupt (Ctrl-C) may strike anywhere, even between taking a call and
        answering it. From then on no call is served: one answer is put in advance,
        which makes the run's pending or next call raise, and the run ends.
        """
        outcome: list[Ended] = []
        failure: list[BaseException] = []
        finished = threading.Event()

        def body() -> None:
            try:
                outcome.append(work())
            except BaseException as error:
                failure.append(error)
            finally:
                finished.set()
                self._calls.put(None)

        thread = threading.Thread(target=body, name="omnibase-run", daemon=True)
        interrupt: BaseException | None = None
        try:
            try:
                thread.start()
            except RuntimeError as error:  # no more threads: nothing will run
                finished.set()
                raise SandboxStartError(
                    f"the run got no thread: {error}", hint="lower the number of runs at once"
                ) from error
            while (call := self._next_call()) is not None:
                self._answers.put(_exception_of(call))
        except BaseException as error:
            interrupt = error
            self._cancel.set()
            self._answers.put(error)
        while not finished.is_set() or thread.is_alive():
            try:
                finished.wait(_WAKE_SECONDS)
                thread.join(_WAKE_SECONDS)
            except BaseException as error:
                interrupt = interrupt or error
                self._cancel.set()
                self._answers.put(error)
        if interrupt is not None:
            raise interrupt
        if failure:
            raise failure[0]
        return outcome[0]

    def _next_call(self) -> Callable[[], None] | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._calls.get(timeout=_WAKE_SECONDS)


def _exception_of(call: Callable[[], None]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None
