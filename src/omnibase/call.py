"""One call: what was asked for, checked before anything starts, and the run that it makes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from omnibase.asked import Authority, Extras, Options, check_argument
from omnibase.backend import backend, compile_grants
from omnibase.core import events
from omnibase.core.audit import places
from omnibase.core.sandbox import compile, record, state
from omnibase.core.sandbox.runner import Cancel, Ended, RunRequest, SandboxRunner
from omnibase.core.sandbox.verdict import spec_limits, verdict
from omnibase.core.secrets import fetch
from omnibase.errors import (
    ArtifactError,
    CapabilityError,
    ExternalCommandError,
    OmniBaseError,
    PolicyError,
    RegistryError,
    SandboxError,
    SandboxViolationError,
    SecretAccessError,
)
from omnibase.exchange import ArtifactExchange, covers, exchange_for, given, planned

# What most runs do not need is imported where it is used.
if TYPE_CHECKING:
    from omnibase.core.sandbox.commands.layout import CommandLayer
    from omnibase.core.sandbox.image import Image
    from omnibase.core.sandbox.result import RunResult
    from omnibase.core.sandbox.spec import SandboxSpec
    from omnibase.core.secrets import Secret
    from omnibase.core.security.capabilities import CapabilitySet
    from omnibase.proposals import Proposals
    from omnibase.registry_access import Shown

__all__ = [
    "Call",
    "Plan",
    "in_thread",
    "perform",
    "tell_refused",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would be: the dry run.

    Attributes:
        request: The script and the frozen spec.
        enforcement: ``capability → how it is enforced``.
        problems: Why secrets, commands or artifacts that are granted cannot be had now, by
            capability. The request has neither values nor files.
    """

    request: RunRequest
    enforcement: Mapping[str, str]
    problems: Mapping[str, OmniBaseError] = field(default_factory=dict)


class Call:
    """A script with its grants, on its way into a sandbox."""

    def __init__(
        self,
        name: str,
        source: bytes,
        grants: CapabilitySet,
        options: Options,
        authority: Authority | None = None,
        extras: Extras | None = None,
    ) -> None:
        check_argument(name)
        self._name = name
        self._source = source
        self._grants = grants
        self._options = options
        self._authority = authority or Authority()
        self._extras = (extras or Extras()).over(options.extras)

    def plan(self) -> Plan:
        """Returns what `execute` would do."""
        request = self._request(backend().image)
        problems: dict[str, OmniBaseError] = {}
        for name in request.spec.secrets:
            try:
                fetch(self._options.secrets, (name,))
            except OmniBaseError as error:
                problems[f"SECRET_ACCESS:{name}"] = error
        if request.spec.commands:
            from omnibase.core.sandbox.commands import finding
        for name in request.spec.commands:
            try:
                finding.check(name)
            except OmniBaseError as error:
                problems[f"EXTERNAL_COMMAND:{name}"] = error
        names, missing = planned(self._options.artifacts, request.spec.artifacts)
        request, problems = replace(request, artifacts=names), {**problems, **missing}
        try:
            self._shown(request)
        except OmniBaseError as error:
            reading = [grant.capability for grant in request.spec.registry]
            problems[str(error.details.get("capability", reading[0]))] = error
        return Plan(request=request, enforcement=self._enforcement(), problems=problems)

    def execute(self, cancel: Cancel, emitter: events.Emitter | None = None) -> RunResult:
        """Runs the script; raises what `omnibase.run` documents."""
        emitter = emitter or events.Emitter(self._options.bus, subject=self._name)
        try:
            runner, root, gvisor = backend()
            request = self._request(root)
            secrets = fetch(self._options.secrets, request.spec.secrets)
            secrets += _passwords(request.spec, secrets)
            commands = _brought_in(request.spec.commands)
            exchange = exchange_for(self._options.artifacts, request.spec, emitter)
            proposals = self._proposals(request.spec, emitter)
            shown = self._shown(request)
            inputs = () if exchange is None else exchange.inputs
            request = replace(
                request,
                run_id=emitter.runid,
                secrets=secrets,
                commands=commands,
                registry=shown.files if shown else (),
                artifacts=tuple(artifact.name for artifact in inputs),
            )
            started = record.sandbox_start(
                request, gvisor.platform, gvisor.runtime.version, self._enforcement()
            )
            started = (*self._extras.started(), *started)
            started += given(inputs) + (shown.events if shown else ())
            return perform(
                self._options.runner or runner, request, started, self._options, emitter, cancel,
                self._authority, exchange=exchange, proposals=proposals,
            )  # fmt: skip
        except (
            ArtifactError, CapabilityError, ExternalCommandError, RegistryError, SecretAccessError,
        ) as error:  # fmt: skip
            if emitter.has_emitted(events.SandboxStart):
                raise  # the run is over, and was not denied
            capability = str(error.details.get("capability", ""))
            emitter.emit(events.CapabilityDenied(capability=capability, reason=error.message))
            tell_refused(emitter, error)
            raise
        except BaseException as error:
            if not emitter.has_emitted(events.SandboxStart):  # else its end is on record
                tell_refused(emitter, error)
            raise

    def _request(self, root: Image) -> RunRequest:
        options, authority = self._options, self._authority
        return RunRequest(
            spec=self._extras.on(compile_grants(
                self._grants, options.context, root, options.env,
                masks=authority.masks, registry=authority.registry,
                hidden=options.secrets.areas
                + (() if options.artifacts is None else options.artifacts.areas),
            )),
            covers=partial(covers, self._grants),
            script=self._source,
            name=self._name,
            argv=options.args,
            stdin=options.stdin,
            idempotent=authority.idempotent,
        )  # fmt: skip

    def _shown(self, request: RunRequest) -> Shown | None:
        """Reads what the script is shown of the registry that decided, or the implied one."""
        if not request.spec.registry:
            return None
        from omnibase.registry_access import opened, shown  # most runs need none of it

        with opened(self._authority.source) as store:
            return shown(store, request.spec.registry)

    def _proposals(self, spec: SandboxSpec, emitter: events.Emitter) -> Proposals | None:
        """Looks for the registry, if the run may propose something to it."""
        if all(outlet.capability != "REGISTRY_WRITE" for outlet in spec.outlets):
            return None
        from omnibase.proposals import Proposals

        component = self._authority.component
        proposer = None if component is None else component.uuid
        return Proposals(self._authority.source, proposer, emitter)

    def _enforcement(self) -> dict[str, str]:
        return {str(grant): compile.ENFORCEMENT[grant.type] for grant in self._grants}


def _passwords(spec: SandboxSpec, secrets: tuple[Secret, ...]) -> tuple[Secret, ...]:
    if not spec.servers:
        return ()
    from omnibase.core.sandbox.databases.grants import PASSWORDS
    from omnibase.core.sandbox.databases.passwords import password_file

    return password_file(PASSWORDS, spec.servers, secrets)


def _brought_in(commands: tuple[str, ...]) -> CommandLayer | None:
    if not commands:
        return None
    from omnibase.core.sandbox.commands import layer

    return layer.ensure_layer(state.state_dir(), commands)


def tell_refused(emitter: events.Emitter, error: BaseException) -> None:
    """Puts on record that nothing was started, and why."""
    seconds, file = time.monotonic() - emitter.began, None
    if isinstance(error, OmniBaseError):
        code, reason = error.code, error.message
        if isinstance(error, PolicyError | RegistryError):
            file = error.details.get("file")
    else:  # an interrupt, or a defect of ours
        code = "internal_error" if isinstance(error, Exception) else "cancelled"
        reason = f"`{type(error).__name__}` came before its start"
    emitter.emit(events.RunRefused(code=code, reason=reason, file=file, seconds=seconds))


def perform(
    runner: SandboxRunner,
    request: RunRequest,
    started: tuple[events.Payload, ...],
    options: Options,
    emitter: events.Emitter,
    cancel: Cancel,
    authority: Authority | None = None,
    check: Callable[[], None] = lambda: None,
    exchange: ArtifactExchange | None = None,
    proposals: Proposals | None = None,
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
        exchange: Between the run and the store of artifacts.
        proposals: From the run to the registry.

    Raises:
        SandboxViolationError, SandboxError: As `omnibase.run`.
    """
    note = places.open_run(lambda: state.state_dir() / state.OPEN_RUNS, options.bus, emitter)
    recorder = record.Recorder(
        emitter, request, started, on_output=options.on_output, check=check,
        exchanges=tuple(one for one in (exchange, proposals) if one is not None), note=note,
    )  # fmt: skip
    try:
        ended = runner.run(request, recorder, cancel)
        if authority is not None:
            ended = _with(ended, denied=authority.denied, component=authority.component,
                          layer=request.spec.layer)  # fmt: skip
        if exchange is not None:
            ended = _with(ended, artifacts=exchange.artifacts)
        if proposals is not None:
            ended = _with(ended, proposed=proposals.finish(ended))
        recorder.ended(ended)
    except BaseException as cut_short:
        recorder.abandoned(cut_short)
        raise
    finally:
        if note is not None:
            note.release()
    error = verdict(ended, options.context, spec_limits(request))
    if isinstance(error, SandboxViolationError):
        _tell_commands(error, request.spec.grants)
    if error is None and exchange is not None and exchange.error is not None:
        error = exchange.error
        error.result = ended.result
    if error is not None:
        if not recorder.started and isinstance(error, SandboxError):
            error.result = None  # nothing came out: it is told as a run that did not start
        raise error
    return ended.result


def _tell_commands(error: SandboxViolationError, granted: tuple[str, ...]) -> None:
    """Adds which commands were tried, and whether a grant could bring them in."""
    from omnibase.core.sandbox.commands import finding

    tried = finding.attempted(error.violations)
    if not tried:
        return
    error.details["commands"] = tried
    name = next((name for name in tried if error.hint and f"`{name}`" in error.hint), None)
    if name in granted:
        error.hint = f"`{name}` is granted: start it by its name, where no granted file hides it"
    elif name is not None and tried[name] is None:
        error.hint = f"`{name}` cannot be granted: this machine has no such command"


def _with(ended: Ended, **fields: Any) -> Ended:
    result = replace(ended.result, **fields)
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
