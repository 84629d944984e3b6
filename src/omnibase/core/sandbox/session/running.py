"""A session as a run: its script's process takes call after call, and all is watched as ever.

What the trace shows until the sign of a call's end belongs to that call, and what it shows
later to the next one, or to the session's end: whatever the code forges, its attempts stay
with its own session.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, cast

from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.lifecycle import Run
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.result import LimitKind, Usage
from omnibase.core.sandbox.runner import (
    Cancel,
    Ended,
    GVisorRunner,
    Observer,
    Relay,
    RunRequest,
    in_run,
)
from omnibase.core.sandbox.session import report
from omnibase.core.sandbox.session.calls import CallResult, Calls, Pending
from omnibase.core.sandbox.streams import Pipes

__all__ = ["CallObserver", "SessionRunner"]

_SIGN: Final = "/.call/"
_MOST_READ_BYTES: Final = 4 << 20
_CHUNK: Final = 65536


class CallObserver(Observer, Protocol):
    """Told of calls, too."""

    def on_call(self, number: int, sha256: str, size: int) -> None:
        """The code of a call is sent next."""

    def on_called(self, result: CallResult) -> None:
        """A call is over, and the session goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRunner:
    """Runs one session to its end; see `SandboxRunner`.

    Attributes:
        inner: Starts it.
        admission: A session has a place as long as it lives.
        calls: What it is asked.
        wait_seconds: Longest wait for a place.
    """

    inner: GVisorRunner
    admission: Admission
    calls: Calls
    wait_seconds: float

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`."""
        memory = request.spec.memory_bytes
        with self.admission.place(memory, self.wait_seconds, cancel):
            return in_run(
                self.inner.state,
                self.inner.hierarchy,
                request,
                observer,
                cancel,
                lambda relay, directory, cgroup: _SessionRun(
                    replace(request, session=True),
                    relay,
                    cast(CallObserver, observer),
                    cancel,
                    self.calls,
                ).execute(self.inner, directory, cgroup),
            )


class _SessionRun(Run):
    """The run's thread."""

    _keeps_stdin = True

    def __init__(
        self,
        request: RunRequest,
        relay: Relay,
        observer: CallObserver,
        cancel: Cancel,
        calls: Calls,
    ) -> None:
        super().__init__(request, relay, cancel)
        self._calls = calls
        self._relay, self._call_observer = relay, observer
        self._call: Pending | None = None
        self._call_began = 0.0
        self._trace: TraceServer
        self._pipes: Pipes
        self._cgroup: Cgroup

    def _watch(
        self, pidfd: int, trace: TraceServer, pipes: Pipes, cgroup: Cgroup, scratch: Path
    ) -> None:
        self._trace, self._pipes, self._cgroup = trace, pipes, cgroup
        super()._watch(pidfd, trace, pipes, cgroup, scratch)

    def _tell_start(self, selector: selectors.BaseSelector, pipes: Pipes) -> None:
        super()._tell_start(selector, pipes)
        selector.register(self._calls, selectors.EVENT_READ, "calls")
        first = self._calls.first
        first.code = self._request.script
        self._begin(first, selector, pipes)

    def _feed(self, selector: selectors.BaseSelector, pipes: Pipes, name: str) -> None:
        if self._pending[name]:  # standard input stays open between calls
            super()._feed(selector, pipes, name)

    def _write(self, selector: selectors.BaseSelector, pipes: Pipes, name: str) -> None:
        if name == "calls":
            self._take_call(selector, pipes)
        else:
            super()._write(selector, pipes, name)

    def _account(self, trace: TraceServer, pipes: Pipes, cgroup: Cgroup, status: int) -> Ended:
        self._cpu_before = 0.0  # what it used in all
        return super()._account(trace, pipes, cgroup, status)

    def _take_call(self, selector: selectors.BaseSelector, pipes: Pipes) -> None:
        pending = self._calls.take()
        if self._call is not None:
            if self._call.expired and self._cause == "exit":
                self._cause = "time"
        elif pending is not None:
            self._begin(pending, selector, pipes)
        elif self._calls.closing and pipes.stdin >= 0:
            pipes.close("stdin")  # it ends by itself, as a script does

    def _begin(self, pending: Pending, selector: selectors.BaseSelector, pipes: Pipes) -> None:
        if pending.number or pending.code:
            number, sha256, size = pending.number, pending.sha256, len(pending.code)
            self._relay.hand_over(lambda: self._call_observer.on_call(number, sha256, size))
        self._call, self._call_began = pending, time.monotonic()
        self._cpu_before = self._cgroup.cpu_seconds()
        self._read_report()  # what was put there before is no report of this call
        self._trace.await_sign(f"{_SIGN}{pending.token}", self._finish)
        self._pending["stdin"] = memoryview(pending.frame())
        self._feed(selector, pipes, "stdin")

    def _finish(self) -> None:
        """The sign of the call's end is the latest that the trace has shown."""
        pending = self._call
        if pending is None:
            return
        self._read_streams()
        if self._cause != "exit":
            return  # past its limit: the session ends, and this call with it
        told = report.parse(self._read_report(), self._scrubber.text)
        turn = self._trace.turn()
        output, self._output = self._output, self._new_output()
        output.finish(cut=False)
        limits: tuple[LimitKind, ...] = ("pids",) if turn.pids_refused else ()
        stats = self._cgroup.stats()
        self._scratch.sample()
        result = CallResult(
            run_id=self._run_id,
            call=pending.number,
            exit_code=told.exit_code,
            value=told.value,
            error=told.error,
            stdout=output.kept("stdout"),
            stderr=output.kept("stderr"),
            violations=turn.ledger.violations(),
            limits=(*limits, "output") if output.truncated else limits,
            truncated=output.truncated,
            trace_dropped=turn.dropped + turn.ledger.overflow,
            usage=Usage(
                cpu_seconds=max(0.0, stats.cpu_seconds - self._cpu_before),
                peak_memory_bytes=stats.peak_memory_bytes,
                wall_seconds=time.monotonic() - self._call_began,
                output_bytes=output.total,
                scratch_bytes=self._scratch.peak_bytes,
            ),
        )
        self._call = None
        if pending.number or pending.code:
            self._relay.hand_over(lambda: self._call_observer.on_called(result))
        pending.finish(result)

    def _read_streams(self) -> None:
        """Takes what was written until now, but from a thread that writes on no end of it."""
        for name in ("stdout", "stderr"):
            fd, left = getattr(self._pipes, name), _MOST_READ_BYTES
            with contextlib.suppress(BlockingIOError):
                while fd >= 0 and left > 0 and (chunk := os.read(fd, _CHUNK)):
                    left -= len(chunk)
                    if not self._take(name, chunk) and self._cause == "exit":
                        self._cause = "output"

    def _read_report(self) -> bytes:
        data, left = b"", _MOST_READ_BYTES
        with contextlib.suppress(BlockingIOError):
            while left > 0 and (chunk := os.read(self._pipes.report, _CHUNK)):
                left -= len(chunk)
                data = (data + chunk)[: report.MAX_BYTES + 1]
        return data
