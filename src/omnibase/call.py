"""One call: what was asked for, checked before anything starts, and the run that it makes."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from omnibase.backend import backend, compile_grants
from omnibase.core import audit, events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox import compile, record
from omnibase.core.sandbox.image import Image
from omnibase.core.sandbox.result import ComponentRun, RunResult
from omnibase.core.sandbox.runner import Cancel, Ended, RunRequest, SandboxRunner
from omnibase.core.sandbox.spec import Mask
from omnibase.core.secrets import fetch
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import (
    CapabilityError,
    ConfigurationError,
    OmniBaseError,
    SecretAccessError,
)
from omnibase.inputs import Secrets, is_argument, store_of

__all__ = ["Authority", "Call", "OnOutput", "Options", "Plan", "in_thread", "perform"]

OnOutput = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would be: the dry run.

    Attributes:
        request: The script and the frozen spec.
        enforcement: ``capability → how it is enforced``.
        problems: Why secrets that are granted cannot be had now, by capability. The
            request has no values.
    """

    request: RunRequest
    enforcement: Mapping[str, str]
    problems: Mapping[str, OmniBaseError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who a run is for and what was decided for it.

    Attributes:
        component: What runs, for the result.
        masks: What its policy takes out of granted trees.
        denied: Capabilities that were asked for and are not granted.
        registry: Directory of the registry that decided: no grant may write there.
    """

    component: ComponentRun | None = None
    masks: tuple[Mask, ...] = ()
    denied: tuple[str, ...] = ()
    registry: str | None = None


class Options:
    """What a caller may say of a run, besides what runs and what it may do.

    Attributes:
        args: What the script finds in ``sys.argv[1:]``.
        stdin: Bytes on its standard input.
        context: Quotas and what happens on a violation.
        env: Its environment variables.
        secrets: Where secrets are kept.
        on_output: Called with ``(stream, bytes)`` as output comes.
        bus: Where events go.

    Raises:
        ConfigurationError: Something is not what it should be.
    """

    def __init__(
        self,
        *,
        args: Iterable[str] = (),
        stdin: bytes = b"",
        context: ExecutionContext | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Secrets = None,
        on_output: OnOutput | None = None,
        bus: events.EventBus | None = None,
    ) -> None:
        if isinstance(args, str):
            raise ConfigurationError("`args` is a string", hint=f"pass a list: `[{args[:80]!r}]`")
        try:
            self.args = tuple(args)
        except TypeError:
            raise ConfigurationError(
                f"`args` is a `{type(args).__name__}`", hint="pass a list of strings"
            ) from None
        for text in self.args:
            check_argument(text)
        if not isinstance(stdin, bytes | bytearray):
            raise ConfigurationError("`stdin` is not bytes", hint="encode it, e.g. `text.encode()`")
        self.stdin = bytes(stdin)
        if context is not None and not isinstance(context, ExecutionContext):
            raise ConfigurationError(
                "`context` is not an ExecutionContext", hint="`ExecutionContext(cpus=1)`"
            )
        self.context = context or ExecutionContext()
        if env is not None and not isinstance(env, Mapping):
            raise ConfigurationError("`env` is no mapping", hint="pass e.g. `{'MODE': 'fast'}`")
        self.env = env
        self.secrets = store_of(secrets)
        if on_output is not None and not callable(on_output):
            raise ConfigurationError("`on_output` is not callable", hint="pass a function")
        self.on_output = on_output
        self.bus = bus or events.default_bus()
        if self.bus.closed:
            raise ConfigurationError("the event bus is closed", hint="pass an open one")
        audit.attach(self.bus)

    def with_context(self, context: ExecutionContext) -> Options:
        """Returns the same with another context."""
        other = copy.copy(self)
        other.context = context
        return other


def check_argument(text: object) -> None:
    """Refuses what no process can be given.

    Raises:
        ConfigurationError: It is no text, or holds a NUL.
    """
    if not is_argument(text):
        raise ConfigurationError(
            f"`{ascii(text)[:80]}` cannot be an argument", hint="pass strings without NUL"
        )


class Call:
    """A script with its grants, on its way into a sandbox."""

    def __init__(
        self,
        name: str,
        source: bytes,
        grants: CapabilitySet,
        options: Options,
        authority: Authority | None = None,
    ) -> None:
        check_argument(name)
        self._name = name
        self._source = source
        self._grants = grants
        self._options = options
        self._authority = authority or Authority()

    def plan(self) -> Plan:
        """Returns what `execute` would do."""
        request = self._request(backend().image)
        problems: dict[str, OmniBaseError] = {}
        for name in request.spec.secrets:
            try:
                fetch(self._options.secrets, (name,))
            except OmniBaseError as error:
                problems[f"SECRET_ACCESS:{name}"] = error
        return Plan(request=request, enforcement=self._enforcement(), problems=problems)

    def execute(self, cancel: Cancel, emitter: events.Emitter | None = None) -> RunResult:
        """Runs the script; raises what `omnibase.run` documents."""
        emitter = emitter or events.Emitter(self._options.bus, subject=self._name)
        try:
            runner, root = backend()
            request = self._request(root)
            secrets = fetch(self._options.secrets, request.spec.secrets)
            request = replace(request, run_id=emitter.runid, secrets=secrets)
            started = record.sandbox_start(
                request, runner.platform, runner.runtime.version, self._enforcement()
            )
            return perform(
                runner, request, started, self._options, emitter, cancel, self._authority
            )
        except (CapabilityError, SecretAccessError) as error:
            capability = str(error.details.get("capability", ""))
            emitter.emit(events.CapabilityDenied(capability=capability, reason=error.message))
            raise

    def _request(self, root: Image) -> RunRequest:
        options, authority = self._options, self._authority
        return RunRequest(
            spec=compile_grants(
                self._grants, options.context, root, options.env,
                masks=authority.masks, registry=authority.registry,
                hidden=options.secrets.areas,
            ),
            script=self._source,
            name=self._name,
            argv=options.args,
            stdin=options.stdin,
        )  # fmt: skip

    def _enforcement(self) -> dict[str, str]:
        return {str(grant): compile.ENFORCEMENT[grant.type] for grant in self._grants}


def perform(
    runner: SandboxRunner,
    request: RunRequest,
    started: tuple[events.Payload, ...],
    options: Options,
    emitter: events.Emitter,
    cancel: Cancel,
    authority: Authority | None = None,
    check: Callable[[], None] = lambda: None,
) -> RunResult:
    """Runs a request and puts it on record.

    Args:
        runner: Where it runs.
        request: What runs.
        started: The events that its start makes.
        options: Of the caller.
        emitter: Of the run.
        cancel: Ends it early.
        authority: Whose run it is, for the result.
        check: Called once the start is on the bus; what it raises keeps it from starting.

    Raises:
        SandboxViolationError, SandboxError: As `omnibase.run`.
    """
    recorder = record.Recorder(emitter, request, started, on_output=options.on_output, check=check)
    try:
        ended = runner.run(request, recorder, cancel)
    except BaseException as cut_short:
        recorder.abandoned(cut_short)
        raise
    if authority is not None:
        ended = _signed(ended, authority)
    recorder.ended(ended)
    error = record.verdict(ended, options.context, record.spec_limits(request))
    if error is not None:
        raise error
    return ended.result


def _signed(ended: Ended, authority: Authority) -> Ended:
    result = replace(ended.result, denied=authority.denied, component=authority.component)
    if ended.fault is not None and ended.fault.result is not None:
        ended.fault.result = result
    return replace(ended, result=result)


async def in_thread(execute: Callable[[Cancel], RunResult]) -> RunResult:
    """Awaits a run; cancelling ends it and cleans up before it returns."""
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[RunResult | BaseException] = loop.create_future()
    cancel = Cancel()

    def body() -> None:
        # As a value: a Future takes not every exception (StopIteration).
        outcome: RunResult | BaseException
        try:
            outcome = execute(cancel)
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
