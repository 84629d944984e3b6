"""What a run says on the bus."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from omnibase.core import events
from omnibase.core.sandbox.verdict import UNITS, spec_limits
from omnibase.errors import SandboxStartError

if TYPE_CHECKING:
    from omnibase.core.sandbox.collect.reports import Collected, Left
    from omnibase.core.sandbox.databases.copying import DatabaseCopied
    from omnibase.core.sandbox.egress.reports import Closed, Failed, Opened
    from omnibase.core.sandbox.monitor.executions import CommandStart
    from omnibase.core.sandbox.monitor.reads import SecretReading
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.result import RunResult
    from omnibase.core.sandbox.runner import Ended, RunRequest
    from omnibase.core.sandbox.session.calls import CallResult

__all__ = ["Exchange", "Note", "Recorder", "sandbox_start"]


def sandbox_start(
    request: RunRequest, platform: str, runtime_version: str, enforcement: Mapping[str, str]
) -> tuple[events.Payload, ...]:
    """Returns the events that the start of a run makes.

    Args:
        request: The run.
        platform: gVisor's.
        runtime_version: ``runsc``'s.
        enforcement: ``capability → how it is enforced``.
    """
    spec = request.spec
    commands = request.commands.commands if request.commands is not None else ()
    granted = [
        events.CapabilityGranted(capability=grant, enforcement=how)
        for grant, how in enforcement.items()
    ]
    start = events.SandboxStart(
        script=request.name,
        script_sha256=hashlib.sha256(request.script).hexdigest(),
        grants=spec.grants,
        quotas={
            "cpus": spec.cpus,
            "memory_bytes": spec.memory_bytes,
            "output_bytes": spec.output_bytes,
            "pids": spec.pids,
            "scratch_bytes": spec.scratch_bytes,
            "wall_seconds": spec.wall_seconds,
        },
        platform=platform,
        runtime_version=runtime_version,
        image_digest=spec.image_digest,
        commands={command.name: command.path for command in commands},
        commands_sha256={command.name: command.sha256 for command in commands},
    )
    return (*granted, start)


class Exchange(Protocol):
    """Gives a run files and takes those that it leaves, in the thread of its caller."""

    def stage(self, directory: Path) -> None:
        """Puts what the script may read below a directory, which is the guest's ``/artifacts``."""

    def take(self, collected: tuple[Collected, ...], left: tuple[Left, ...]) -> None:
        """Takes what the script left, of the types of capabilities that are its own."""


class Note(Protocol):
    """Kept while a run has a start on record and no end."""

    def begin(self, sandbox: str) -> None:
        """The start is about to be told; the run's directory has that name."""

    def end(self, event: events.Event) -> None:
        """The end has been told."""


class Recorder:
    """Observes one run and puts it on the bus.

    Args:
        emitter: Of the run.
        request: The run.
        started: The events that its start makes.
        on_output: Called with output as it comes.
        check: Called once its start is on the bus; what it raises ends the run.
        exchanges: What gives it files, and takes those that it leaves.
        note: Kept until its end has been told.
    """

    def __init__(
        self,
        emitter: events.Emitter,
        request: RunRequest,
        started: tuple[events.Payload, ...],
        *,
        on_output: Callable[[str, bytes], None] | None = None,
        check: Callable[[], None] = lambda: None,
        exchanges: tuple[Exchange, ...] = (),
        note: Note | None = None,
    ) -> None:
        self._emitter = emitter
        self._exchanges = exchanges
        self._check = check
        self._request = request
        self._start = started
        self._on_output = on_output
        self._note = note
        self._called = _Called()
        self._started: float | None = None
        self._over = False

    @property
    def started(self) -> bool:
        """Whether a start is on the bus."""
        return self._started is not None

    def on_retry(self, attempt: int, reason: str, delay_seconds: float) -> None:
        """See `runner.Observer`."""
        self._emitter.emit(
            events.RunRetried(attempt=attempt, reason=reason, delay_seconds=delay_seconds)
        )

    def on_staging(self, directory: Path) -> None:
        """See `runner.Observer`."""
        for exchange in self._exchanges:
            exchange.stage(directory)

    def on_started(
        self, run_id: str, boot_seconds: float | None = None, *, warm: bool = False
    ) -> None:
        """See `runner.Observer`."""
        if self._note is not None:
            try:
                self._note.begin(run_id)
            except OSError as error:
                from omnibase.core.sandbox.state import storage_hint

                raise SandboxStartError(
                    f"the run cannot be noted: {error}", hint=storage_hint(error)
                ) from error
        self._started = time.monotonic()
        before = max(0.0, self._started - self._emitter.began - (boot_seconds or 0.0))
        for payload in self._start:
            if isinstance(payload, events.SandboxStart):
                payload = replace(
                    payload, prepare_seconds=before, boot_seconds=boot_seconds,
                    start="warm" if warm else "cold",
                )  # fmt: skip
            elif isinstance(payload, events.UnsandboxedStart):
                payload = replace(payload, prepare_seconds=before)
            self._emitter.emit(payload)
        self._check()

    def on_staged(self, told: DatabaseCopied) -> None:
        """See `runner.Observer`."""
        self._emitter.emit(
            events.DatabaseCopied(
                capability=told.capability, database=told.path, size_bytes=told.size
            )
        )

    def on_output(self, stream: str, chunk: bytes) -> None:
        """See `runner.Observer`."""
        if self._on_output is not None:
            self._on_output(stream, chunk)

    def on_violation(self, violation: Violation) -> None:
        """See `runner.Observer`."""
        self._emitter.emit(_violation_event(violation))

    def on_secret_read(self, reading: SecretReading) -> None:
        """See `runner.Observer`."""
        self._emitter.emit(
            events.SecretRead(
                secret=reading.secret,
                operation=reading.operation,
                pid=reading.pid,
                process_name=reading.process_name,
            )
        )

    def on_command(self, start: CommandStart) -> None:
        """See `runner.Observer`."""
        self._emitter.emit(events.CommandStarted(command=start.command, count=start.count))

    def on_egress(self, report: Opened | Closed | Failed) -> None:
        """See `runner.Observer`."""
        self._emitter.emit(_egress_event(report))

    def on_collected(self, collected: tuple[Collected, ...], left: tuple[Left, ...]) -> None:
        """See `runner.Observer`."""
        for exchange in self._exchanges:
            exchange.take(collected, left)

    def on_call(self, number: int, sha256: str, size: int) -> None:
        """See `session.running.CallObserver`."""
        self._emitter.emit(
            events.SessionCallStart(call=number, code_sha256=sha256, code_bytes=size)
        )

    def on_called(self, result: CallResult) -> None:
        """See `session.running.CallObserver`."""
        self._tell_counts(result)
        self._called = _Called(
            self._called.violations + _count(result),
            self._called.output_bytes + result.usage.output_bytes,
        )
        outcome = "ok" if result.exit_code == 0 else "failed"
        self._emitter.emit(
            events.SessionCallEnd(
                call=result.call,
                exit_code=result.exit_code,
                outcome="violation" if result.violations else outcome,
                wall_seconds=result.usage.wall_seconds,
                output_bytes=result.usage.output_bytes,
                violations=_count(result),
            )
        )

    def abandoned(self, error: BaseException) -> None:
        """Reports the end of a run that gave no account of itself, if it had started."""
        if self._started is not None and not self._over:
            self._tell_end(
                events.SandboxExit(
                    # What asked it to end is an interrupt, and no error.
                    outcome="aborted" if isinstance(error, Exception) else "cancelled",
                    wall_seconds=time.monotonic() - self._started,
                )
            )

    def ended(self, ended: Ended) -> None:
        """Reports what only the end tells: counts, limits, gaps, and the exit itself."""
        if self._started is None:
            return  # nothing of the script ran: there is no start to end
        result = ended.result
        self._tell_counts(result)
        usage = result.usage
        finished = None if ended.finished is None else max(ended.finished, self._started)
        self._tell_end(
            events.SandboxExit(
                exit_code=result.exit_code,
                signal=result.signal,
                outcome=_outcome(ended, tried=self._called.violations > 0),
                wall_seconds=usage.wall_seconds,
                cpu_seconds=usage.cpu_seconds,
                peak_memory_bytes=usage.peak_memory_bytes,
                output_bytes=usage.output_bytes + self._called.output_bytes,
                violations=_count(result) + self._called.violations,
                script_seconds=None if finished is None else finished - self._started,
                teardown_seconds=None if finished is None else time.monotonic() - finished,
            )
        )

    def _tell_counts(self, result: RunResult) -> None:
        for violation in result.violations:
            if violation.count > 1:
                self._emitter.emit(_violation_event(violation))
        for kind in result.limits:
            limit = spec_limits(self._request)[kind]
            self._emitter.emit(
                events.ResourceLimitExceeded(kind=kind, limit=limit, unit=UNITS[kind])
            )
        if result.trace_dropped:
            self._emitter.emit(
                events.MonitorGap(
                    dropped=result.trace_dropped,
                    reason="the Sentry's trace overflowed, or more kinds of attempt than are kept",
                )
            )

    def _tell_end(self, end: events.SandboxExit) -> None:
        # Before: an interrupt may come out of it with the end told, and there is one.
        # Whether it was told is then for recovery to see.
        self._over = True
        event = self._emitter.emit(end)
        if self._note is not None:
            self._note.end(event)


def _violation_event(violation: Violation) -> events.SandboxViolation:
    return events.SandboxViolation(
        capability=violation.capability,
        operation=violation.operation,
        resource=violation.resource,
        errno=violation.errno,
        errno_name=violation.errno_name,
        pid=violation.pid,
        process_name=violation.process_name,
        count=violation.count,
        reason=violation.reason,
        evidence=violation.evidence,
        first_seen=events.utc(violation.first_seen),
        last_seen=events.utc(violation.last_seen),
    )


def _egress_event(report: Opened | Closed | Failed) -> events.Payload:
    from omnibase.core.sandbox.egress.reports import Failed, Opened

    if isinstance(report, Failed):
        return events.EgressFailed(
            target=report.target, capability=report.capability, reason=report.reason
        )
    if isinstance(report, Opened):
        return events.EgressOpened(
            connection=report.connection,
            target=report.target,
            address=report.address,
            capability=report.capability,
        )
    return events.EgressClosed(
        connection=report.connection,
        target=report.target,
        address=report.address,
        capability=report.capability,
        sent_bytes=report.sent,
        received_bytes=report.received,
        seconds=report.seconds,
        reason=report.reason,
    )


class _Called(NamedTuple):
    """What the calls of a session came to that are over."""

    violations: int = 0
    output_bytes: int = 0


def _count(result: RunResult) -> int:
    return sum(violation.count for violation in result.violations)


def _outcome(ended: Ended, *, tried: bool) -> str:
    result = ended.result
    if ended.fault is not None:
        return "aborted"
    if ended.cause == "cancelled":
        return "cancelled"
    if result.violations or tried:
        return "violation"
    if ended.cause == "time":
        return "timeout"
    if ended.cause != "exit":
        return "limit"
    return "ok" if result.exit_code == 0 else "failed"
