"""A run in a warm sandbox: bind what is granted, send, watch, account; the end is others'.

It happens in its caller's thread: there is nothing to be handed to another, and nothing
to be cleaned up that the result would have to wait for. The sandbox is ended by its own
thread, and what is left of it removed by the pool's.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from omnibase.core.sandbox import _runsc, _sys, bundle
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.covers import Covers
from omnibase.core.sandbox.lifecycle import Run
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.pool_fit import late
from omnibase.core.sandbox.pool_member import Member
from omnibase.core.sandbox.preparing import Staged, check_commands, judge_of, stage
from omnibase.core.sandbox.runner import Cancel, Ended, Observer, RunRequest
from omnibase.core.sandbox.staging import not_mounted
from omnibase.core.sandbox.state import storage_hint
from omnibase.core.sandbox.streams import Pipes
from omnibase.errors import SandboxError, SandboxStartError

__all__ = ["NotBegun", "Serving"]

_BIND_SECONDS: Final = 5.0
_COMMANDS: Final = "commands"


class NotBegun(Exception):
    """The sandbox failed before anything of the run was on record: another one will do."""


class Serving(Run):
    """One run in a member that was claimed for it."""

    _warm = True

    def __init__(
        self, member: Member, request: RunRequest, observer: Observer, cancel: Cancel
    ) -> None:
        super().__init__(request, observer, cancel)
        self._member = member
        self._sandbox = member.directory.run_id
        self._run_id = request.run_id or self._sandbox
        self._scratch = member.scratch
        self._cpu_before = member.cgroup.cpu_seconds()  # it has used some while it waited

    def serve(self) -> Ended:
        """Runs it to its end; the member is to go then, whatever happens.

        Raises:
            NotBegun: It has failed, and nothing of the run was told to anybody.
            CapabilityError: What is granted cannot be mounted or copied as it stands.
        """
        member = self._member
        try:
            with self._networked(member.channel):
                return self._serve(member)
        finally:
            member.leave()

    def _serve(self, member: Member) -> Ended:
        path, pipes, trace = member.directory.path, member.pipes, member.trace
        try:
            member.limit(self._spec)
            staged = self._stage(member)
        except OSError as error:
            raise SandboxStartError(
                f"the run could not be set up in `{path}`: {error}", hint=storage_hint(error)
            ) from error
        self._staged = staged.copied
        trace.drain()  # what is left of the boot
        try:
            member.check_untouched()
        except SandboxError:
            raise NotBegun from None
        trace.bind(
            judge_of(self._request, staged._replace(rows=member.early.rows + staged.rows)),
            self._on_violation,
            on_secret_read=self._observer.on_secret_read,
            on_command=self._observer.on_command,
            scrub=self._scrubber.text,
        )
        job = bundle.job_message(self._spec, **staged.job(self._request), warm=True)
        self._pending["control"] = memoryview(job)
        with contextlib.ExitStack() as stack:
            self._collect(path, member.collected)
            if self._left is not None:
                member.collected = -1  # it is closed with what has it now
                stack.callback(self._left.close)
            self._watch(member.pidfd, trace, pipes, member.cgroup, path / "scratch")
            self._finished = time.monotonic()
            whole = self._cause == "exit" and self._fault is None and trace.agent_status is not None
            # Everything else in the guest had ended before its PID 1, and what each had
            # written or opened was here before its end was: there is nothing to wait for.
            status = 0 if whole else member.end()
            if not whole:
                trace.drain()
            # Before the script there is nobody in the guest who could kill its PID 1: that is
            # how the Sentry ends when its gofer is gone.
            broke = not whole or (trace.agent_status or 0) & 0x7F
            if broke and not trace.begun and not trace.dropped and self._cause == "exit":
                raise NotBegun
            return self._account(trace, pipes, member.cgroup, status)

    def _stage(self, member: Member) -> Staged:
        """Brings what is granted into the sandbox."""
        request, path = self._request, member.directory.path
        check_commands(request)
        spec = late(member.recipe.base, self._spec)
        request = replace(request, spec=spec)
        files = spec.files or spec.attached or spec.databases or request.registry or spec.artifacts
        if not files and request.commands is None:
            return Staged([], Covers(), ())
        filled = path / "filled"
        if spec.artifacts:
            filled.mkdir(mode=0o700)
            self._observer.on_staging(filled)

        def fill(directory: Path) -> None:
            directory.rmdir()
            filled.rename(directory)

        # A thread that outlives an interrupt of this one must not meet another's number.
        namespace = os.dup(member.namespace)

        def work() -> Staged:
            try:
                return bind()
            finally:
                os.close(namespace)

        def bind() -> Staged:
            # As for a run that starts now: paths mean what they mean on the host today,
            # not what they meant when the sandbox was started.
            _runsc.enter_mount_namespace()
            staged = stage(request, path, fill, self._cancel)
            with contextlib.ExitStack() as stack:
                trees = [_clone(f"{path}{row[0]}", stack) for row in staged.rows]
                if request.commands is not None:
                    place = f"{path}/grants/{_COMMANDS}"
                    os.mkdir(place, 0o755)
                    layer = _clone(request.commands.path, stack)
                    _sys.mount_setattr(layer, _LAYER)
                _sys.setns(namespace, _sys.CLONE_NEWNS)
                for tree, row in zip(trees, staged.rows, strict=True):
                    try:
                        _sys.move_mount(tree, f"{path}{row[0]}")
                    except OSError as error:
                        raise not_mounted(row[1], error, _capability(*row[1:])) from error
                if request.commands is not None:
                    _sys.move_mount(layer, place)
            return staged

        try:
            return _runsc.in_new_thread(work)
        except RuntimeError as error:
            os.close(namespace)
            raise SandboxStartError(
                f"the run got no thread: {error}", hint="lower the number of runs at once"
            ) from error

    def _prelude(self, selector: selectors.BaseSelector, pipes: Pipes) -> None:
        if self._cancel.is_set():
            self._cause = "cancelled"
            return
        self._sent = True
        self._tell_start(selector, pipes)
        self._member.expire_at(self._began + self._spec.wall_seconds)
        self._begin_by = time.monotonic() + _BIND_SECONDS

    def _is_over(self, trace: TraceServer) -> bool:
        """Likewise with a script that ended well and was alone, if PID 1 has nothing to add.

        Whoever might still write is dead then as well, and PID 1 would only say so: that
        the scratch is not full can be seen from here, too.
        """
        if super()._is_over(trace):
            return True
        spec = self._spec
        more = spec.secrets or self._request.secrets or spec.egress or spec.outlets or spec.commands
        if more or trace.script_status != 0 or not trace.alone or trace.dropped:
            return False
        if 2 * self._scratch.peak_bytes > spec.scratch_bytes:
            return False
        trace.agent_status = 0
        return True

    def _looks_often(self, trace: TraceServer) -> bool:
        return not trace.begun or super()._looks_often(trace)

    def _check_limits(self, cgroup: Cgroup, deadline: float, start_deadline: float | None) -> None:
        super()._check_limits(cgroup, deadline, start_deadline)
        if not self._member.trace.begun and time.monotonic() >= self._begin_by:
            self._fault = SandboxStartError("a warm sandbox did not take its job")


_LAYER: Final = _sys.MOUNT_ATTR_NOSUID | _sys.MOUNT_ATTR_NODEV | _sys.MOUNT_ATTR_RDONLY


def _capability(path: str, is_directory: bool, writable: bool) -> str:
    """Returns the token for what is mounted somewhere."""
    kind = "FILE_WRITE" if writable else "FILE_READ"
    return f"{kind}:{path}{'/**' if is_directory else ''}"


def _clone(place: str, stack: contextlib.ExitStack) -> int:
    """Returns a detached copy of what is mounted at a place, with all below it."""
    fd = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        tree = _sys.open_tree_clone(fd)
    finally:
        os.close(fd)
    stack.callback(os.close, tree)
    return tree
