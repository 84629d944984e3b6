"""The opt-out: a trusted script on the host, under its quotas and nothing else.

It confines nothing. It shares with a sandboxed run what keeps the machine in
order: a cgroup with the quotas, a PID namespace that ends whatever the script
started, and a run directory that the next run sweeps if this process dies.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omnibase.core.sandbox import _runsc
from omnibase.core.sandbox.cgroup import Cgroup, Hierarchy
from omnibase.core.sandbox.result import LimitKind, RunResult, Usage
from omnibase.core.sandbox.runner import Cancel, Ended, Observer, RunRequest, in_run
from omnibase.core.sandbox.state import RunDirectory, storage_hint
from omnibase.core.sandbox.streams import Output, Pipes
from omnibase.errors import SandboxStartError

__all__ = ["HostRunner"]

_PIPE_CHUNK: Final = 65536
_POLL_SECONDS: Final = 0.1
_LAST_SIGNAL: Final = 64
# PID 1 of a namespace ignores signals that it has no handler for: the script is its child.
# The search path is set last: what starts the script is not found by the script's own.
# The shell's own remarks ("Terminated") are not the script's output.
_INIT: Final = 'PATH=$1; shift; exec 3>&2 2>/dev/null; (exec "$@" 2>&3 3>&-); exit $?'
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRunner:
    """Runs a script with the interpreter and the rights of the caller.

    Attributes:
        state: The state directory.
        hierarchy: Where cgroups are made.
    """

    state: Path
    hierarchy: Hierarchy

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `runner.SandboxRunner.run`; of the spec, only the quotas count."""
        return in_run(
            self.state,
            self.hierarchy,
            request,
            observer,
            cancel,
            lambda relay, directory, cgroup: _Run(request, relay, cancel).execute(
                directory, cgroup
            ),
        )


class _Run:
    """One run, in its own thread."""

    def __init__(self, request: RunRequest, observer: Observer, cancel: Cancel) -> None:
        self._request = request
        self._spec = request.spec
        self._observer = observer
        self._cancel = cancel
        self._began = time.monotonic()
        self._cause = "exit"
        self._process: _runsc.Process | None = None
        self._stdin = memoryview(request.stdin)
        self._output = Output(
            limit=self._spec.output_bytes,
            truncate=self._spec.truncate_output,
            sink=observer.on_output,
        )

    def _expire(self) -> None:
        if self._process is not None:
            self._process.kill()

    def execute(self, directory: RunDirectory, cgroup: Cgroup) -> Ended:
        cgroup.create(
            memory_bytes=self._spec.memory_bytes,
            cpus=self._spec.cpus,
            host_pids=self._spec.pids + 2,  # the script's init, and a shell on its way in
        )
        # Apart from the run directory's own files, whatever the script is called.
        work, script = directory.path / "work", directory.path / "script" / self._request.name
        try:
            for folder in (work, script.parent):
                folder.mkdir(mode=0o700)
            script.write_bytes(self._request.script)
        except OSError as error:
            raise SandboxStartError(
                f"the run could not be set up in `{directory.path}`: {error}",
                hint=storage_hint(error),
            ) from error
        pipes = Pipes()
        with contextlib.ExitStack() as stack:
            stack.callback(pipes.close_all)
            # Observers are waited for, and the deadline is not: so not in this thread.
            watchdog = threading.Timer(self._spec.wall_seconds, self._expire)
            watchdog.daemon = True
            watchdog.start()  # in the namespaces below no thread can be started
            stack.callback(watchdog.cancel)
            _runsc.enter_mount_namespace()
            _runsc.enter_pid_namespace()
            pipes.open()
            # Told before it runs: what may do anything must not run unannounced.
            self._observer.on_started(directory.run_id)
            process = self._start(script, work, cgroup, pipes)
            self._process = process
            try:
                self._watch(process, pipes, cgroup)
            finally:
                finished = time.monotonic()
                process.kill()
                status = process.wait()
            self._drain(pipes)
            return self._ended(directory.run_id, status, cgroup, finished)

    def _start(self, script: Path, work: Path, cgroup: Cgroup, pipes: Pipes) -> _runsc.Process:
        stdin, stdout, stderr = pipes.guest[:3]
        environment = {"LANG": "C.UTF-8", **dict(self._spec.environment)}
        search = environment.pop("PATH", _PATH)
        try:
            return _runsc.start_isolated(
                ["/bin/sh", "-c", _INIT, "init", search, sys.executable, "-I", str(script),
                 *self._request.argv],
                cgroup_files=cgroup.join_files,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=str(work),
                environment=environment,
            )  # fmt: skip
        except OSError as error:
            raise SandboxStartError(f"the script could not be started: {error}") from error
        finally:
            pipes.close_guest()

    def _watch(self, process: _runsc.Process, pipes: Pipes, cgroup: Cgroup) -> None:
        deadline = self._began + self._spec.wall_seconds
        pidfd = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(pidfd, selectors.EVENT_READ, "end")
                selector.register(self._cancel, selectors.EVENT_READ, "cancel")
                selector.register(pipes.stdin, selectors.EVENT_WRITE, "stdin")
                for name in ("stdout", "stderr"):
                    selector.register(getattr(pipes, name), selectors.EVENT_READ, name)
                while self._cause == "exit":
                    left = max(0.0, deadline - time.monotonic())
                    ready = selector.select(min(left, _POLL_SECONDS))
                    ended = any(key.data == "end" for key, _ in ready)
                    if time.monotonic() >= deadline:
                        self._cause = "time"
                    if ended:
                        return
                    for key, _ in ready:
                        self._serve(selector, pipes, key.data)
                    bound = self._spec.cpu_seconds
                    if bound is not None and cgroup.cpu_seconds() >= bound:
                        self._cause = "cpu"
        finally:
            os.close(pidfd)

    def _serve(self, selector: selectors.BaseSelector, pipes: Pipes, name: str) -> None:
        if name == "cancel":
            self._cause = "cancelled"
        elif name == "stdin":
            with contextlib.suppress(BlockingIOError):
                try:
                    self._stdin = self._stdin[os.write(pipes.stdin, self._stdin[:_PIPE_CHUNK]) :]
                except BrokenPipeError:
                    self._stdin = memoryview(b"")
            if not self._stdin:
                selector.unregister(pipes.stdin)
                pipes.close(name)
        else:
            fd = getattr(pipes, name)
            with contextlib.suppress(BlockingIOError):
                chunk = os.read(fd, _PIPE_CHUNK)
                if not chunk:
                    selector.unregister(fd)
                    pipes.close(name)
                elif not self._output.add(name, chunk):
                    self._cause = "output"

    def _drain(self, pipes: Pipes) -> None:
        for name in ("stdout", "stderr"):
            fd = getattr(pipes, name)
            with contextlib.suppress(BlockingIOError):
                while fd >= 0 and (chunk := os.read(fd, _PIPE_CHUNK)):
                    if not self._output.add(name, chunk) and self._cause == "exit":
                        self._cause = "output"

    def _ended(self, run_id: str, status: int, cgroup: Cgroup, finished: float) -> Ended:
        stats = cgroup.stats()
        limits: list[LimitKind] = [k for k in ("time", "output", "cpu") if k == self._cause]
        if stats.oom_kills:
            limits.append("memory")
        if stats.pids_refused:
            limits.append("pids")
        if self._output.truncated and "output" not in limits:
            limits.append("output")
        code = status if status >= 0 else 128 - status
        result = RunResult(
            run_id=run_id,
            exit_code=code,
            signal=code - 128 if 128 < code <= 128 + _LAST_SIGNAL else None,
            stdout=self._output.kept("stdout"),
            stderr=self._output.kept("stderr"),
            usage=Usage(
                cpu_seconds=stats.cpu_seconds,
                peak_memory_bytes=stats.peak_memory_bytes,
                wall_seconds=time.monotonic() - self._began,
                output_bytes=self._output.total,
            ),
            limits=tuple(limits),
            truncated=self._output.truncated,
            sandboxed=False,
        )
        return Ended(result=result, cause=self._cause, finished=finished)
