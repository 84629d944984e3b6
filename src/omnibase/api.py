"""The public way in: `run`, `arun` and `Sandbox`. The only place where parts are wired."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox import _runsc, compile, image, platforms, record, state
from omnibase.core.sandbox.cgroup import Hierarchy
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Cancel, GVisorRunner, RunRequest
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import CapabilityError, ConfigurationError, SandboxUnavailable
from omnibase.inputs import Capabilities, Script, capability_set, is_argument, load_script

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Chunk", "Plan", "Sandbox", "arun", "plan", "run"]

OnOutput = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of output, as it came.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        data: At most 64 KiB, cut anywhere.
    """

    stream: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would be: the dry run.

    Attributes:
        request: The script and the frozen spec.
        enforcement: ``capability → how it is enforced``.
    """

    request: RunRequest
    enforcement: Mapping[str, str]


def run(
    script: Script,
    *,
    args: Iterable[str] = (),
    stdin: bytes = b"",
    capabilities: Capabilities = None,
    context: ExecutionContext | None = None,
    env: Mapping[str, str] | None = None,
    on_output: OnOutput | None = None,
    bus: events.EventBus | None = None,
) -> RunResult:
    """Runs untrusted Python in a sandbox of its own and waits for its end.

    Args:
        script: A path (any ``os.PathLike``, or a ``str`` of one line that ends
            in ``.py``), or source code (``bytes``, or any other ``str``).
        args: What the script finds in ``sys.argv[1:]``.
        stdin: Bytes on its standard input.
        capabilities: What it may do; nothing by default.
        context: Quotas and what happens on a violation.
        env: Environment variables; the script sees no others of the caller's.
        on_output: Called with ``(stream, bytes)`` as output comes, in the caller's
            thread (a helper thread for `arun`); the run waits for it, but its
            deadline does not. An exception in it ends the run and is raised here.
        bus: Where events go; `omnibase.default_bus` by default.

    Returns:
        The result; a script that exits non-zero is a result.

    Raises:
        SandboxViolationError: It tried something beyond its grants (unless
            ``context.on_violation`` is ``record``); ``.result`` is attached.
        ResourceLimitExceeded: It reached a quota.
        SandboxTimeout: It took longer than ``context.wall_seconds``.
        CapabilityError: A grant is malformed or cannot be enforced.
        ConfigurationError: The script or an argument is unusable.
        SandboxUnavailable: This machine cannot run sandboxes; the hint helps.
        SandboxStartError: The sandbox did not come up; nothing of the script ran.
    """
    with _canceller() as cancel:
        call = _Call(script, args, stdin, capabilities, context, env, on_output, bus)
        return call.execute(cancel)


async def arun(
    script: Script,
    *,
    args: Iterable[str] = (),
    stdin: bytes = b"",
    capabilities: Capabilities = None,
    context: ExecutionContext | None = None,
    env: Mapping[str, str] | None = None,
    on_output: OnOutput | None = None,
    bus: events.EventBus | None = None,
) -> RunResult:
    """`run`, awaitable: cancelling it ends the run and cleans up before it returns."""
    call = _Call(script, args, stdin, capabilities, context, env, on_output, bus)
    return await _in_thread(call)


def plan(
    script: Script,
    *,
    args: Iterable[str] = (),
    stdin: bytes = b"",
    capabilities: Capabilities = None,
    context: ExecutionContext | None = None,
    env: Mapping[str, str] | None = None,
) -> Plan:
    """Returns what `run` would do, and starts nothing.

    Raises:
        CapabilityError, ConfigurationError, SandboxUnavailable: As `run`.
    """
    call = _Call(script, args, stdin, capabilities, context, env, None, None)
    return Plan(
        request=call.request(_image()),
        enforcement={str(grant): compile.ENFORCEMENT[grant.type] for grant in call.grants},
    )


class Sandbox:
    """Runs any number of scripts under the same grants, each in a sandbox of its own.

    Usable as ``with Sandbox(...) as sb: sb.run_sync(...)`` and as
    ``async with Sandbox(...) as sb: await sb.run(...)``.
    """

    def __init__(
        self,
        *,
        capabilities: Capabilities = None,
        context: ExecutionContext | None = None,
        env: Mapping[str, str] | None = None,
        bus: events.EventBus | None = None,
    ) -> None:
        self.capabilities = capability_set(capabilities)
        self.context = context or ExecutionContext()
        self._env = dict(env or {})
        self._bus = bus

    def run_sync(
        self, script: Script, *, args: Iterable[str] = (), stdin: bytes = b"",
        on_output: OnOutput | None = None,
    ) -> RunResult:  # fmt: skip
        """See `omnibase.run`."""
        return run(
            script, args=args, stdin=stdin, capabilities=self.capabilities, context=self.context,
            env=self._env, on_output=on_output, bus=self._bus,
        )  # fmt: skip

    async def run(
        self, script: Script, *, args: Iterable[str] = (), stdin: bytes = b"",
        on_output: OnOutput | None = None,
    ) -> RunResult:  # fmt: skip
        """See `omnibase.arun`."""
        return await arun(
            script, args=args, stdin=stdin, capabilities=self.capabilities, context=self.context,
            env=self._env, on_output=on_output, bus=self._bus,
        )  # fmt: skip

    async def stream(
        self, script: Script, *, args: Iterable[str] = (), stdin: bytes = b""
    ) -> AsyncIterator[Chunk | RunResult]:
        """Yields each `Chunk` as it comes, and the `RunResult` last.

        Raises:
            The errors of `omnibase.run`, after the output that came before them.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue()

        def put(stream: str, data: bytes) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, Chunk(stream=stream, data=data))

        task = asyncio.ensure_future(self.run(script, args=args, stdin=stdin, on_output=put))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (chunk := await queue.get()) is not None:
                yield chunk
            yield await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        pass  # each run cleans up after itself

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        pass


class _Call:
    """The arguments of one call, checked before anything starts."""

    def __init__(
        self,
        script: Script,
        args: Iterable[str],
        stdin: bytes,
        capabilities: Capabilities,
        context: ExecutionContext | None,
        env: Mapping[str, str] | None,
        on_output: OnOutput | None,
        bus: events.EventBus | None,
    ) -> None:
        self.name, self.source = load_script(script)
        if isinstance(args, str):
            raise ConfigurationError("`args` is a string", hint=f"pass a list: `[{args[:80]!r}]`")
        self.argv = tuple(args)
        for text in (self.name, *self.argv):
            if not is_argument(text):
                raise ConfigurationError(
                    f"`{ascii(text)[:80]}` cannot be an argument", hint="pass strings without NUL"
                )
        if not isinstance(stdin, bytes | bytearray):
            raise ConfigurationError("`stdin` is not bytes", hint="encode it, e.g. `text.encode()`")
        self.stdin = bytes(stdin)
        self.grants = capability_set(capabilities)
        if context is not None and not isinstance(context, ExecutionContext):
            raise ConfigurationError(
                "`context` is not an ExecutionContext", hint="`ExecutionContext(cpus=1)`"
            )
        self.context = context or ExecutionContext()
        self.env = env
        if on_output is not None and not callable(on_output):
            raise ConfigurationError("`on_output` is not callable", hint="pass a function")
        self._on_output = on_output
        self._bus = bus or events.default_bus()
        if self._bus.closed:
            raise ConfigurationError("the event bus is closed", hint="pass an open one")

    def request(self, root: image.Image) -> RunRequest:
        return RunRequest(
            spec=compile_grants(self.grants, self.context, root, self.env),
            script=self.source,
            name=self.name,
            argv=self.argv,
            stdin=self.stdin,
        )

    def execute(self, cancel: Cancel) -> RunResult:
        emitter = events.Emitter(self._bus, subject=self.name)
        try:
            return self._execute(emitter, cancel)
        except CapabilityError as error:
            emitter.emit(
                events.CapabilityDenied(
                    capability=str(error.details.get("capability", "")), reason=error.message
                )
            )
            raise

    def _execute(self, emitter: events.Emitter, cancel: Cancel) -> RunResult:
        runner = _runner()
        request = replace(self.request(_image()), run_id=emitter.runid)
        recorder = record.Recorder(
            emitter,
            request,
            platform=runner.platform,
            runtime_version=runner.runtime.version,
            enforcement={str(g): compile.ENFORCEMENT[g.type] for g in self.grants},
            on_output=self._on_output,
        )
        try:
            ended = runner.run(request, recorder, cancel)
        except BaseException as cut_short:
            recorder.abandoned(cut_short)
            raise
        recorder.ended(ended)
        error = record.verdict(ended, self.context, record.spec_limits(request))
        if error is not None:
            raise error
        return ended.result


class _canceller:
    """A `Cancel` that is closed at the end."""

    def __enter__(self) -> Cancel:
        self._cancel = Cancel()
        return self._cancel

    def __exit__(self, *_: object) -> None:
        self._cancel.close()


async def _in_thread(call: _Call) -> RunResult:
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[RunResult | BaseException] = loop.create_future()
    cancel = Cancel()

    def body() -> None:
        # As a value: a Future takes not every exception (StopIteration).
        outcome: RunResult | BaseException
        try:
            outcome = call.execute(cancel)
        except BaseException as error:
            outcome = error
        loop.call_soon_threadsafe(done.set_result, outcome)

    threading.Thread(target=body, name="omnibase-arun", daemon=True).start()
    try:
        outcome = await asyncio.shield(done)
    except asyncio.CancelledError:
        cancel.set()
        while not done.done():  # a second cancellation must not leave the run behind
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([done])
        raise
    finally:
        cancel.close()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def compile_grants(
    grants: CapabilitySet,
    context: ExecutionContext,
    root: image.Image,
    env: Mapping[str, str] | None,
) -> SandboxSpec:
    """Compiles as `run` does, with the same areas out of reach; starts nothing."""
    registry = os.environ.get("OMNIBASE_REGISTRY")
    read_only_areas: tuple[str, ...] = ()
    # The implied registry counts where it exists; a named one counts before it does,
    # so that no script plants policies there.
    with contextlib.suppress(FileNotFoundError):  # the working directory itself may be gone
        policies = os.path.realpath(os.path.join(registry or "registry", "policies"))
        if registry or os.path.lexists(policies):
            read_only_areas = (policies,)
    read_only_areas += _own_files()
    return compile.compile_spec(
        grants,
        context,
        root,
        environment=env,
        refused_areas=(os.path.realpath(state.state_dir()),),
        read_only_areas=read_only_areas,
    )


def _own_files() -> tuple[str, ...]:
    """Directories of what OmniBase itself runs as root: never to be written by a script."""
    own = {os.path.realpath(os.path.dirname(__file__))}
    own |= {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    with contextlib.suppress(SandboxUnavailable):
        own.add(os.path.realpath(os.path.dirname(_runsc.find_runtime().path)))
    # The system's directories are the operator's to protect, by not granting them.
    return tuple(sorted(own - {"/usr", "/usr/bin", "/usr/local", "/usr/local/bin", "/bin", "/"}))


_lock = threading.Lock()
# A child forked while another thread holds the lock would wait for it for ever.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
_cache: dict[str, tuple[GVisorRunner, image.Image]] = {}


def _runner() -> GVisorRunner:
    return _engine()[0]


def _image() -> image.Image:
    return _engine()[1]


def _engine() -> tuple[GVisorRunner, image.Image]:
    """Finds and builds what runs need, once per process and configuration."""
    if os.geteuid() != 0:
        raise SandboxUnavailable(
            "sandboxes need root: memory, CPU and process limits are cgroups, and "
            "granted files are mounts",
            hint="run as root, e.g. with `sudo`; no run gets fewer limits than stated",
        )
    directory = state.state_dir()
    key = "\0".join(
        [str(directory), *(os.environ.get(n, "") for n in ("RUNSC", "OMNIBASE_PLATFORM"))]
    )
    with _lock:
        if key not in _cache or not os.path.isdir(_cache[key][1].path):
            runtime = _runsc.find_runtime()
            hierarchy = Hierarchy.detect()
            state.sweep(directory)
            runner = GVisorRunner(
                runtime=runtime,
                platform=platforms.choose_platform(runtime, directory),
                state=directory,
                hierarchy=hierarchy,
            )
            _cache[key] = (runner, image.ensure_image(directory))
        return _cache[key]
