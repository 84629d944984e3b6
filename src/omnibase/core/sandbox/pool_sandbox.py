"""A warm sandbox by itself: how it starts, answers, and shows that nothing was done in it.

Who starts it when, and for whom, is `pool_member`'s.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omnibase.core.sandbox import _runsc, _sys, bundle
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.egress.channel import make_ends
from omnibase.core.sandbox.lifecycle import START_SECONDS, host_pids
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.preparing import (
    Staged,
    judge_of,
    make_places,
    stage_early,
    start,
    write_bundle,
)
from omnibase.core.sandbox.runner import GVisorRunner, RunRequest
from omnibase.core.sandbox.scratch import ScratchMeter
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.core.sandbox.state import RunDirectory, storage_hint
from omnibase.core.sandbox.streams import Pipes
from omnibase.errors import SandboxError, SandboxStartError

__all__ = ["Recipe", "WarmSandbox"]

_ANSWER_SECONDS: Final = 2.0
_TWIN_SECONDS: Final = 0.5
_COMPLAINT_BYTES: Final = 600
_BOOT_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the members of a pool are.

    Attributes:
        runner: Starts them.
        base: The spec that they are started for: no grants, the pool's quotas and packages.
        preload: Modules that the script's process imports while there is time.
        held: Checks the packages, and keeps them meanwhile.
    """

    runner: GVisorRunner
    base: SandboxSpec
    preload: tuple[str, ...] = ()
    held: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext


class WarmSandbox:
    """A sandbox that is started before there is a job.

    Args:
        recipe: What it is.
        directory: Its own; removed by whoever made it, once it is gone, from the host's
            mount namespace alone: in its own, granted files are below it.
        cgroup: Likewise.

    Attributes:
        boot_seconds: How long its start took; 0 before.
        ready_at: When it was ready, in seconds of the monotonic clock; 0 before.
        memory_bytes: What it used when it was ready.
        pipes: Its streams, and the job's.
        trace: Of its Sentry.
        early: What was mounted for it at its start.
        channel: Both ends of the channel to a broker.
        collected: Where what a script leaves comes out.
        pidfd: Of its ``runsc``.
        namespace: Its mount namespace.
    """

    def __init__(self, recipe: Recipe, directory: RunDirectory, cgroup: Cgroup) -> None:
        self.recipe = recipe
        self.directory = directory
        self.cgroup = cgroup
        self.boot_seconds = self.ready_at = 0.0
        self.memory_bytes = 0
        self.pipes = Pipes()
        self.scratch = ScratchMeter()
        self.trace: TraceServer
        self.early: Staged
        self.pidfd = self.namespace = self.collected = -1
        self._leave = False
        self._process: _runsc.Process | None = None
        self._complaint = b""
        self._limits = recipe.base.memory_bytes, recipe.base.cpus, recipe.base.pids
        self._stack = contextlib.ExitStack()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stack.callback(os.close, self._wake)

    def boot(self) -> None:
        """Starts it, in the calling thread and namespaces made for it.

        Raises:
            SandboxStartError: It did not come up, or was not wanted any more.
            SandboxError: Something was tried in it.
        """
        began = time.monotonic()
        base, path = self.recipe.base, self.directory.path
        self.cgroup.create(
            memory_bytes=base.memory_bytes, cpus=base.cpus, host_pids=host_pids(base.pids)
        )
        self.cgroup.weigh(_BOOT_SHARE)
        try:
            make_places(path)
            with self.recipe.held():
                self._enter_namespaces(path)
            endpoint = write_bundle(base, path, grants=True, warm=True)
            self.trace = TraceServer(
                endpoint, judge_of(RunRequest(spec=base, script=b""), self.early),
                lambda _violation: None,
            )  # fmt: skip
            self._stack.callback(self.trace.close)
            self._stack.callback(self.pipes.close_all)
            self._stack.callback(self.scratch.close)
            self._start_process()
        except OSError as error:
            raise SandboxStartError(
                f"a warm sandbox could not be set up in `{path}`: {error}",
                hint=storage_hint(error),
            ) from error
        self._await_ready(began + START_SECONDS)
        self.cgroup.weigh(1.0)
        self.cgroup.forget_peak()
        self.memory_bytes = self.cgroup.stats().peak_memory_bytes
        self.scratch.hold(path / "scratch")
        self.ready_at = time.monotonic()
        self.boot_seconds = self.ready_at - began

    def _enter_namespaces(self, path: Path) -> None:
        """What is mounted below ``grants`` from now on, by whomever, reaches the guest."""
        _runsc.enter_mount_namespace()
        grants = str(path / "grants")
        _sys.mount(grants, grants, None, _sys.MS_BIND)
        _sys.mount(None, grants, None, _sys.MS_SHARED)
        self.namespace = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._stack.callback(os.close, self.namespace)
        self.early = stage_early(self.recipe.base, path)
        _runsc.enter_pid_namespace()  # after staging: the first child becomes PID 1

    def _start_process(self) -> None:
        self.pipes.open()
        self.channel = make_ends()
        for end in self.channel:
            self._stack.callback(end.close)
        self.collected, collect = os.pipe2(os.O_CLOEXEC)
        self._stack.callback(self._close_collected)
        guest = self.pipes.guest
        try:
            self._process = start(
                self.recipe.runner, self.directory.path, self.cgroup, guest[:3],
                {3: guest[3], 4: self.channel[0].fileno(), 5: collect, 6: guest[4]},
                late_grants=True,
            )  # fmt: skip
        finally:
            self.pipes.close_guest()
            self.channel[0].close()
            os.close(collect)
        self.pidfd = os.pidfd_open(self._process.pid)
        self._stack.callback(os.close, self.pidfd)

    def _close_collected(self) -> None:
        if self.collected >= 0:
            os.close(self.collected)

    def _await_ready(self, deadline: float) -> None:
        told = False
        while self.trace.sign != "/.ready":
            ended = self._look(deadline)
            if self.trace.started and not told:
                told = True
                recipe = self.recipe
                message = bundle.boot_message(recipe.base, recipe.preload, self.early.rows)
                os.write(self.pipes.control, message)
            if ended or self.trace.closed or self.trace.agent_status is not None:
                self._drain_output()
                reason = self._complaint.decode("utf-8", "replace").strip().splitlines()[-1:]
                raise SandboxStartError(
                    f"a warm sandbox did not start: {reason[0] if reason else 'it died'}",
                    hint=self._hint(reason),
                )
            if self._leave:
                raise SandboxStartError("a warm sandbox was not wanted any more")
            if time.monotonic() >= deadline:
                raise SandboxStartError(
                    f"a warm sandbox was not ready within {START_SECONDS:g} s",
                    hint="run `omnibase doctor`",
                )
        self.check_untouched()

    def _hint(self, reason: list[str]) -> str:
        """Says what may help one that did not start."""
        if self.cgroup.stats().oom_kills:
            return (
                "give it more memory: `default_memory_bytes` of the pool's context, "
                "or `pool start --idle-memory SIZE`"
            )
        if reason and "No module named" in reason[0] and not self.recipe.base.attached:
            return (
                "name its packages: `packages=…`, or `pool start --packages FILE`; nothing of a "
                "virtual environment can be preloaded"
            )
        told = bool(reason) and "cannot be imported" in reason[0]
        return "leave the module out of `preload`" if told else "run `omnibase doctor`"

    def ask(self) -> None:
        """Asks it for a sign of life.

        Raises:
            SandboxError: There is none, or it has done something.
        """
        self.trace.sign = ""
        os.write(self.pipes.control, bytes(4))
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self.trace.sign != "/.alive":
            if self._look(deadline) or self._leave or time.monotonic() >= deadline:
                raise SandboxError("a warm sandbox gives no sign of life")
        self.check_untouched()

    def limit(self, spec: SandboxSpec) -> None:
        """Gives it the limits of a run.

        Raises:
            SandboxStartError: The kernel refused one.
        """
        limits = spec.memory_bytes, spec.cpus, spec.pids
        if limits != self._limits:
            self.cgroup.limit(
                memory_bytes=spec.memory_bytes, cpus=spec.cpus, host_pids=host_pids(spec.pids)
            )

    def check_untouched(self) -> None:
        """Refuses a sandbox in which something was tried before there was a script.

        Raises:
            SandboxError: What that was.
        """
        trace = self.trace
        self._drain_output()
        if trace.error is not None or trace.closed or trace.dropped or trace.agent_failed:
            raise SandboxError(
                f"the trace of a warm sandbox is not whole: {trace.error or 'it ended'}",
                hint="run `omnibase doctor`",
            )
        if len(trace.ledger):
            tried = trace.ledger.violations()[0]
            raise SandboxError(
                "a module that was to be preloaded tried what no script is granted: "
                f"`{tried.capability or tried.operation}`",
                hint="preload others",
            )
        if self._has_forked():  # it would outlive the script, and is not bound to its limits
            raise SandboxError(
                "a module that was to be preloaded has started a process", hint="preload others"
            )

    def _has_forked(self) -> bool:
        """Whether a process was started; a start is told twice, and may be half told."""
        trace, deadline = self.trace, time.monotonic() + _TWIN_SECONDS
        while trace.forked and not trace.closed and trace.error is None:
            poller = select.poll()
            poller.register(trace.fileno(), select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                break
            trace.on_readable()
        return trace.forked

    def _look(self, deadline: float) -> bool:
        """Waits for something, and takes what the trace has told; says whether it has ended."""
        poller = select.poll()
        fds = (self.pidfd, self._wake, self.trace.fileno(), self.pipes.stdout, self.pipes.stderr)
        for fd in fds:
            poller.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)}
        if self.trace.fileno() in ready:
            self.trace.on_readable()
        if self.pipes.stdout in ready or self.pipes.stderr in ready:
            self._drain_output()
        if self.pidfd in ready:
            self.trace.drain()
        return self.pidfd in ready

    def _drain_output(self) -> None:
        """What is said before there is a script is nobody's output."""
        for fd in (self.pipes.stdout, self.pipes.stderr):
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(fd, 65536):
                    self._complaint = (self._complaint + chunk)[-_COMPLAINT_BYTES:]
