"""One run in gVisor: start, feed, watch, end, account, clean up.

A run is one thread with one loop over its descriptors. The thread has a mount
namespace of its own (staged grants vanish with it), and ``runsc`` is PID 1 of a
PID namespace (its death ends and reaps the Sentry, the gofer and every stub).
The script is not sent before the Sentry's trace is alive, so that no run goes
unwatched.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core.sandbox import _runsc
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.monitor.violations import Violation
from omnibase.core.sandbox.preparing import prepare, start
from omnibase.core.sandbox.runner import Cancel, Ended, GVisorRunner, Observer, RunRequest
from omnibase.core.sandbox.scratch import ScratchMeter
from omnibase.core.sandbox.script_error import MAX_REPORT_BYTES, ScriptError, parse_report
from omnibase.core.sandbox.state import RunDirectory, storage_hint
from omnibase.core.sandbox.streams import Output, Pipes
from omnibase.core.secrets import Scrubber
from omnibase.errors import SandboxError, SandboxStartError

if TYPE_CHECKING:
    from omnibase.core.sandbox.collect.collection import Collection
    from omnibase.core.sandbox.databases.copying import DatabaseCopied
    from omnibase.core.sandbox.egress.channel import Ends
    from omnibase.core.sandbox.egress.session import Session

__all__ = ["START_SECONDS", "Run", "host_pids"]

START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_UNWATCHED_SECONDS: Final = 1.0
_CATCH_UP_SECONDS: Final = 0.25  # a flood must not hold up the deadline for longer
_COMPLAINT_BYTES: Final = 600
_PIPE_CHUNK: Final = 65536
# Sentry and gofer threads, and two host tasks for each of the guest's.
_HOST_TASKS: Final = 256


def host_pids(pids: int) -> int:
    """The tasks that the host's cgroup has to allow for so many of the guest's."""
    return _HOST_TASKS + 2 * pids


class Run:
    """One run, in its own thread."""

    _warm = False
    _keeps_stdin = False

    def __init__(self, request: RunRequest, observer: Observer, cancel: Cancel) -> None:
        self._request = request
        self._spec = request.spec
        self._observer = observer
        self._cancel = cancel
        self._run_id = self._sandbox = request.run_id
        self._began = self._finished = time.monotonic()
        self._start_seconds = START_SECONDS
        self._cause = "exit"
        self._fault: SandboxError | None = None
        self._scrubber = Scrubber(request.secrets)
        self._output = self._new_output()
        self._pending: dict[str, memoryview] = {"stdin": memoryview(request.stdin)}
        self._scratch = ScratchMeter()
        self._next_cpu_check = 0.0
        self._cpu_before = 0.0
        self._unwatched_since: float | None = None
        self._sent = False
        self._staged: tuple[DatabaseCopied, ...] = ()
        self._process: _runsc.Process | None = None
        self._network: Session | None = None
        self._left: Collection | None = None
        self._complaint = b""

    def _new_output(self) -> Output:
        return Output(
            limit=self._spec.output_bytes,
            truncate=self._spec.truncate_output,
            sink=self._observer.on_output,
            scrubber=self._scrubber,
        )

    def execute(self, runner: GVisorRunner, directory: RunDirectory, cgroup: Cgroup) -> Ended:
        """Runs it; to be called in a thread of its own, whose namespaces end with it."""
        self._run_id = self._sandbox = directory.run_id
        # Observers are waited for, and the deadline is not: so not in this thread. And
        # before it enters its namespaces, in which no thread can be started.
        watchdog = threading.Timer(self._spec.wall_seconds, self._expire)
        watchdog.daemon = True
        try:
            watchdog.start()
        except RuntimeError as error:
            raise SandboxStartError(
                f"the run got no thread: {error}", hint="lower the number of runs at once"
            ) from error
        try:
            with self._networked():
                return self._execute(runner, directory.path, cgroup)
        finally:
            watchdog.cancel()

    def _expire(self) -> None:
        process = self._process
        if process is not None:
            process.kill()

    @contextlib.contextmanager
    def _networked(self, ends: Ends | None = None) -> Iterator[None]:
        """Has a broker for the block, if the run has network grants."""
        if not self._spec.egress:
            yield
            return
        from omnibase.core.sandbox.egress.session import Session  # most runs have no network

        # Before this thread leaves them: the broker works in the host's namespaces.
        with contextlib.closing(
            Session(self._spec, self._observer.on_egress, self._scrubber.text, ends)
        ) as self._network:
            yield

    def _collect(self, path: Path, fd: int | None = None) -> None:
        if self._spec.outlets:
            from omnibase.core.sandbox.collect.collection import Collection

            self._left = Collection(self._request, path / "collected", self._scrubber, fd)

    def _execute(self, runner: GVisorRunner, path: Path, cgroup: Cgroup) -> Ended:
        cgroup.create(
            memory_bytes=self._spec.memory_bytes,
            cpus=self._spec.cpus,
            host_pids=host_pids(self._spec.pids),
        )
        try:
            prepared = prepare(self._request, path, self._observer.on_staging, self._cancel)
        except OSError as error:
            raise SandboxStartError(
                f"the run could not be set up in `{path}`: {error}", hint=storage_hint(error)
            ) from error
        self._pending["control"] = memoryview(prepared.job)
        self._staged = prepared.staged
        pipes = Pipes()
        with contextlib.ExitStack() as stack:
            stack.callback(pipes.close_all)
            try:
                trace = TraceServer(
                    prepared.endpoint,
                    prepared.judge,
                    self._on_violation,
                    on_secret_read=self._observer.on_secret_read,
                    on_command=self._observer.on_command,
                    scrub=self._scrubber.text,
                )
                stack.callback(trace.close)
                pipes.open()
                self._collect(path)
                if self._left is not None:
                    stack.callback(self._left.close)
            except OSError as error:
                raise SandboxStartError(
                    f"the run has no descriptors: {error.strerror}", hint="`ulimit -n 1024`"
                ) from error
            process = self._process = self._start(runner, path, cgroup, pipes)
            try:
                import omnibase.core.sandbox.ending  # noqa: F401  # while the sandbox boots

                pidfd = os.pidfd_open(process.pid)
                try:
                    self._watch(pidfd, trace, pipes, cgroup, path / "scratch")
                finally:
                    os.close(pidfd)
            finally:
                self._finished = time.monotonic()
                self._scratch.close()
                # Ends PID 1 of the namespace; the kernel ends and reaps the rest before it.
                process.kill()
                status = process.wait()
            return self._account(trace, pipes, cgroup, status)

    def _account(self, trace: TraceServer, pipes: Pipes, cgroup: Cgroup, status: int) -> Ended:
        """Takes what is left, once nothing more can come, and says how the run ended."""
        from omnibase.core.sandbox.ending import conclude

        self._drain(pipes)
        trace.drain()
        network = self._network
        if network is not None:
            network.finish(trace)
        if self._left is not None and self._cause == "exit" and self._fault is None:
            self._left.finish(trace, self._observer)
            self._fault = self._left.fault
        trace.finish()
        ended = trace.script_status
        self._output.finish(cut=self._cause != "exit" or ended is None or ended & 0x7F != 0)
        return conclude(
            trace,
            self._output,
            cgroup.stats(),
            run_id=self._run_id,
            status=status,
            cause=self._cause,
            fault=self._fault,
            complaint=None if self._sent else self._complaint,
            egress_fault=network.fault if network is not None else lambda: None,
            cpu_seconds_before=self._cpu_before,
            wall_seconds=time.monotonic() - self._began,
            scratch_bytes=self._scratch.peak_bytes,
            unreached=network.unreached if network is not None else {},
            network_limits=network.limits if network is not None else (),
            error=self._script_error(pipes),
            finished=self._finished,
            warm=self._warm,
        )

    def _script_error(self, pipes: Pipes) -> ScriptError | None:
        if self._cause != "exit":
            return None  # what ended it was not its exception
        with contextlib.suppress(BlockingIOError):
            return parse_report(os.read(pipes.report, MAX_REPORT_BYTES + 1), self._scrubber.text)
        return None

    def _start(
        self, runner: GVisorRunner, path: Path, cgroup: Cgroup, pipes: Pipes
    ) -> _runsc.Process:
        passed = {3: pipes.guest[3], 6: pipes.guest[4]}
        if self._network is not None:
            passed[4] = self._network.guest_fd
        if self._left is not None:
            passed[5] = self._left.guest_fd
        try:
            return start(runner, path, cgroup, pipes.guest[:3], passed)
        finally:
            pipes.close_guest()
            if self._network is not None:
                self._network.release_guest()
            if self._left is not None:
                self._left.release_guest()

    def _watch(
        self,
        pidfd: int,
        trace: TraceServer,
        pipes: Pipes,
        cgroup: Cgroup,
        scratch: Path,
    ) -> None:
        """Serves all descriptors until the process ends or has to be ended."""
        deadline = self._began + self._spec.wall_seconds
        start_deadline = self._began + self._start_seconds
        # For so few descriptors poll(2) costs less than epoll(7), which is to be set up first.
        with selectors.PollSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ, "end")
            selector.register(self._cancel, selectors.EVENT_READ, "cancel")
            selector.register(trace.fileno(), selectors.EVENT_READ, "trace")
            for name in ("stdout", "stderr"):
                selector.register(getattr(pipes, name), selectors.EVENT_READ, name)
            if self._network is not None:
                selector.register(self._network, selectors.EVENT_READ, "egress")
            if self._left is not None:
                selector.register(self._left, selectors.EVENT_READ, "collect")
            self._prelude(selector, pipes)
            while self._cause == "exit" and self._fault is None:
                timeout = (
                    min(deadline, deadline if self._sent else start_deadline) - time.monotonic()
                )
                if self._looks_often(trace):
                    timeout = min(timeout, _POLL_SECONDS)
                ready = selector.select(max(0.0, timeout))
                ended = False
                for key, _ in ready:
                    if key.data == "trace":
                        self._serve_trace(selector, trace)
                    elif key.data == "egress":
                        self._serve_network(selector, trace)
                    elif key.data == "collect":
                        self._take_left(selector)
                    elif key.data == "end":
                        ended = True
                    elif key.data == "cancel":
                        self._cause = "cancelled"
                    elif key.data in ("stdout", "stderr"):
                        self._read(selector, pipes, key.data)
                    else:
                        self._write(selector, pipes, key.data)
                self._scratch.sample()
                if ended and time.monotonic() >= deadline:
                    self._cause = "time"  # the watchdog was first
                if ended or self._is_over(trace):
                    return
                if not self._sent and self._may_send(trace):
                    self._sent = True
                    self._send(selector, pipes, scratch)
                self._check_limits(cgroup, deadline, None if self._sent else start_deadline)

    def _is_over(self, trace: TraceServer) -> bool:
        """With PID 1 the guest is over: no need to wait for runsc to fold it up."""
        return trace.agent_status is not None

    def _looks_often(self, trace: TraceServer) -> bool:
        """Whether there is something to look at even if nothing comes."""
        return self._unwatched_since is not None or bool(self._spec.cpu_seconds and self._sent)

    def _prelude(self, selector: selectors.BaseSelector, pipes: Pipes) -> None:
        """What comes before the first turn."""

    def _may_send(self, trace: TraceServer) -> bool:
        """Whether the script can be sent now."""
        return trace.started

    def _send(self, selector: selectors.BaseSelector, pipes: Pipes, scratch: Path) -> None:
        self._scratch.hold(scratch)
        self._tell_start(selector, pipes)

    def _tell_start(self, selector: selectors.BaseSelector, pipes: Pipes) -> None:
        """Puts the start on record, and then sends the script."""
        boot_seconds = time.monotonic() - self._began
        self._observer.on_started(self._sandbox, boot_seconds, warm=self._warm)
        for told in self._staged:
            self._observer.on_staged(told)
        for name in ("control", "stdin"):
            self._feed(selector, pipes, name)

    def _feed(self, selector: selectors.BaseSelector, pipes: Pipes, name: str) -> None:
        """Writes what there is to write, now as far as there is room."""
        selector.register(getattr(pipes, name), selectors.EVENT_WRITE, name)
        self._write(selector, pipes, name)

    def _serve_trace(self, selector: selectors.BaseSelector, trace: TraceServer) -> None:
        if self._unwatched_since is not None:  # it ended in this turn, as the broker told of more
            return
        before = trace.fileno()
        changed = trace.on_readable()
        if changed or trace.closed:
            selector.unregister(before)
        if changed:
            selector.register(trace.fileno(), selectors.EVENT_READ, "trace")
        if trace.closed:
            self._unwatched_since = time.monotonic()
        if trace.error is not None:
            self._fault = SandboxError(
                f"the trace of the sandbox is malformed: {trace.error}",
                hint="the Sentry may be compromised; the run was ended",
            )

    def _serve_network(self, selector: selectors.BaseSelector, trace: TraceServer) -> None:
        def catch_up() -> None:
            until = time.monotonic() + _CATCH_UP_SECONDS
            watched = select.poll()
            watched.register(trace.fileno(), select.POLLIN)
            while trace.started and not trace.closed and trace.error is None and watched.poll(0):
                self._serve_trace(selector, trace)
                if time.monotonic() > until:
                    break

        if self._network is not None:
            fault = self._network.serve(trace, catch_up)
            if fault is not None and not trace.closed:
                self._fault = fault

    def _take_left(self, selector: selectors.BaseSelector) -> None:
        if self._left is not None and not self._left.on_readable():
            selector.unregister(self._left)
            self._fault = self._left.fault

    def _read(self, selector: selectors.BaseSelector, pipes: Pipes, name: str) -> None:
        fd = getattr(pipes, name)
        try:
            chunk = os.read(fd, _PIPE_CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            selector.unregister(fd)
            pipes.close(name)
            return
        if not self._take(name, chunk):
            self._cause = "output"

    def _take(self, name: str, chunk: bytes) -> bool:
        """Keeps output; what comes before the script was sent is runsc's own complaint."""
        if self._sent:
            return self._output.add(name, chunk)
        self._complaint = (self._complaint + chunk)[-_COMPLAINT_BYTES:]
        return True

    def _write(self, selector: selectors.BaseSelector, pipes: Pipes, name: str) -> None:
        fd = getattr(pipes, name)
        data = self._pending[name]
        try:
            if data:
                data = data[os.write(fd, data[: _PIPE_CHUNK * 16]) :]
                self._pending[name] = data
        except BlockingIOError:
            return
        except BrokenPipeError:
            data = memoryview(b"")
        if not data:
            selector.unregister(fd)
            if (
                name == "stdin" and not self._keeps_stdin
            ):  # the control pipe stays open: it is the guest's lifeline
                pipes.close(name)

    def _check_limits(self, cgroup: Cgroup, deadline: float, start_deadline: float | None) -> None:
        now = time.monotonic()
        if self._cause != "exit":
            return
        if now >= deadline:
            self._cause = "time"
        elif start_deadline is not None and now >= start_deadline:
            self._fault = SandboxStartError(
                f"no sign of life from the sandbox's trace within {self._start_seconds:g} s",
                hint="run `omnibase doctor`",
            )
        elif (
            self._unwatched_since is not None and now >= self._unwatched_since + _UNWATCHED_SECONDS
        ):
            self._fault = SandboxError(
                "the sandbox went on after its trace had ended",
                hint="the Sentry may be compromised; the run was ended",
            )
        elif self._spec.cpu_seconds is not None and now >= self._next_cpu_check:
            self._next_cpu_check = now + _POLL_SECONDS
            if cgroup.cpu_seconds() - self._cpu_before >= self._spec.cpu_seconds:
                self._cause = "cpu"

    def _on_violation(self, violation: Violation) -> None:
        self._observer.on_violation(violation)
        # An attempt that succeeded is on something whose cover the host took away.
        got_through = violation.errno == 0 and violation.reason is not None
        if (self._spec.kill_on_violation or got_through) and self._cause == "exit":
            self._cause = "violation"

    def _drain(self, pipes: Pipes) -> None:
        """Reads what the dead left in the pipes: every writer is gone, so they end."""
        for name in ("stdout", "stderr"):
            fd = getattr(pipes, name)
            with contextlib.suppress(BlockingIOError):
                while fd >= 0 and (chunk := os.read(fd, _PIPE_CHUNK)):
                    if not self._take(name, chunk) and self._cause == "exit":
                        self._cause = "output"
