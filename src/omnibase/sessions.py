"""`Session`: one interpreter in one sandbox, kept alive for several calls of one principal."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from omnibase.api import execute
from omnibase.asked import OnOutput, Options
from omnibase.backend import backend, places
from omnibase.call import in_thread
from omnibase.components import Wanted
from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.result import LimitKind, RunResult
from omnibase.core.sandbox.runner import Cancel, Ended
from omnibase.core.sandbox.session.calls import CallResult, Calls, Pending
from omnibase.core.sandbox.session.running import SessionRunner
from omnibase.core.sandbox.verdict import verdict
from omnibase.errors import (
    ConfigurationError,
    OmniBaseError,
    SandboxError,
    SandboxTimeout,
    SandboxViolationError,
    SessionClosed,
)
from omnibase.inputs import ArtifactsAt, Capabilities, Packages, Secrets, Venv, capability_set
from omnibase.registry_access import Registry

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CallResult", "Session"]

_CLOSE_SECONDS: Final = 2.0
# A signal that comes just before a wait, or to another thread, does not interrupt it: its
# Python handler runs at the next wake-up.
_WAKE_SECONDS: Final = 0.2
_MOST_CODE_BYTES: Final = 10 << 20
_NAME: Final = "session"


class Session:
    """One interpreter in one sandbox: what a call defines is there for the next one.

    What it may do is fixed when it is made, and holds for all its calls. Each call has the
    context's time, CPU time and output for itself; memory, processes and scratch are of the
    session as a whole. An exception in the code is a result, and the session goes on; so it
    does after a violation, unless ``on_violation`` is ``kill``. It ends by `close`, by a
    limit, or when its process does; calls after that raise `SessionClosed`.

    Usable as ``with Session() as session: session.run("x = 1")`` and as ``async with``.
    Calls of several threads come one after the other.

    Args:
        component: A component of the registry, whose policy decides what the session gets;
            its script runs first, so that calls find what it defines. ``None`` for a
            session with ``capabilities`` alone.
        capabilities: What it may do; for a component, what to ask for in addition.
        context: Quotas and what happens on a violation.
        args: What the code finds in ``sys.argv[1:]``.
        env: Environment variables.
        secrets: See `omnibase.run`.
        packages: See `omnibase.run`; not for a component.
        venv: Likewise.
        artifacts: See `omnibase.run`; what it leaves is stored when it ends.
        registry: See `omnibase.run_component`.
        environment: Likewise.
        degrade: Likewise.
        lifetime_seconds: Longest life, whatever it does.
        on_output: Called with ``(stream, bytes)`` as output comes, in a thread of the
            session's.
        bus: Where events go.

    Raises:
        ConfigurationError: An argument is unusable.
        SecurityError: What it asks for is not granted, or the component's script tried more.
        SandboxError: It did not start, or the component's script failed.
    """

    def __init__(
        self,
        component: str | None = None,
        *,
        capabilities: Capabilities = None,
        context: ExecutionContext | None = None,
        args: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        secrets: Secrets = None,
        packages: Packages = None,
        venv: Venv = None,
        artifacts: ArtifactsAt = None,
        registry: Registry = None,
        environment: str = "default",
        degrade: bool = False,
        lifetime_seconds: float = 3600.0,
        on_output: OnOutput | None = None,
        bus: events.EventBus | None = None,
    ) -> None:
        options = Options(
            args=args, context=context, env=env, secrets=secrets, artifacts=artifacts,
            on_output=on_output, bus=bus,
        )  # fmt: skip
        self._context = options.context
        options = options.with_context(_for_life(options.context, lifetime_seconds))
        asked = capability_set(capabilities)
        if component is not None and (packages is not None or venv is not None):
            raise ConfigurationError(
                "a component brings its own packages", hint="leave out `packages` and `venv`"
            )
        gvisor, admission = backend().gvisor, places()
        calls, cancel = Calls(), Cancel()
        self._calls, self._cancel = calls, cancel
        options.runner = SessionRunner(
            inner=gvisor, admission=admission, calls=calls,
            wait_seconds=self._context.wall_seconds,
        )  # fmt: skip
        work: Callable[[], RunResult]
        if component is None:
            work = lambda: execute((_NAME, b""), asked, options, packages, venv, cancel)  # noqa: E731
        else:
            wanted = Wanted(component, registry, asked, environment, degrade, False)
            work = lambda: wanted.execute(options, cancel)  # noqa: E731
        self._life = _Life(work, calls)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._number = 0
        self._told = False
        self._end = weakref.finalize(self, _end, self._life, calls, cancel)
        first = calls.first
        try:
            self._life.start()
            self._conclude(first, None)
            result = first.result
            if result is not None and result.exit_code != 0:
                error = result.error
                why = f"exit code {result.exit_code}" if error is None else f"{error.type}"
                raise SandboxError(
                    f"the component's script failed: {why}", result=result,
                    hint="its traceback is in the result's stderr",
                )  # fmt: skip
        except BaseException:
            self._told = True
            self._end()
            raise

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._life.over or self._calls.closing

    @property
    def result(self) -> RunResult | None:
        """Once it has ended: what came after its last call, and what it left."""
        return self._life.result

    def run(self, code: str | bytes) -> CallResult:
        """Runs code in the session's interpreter.

        Args:
            code: Python source, at most 10 MiB. If its last statement is an expression,
                ``result.value`` is its ``repr``.

        Raises:
            SandboxViolationError: It tried what the session is not granted; ``.result`` has
                its output. So it does for what a thread of an earlier call tried since.
            SandboxTimeout, ResourceLimitExceeded: A limit was reached, and the session has
                ended, but for processes and disk, as in `omnibase.run`.
            SessionClosed: It had ended before.
            SandboxError: The sandbox failed.

        An interrupt (Ctrl-C) ends the session: nobody knows what the code was at.
        """
        with contextlib.closing(Cancel()) as cancel:
            return self._run(code, cancel)

    async def arun(self, code: str | bytes) -> CallResult:
        """See `run`; cancelling it ends the session."""
        return await in_thread(lambda cancel: self._run(code, cancel))  # type: ignore[return-value]

    def close(self) -> None:
        """Ends it, and waits until nothing of it is left.

        Raises:
            SandboxViolationError: Something was tried after the last call had ended.
        """
        self._end()
        if not self._told:
            self._told = True
            error = self._life.error
            result = self._life.result
            if isinstance(error, SandboxViolationError):
                raise error
            if error is not None and not isinstance(error, OmniBaseError):
                raise error
            if result is not None and error is not None and result.violations:
                found = self._verdict(result)  # of one that had to be ended
                if found is not None:
                    raise found

    def _run(self, code: str | bytes, cancel: Cancel) -> CallResult:
        data = code.encode("utf-8", "surrogatepass") if isinstance(code, str) else bytes(code)
        if len(data) > _MOST_CODE_BYTES:
            raise ConfigurationError(
                f"the code has {len(data)} bytes", hint=f"pass at most {_MOST_CODE_BYTES}"
            )
        if self._pid != os.getpid():
            raise SessionClosed(
                "the session is of the process that this one was forked from",
                hint="make one in this process",
            )
        with self._lock:
            pending = Pending(self._number + 1, data)
            with contextlib.closing(pending):
                if not self._calls.ask(pending):
                    raise self._closed()
                self._number += 1
                return self._conclude(pending, cancel)

    def _conclude(self, pending: Pending, cancel: Cancel | None) -> CallResult:
        """Waits for the end of a call, and says how it was."""
        try:
            self._await(pending, cancel)
            if pending.result is None:
                self._life.join()
        except BaseException:
            self._cancel.set()  # an interrupt: nobody knows what the code is at
            self._life.join()
            raise
        if pending.result is None:
            return self._last(pending)
        error = self._verdict(pending.result)
        if error is not None:
            raise error
        return pending.result

    def _await(self, pending: Pending, cancel: Cancel | None) -> None:
        poller = select.poll()
        poller.register(pending, select.POLLIN)
        if cancel is not None:
            poller.register(cancel, select.POLLIN)
        # The first one waits for the start as well, which has limits of its own.
        limit = self._context.wall_seconds if pending.number else float("inf")
        deadline = time.monotonic() + limit
        while True:
            left = min(_WAKE_SECONDS, max(0.0, deadline - time.monotonic()))
            ready = {fd for fd, _ in poller.poll(left * 1000)}
            if pending.fileno() in ready:
                return
            if ready and cancel is not None:
                poller.unregister(cancel)
                self._cancel.set()
            elif time.monotonic() >= deadline:
                pending.expired, deadline = True, float("inf")
                self._calls.nudge()

    def _verdict(self, result: RunResult) -> OmniBaseError | None:
        context = self._context
        limits: dict[LimitKind, float] = {
            "disk": context.scratch_bytes,
            "memory": context.memory_bytes,
            "output": context.output_bytes,
            "pids": context.pids,
        }
        return verdict(Ended(result=result, cause="exit"), context, limits)

    def _last(self, pending: Pending) -> CallResult:
        """The call's end is the session's."""
        error, result = self._life.error, self._life.result
        self._told = True
        call = None if result is None else _as_call(result, pending.number)
        if error is None and call is not None:
            return call
        if isinstance(error, SandboxTimeout) and pending.expired:
            seconds = self._context.wall_seconds
            raise SandboxTimeout(
                f"the call took longer than {seconds:g} s, and the session was ended",
                details={"wall_seconds": seconds},
                hint="raise `wall_seconds`",
                result=call,
            )
        if error is None:
            raise self._closed()
        if isinstance(error, SandboxViolationError):
            raise SandboxViolationError(
                error.message, violations=error.violations, result=call, details=error.details,
                hint=error.hint,
            )  # fmt: skip
        if isinstance(error, SandboxError) and call is not None:
            error.result = call
        raise error

    def _closed(self) -> SessionClosed:
        error, result = self._life.error, self._life.result
        if error is not None:
            why = f": {error}"
        elif result is not None and not self._calls.closing:
            ended = f"signal {result.signal}" if result.signal else f"exit code {result.exit_code}"
            why = f": its process ended with {ended}"
        else:
            why = ""
        closed = SessionClosed(f"the session has ended{why}", hint="make a new one", result=result)
        closed.__cause__ = error
        return closed

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if error is not None:
            self._told = True  # one error is enough; what there is is on record
        self.close()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        import asyncio

        await asyncio.to_thread(self.__exit__, kind, error, trace)


class _Life:
    """The thread that a session lives in, and what it came to."""

    def __init__(self, work: Callable[[], RunResult], calls: Calls) -> None:
        self.result: RunResult | None = None
        self.error: BaseException | None = None
        self.over = False
        self._work = work
        self._calls = calls
        self._thread = threading.Thread(target=self._live, name="omnibase-session", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            self._calls.end()
            raise SandboxError(f"the session got no thread: {error}") from error

    def join(self, timeout: float | None = None) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _live(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
            self.result = getattr(error, "result", None)
        finally:
            self.over = True
            self._calls.end()


def _end(life: _Life, calls: Calls, cancel: Cancel) -> None:
    """Ends a session, in order if it will."""
    calls.close()
    if not life.join(_CLOSE_SECONDS):
        cancel.set()
        life.join()
    calls.first.close()
    cancel.close()


def _for_life(context: ExecutionContext, seconds: float) -> ExecutionContext:
    try:
        return replace(context, wall_seconds=seconds)
    except ConfigurationError as error:
        raise ConfigurationError(
            error.message.replace("wall_seconds", "lifetime_seconds"), hint=error.hint
        ) from None


def _as_call(result: RunResult, number: int) -> CallResult:
    if isinstance(result, CallResult):
        return result
    values: dict[str, Any] = {field.name: getattr(result, field.name) for field in fields(result)}
    return CallResult(**values, call=number)
