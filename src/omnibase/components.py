"""Running what the registry holds: component → policy → grants → sandbox, or not at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from omnibase.asked import Authority, OnOutput, Options
from omnibase.call import Call, Plan, in_thread, tell_refused
from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.registry import Component, RegistryStore
from omnibase.core.sandbox.result import ComponentRun, RunResult
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.spec import Mask
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.grants import (
    Grants,
    effective_grants,
    refusal,
    unsandboxed_permits,
)
from omnibase.errors import (
    CapabilityDenied,
    ConfigurationError,
    SandboxStartError,
)
from omnibase.inputs import ArtifactsAt, Capabilities, Secrets, capability_set, registry_location
from omnibase.registries import Loaded, load, open_registry
from omnibase.registry_access import Registry

__all__ = [
    "ComponentPlan",
    "arun_component",
    "plan_component",
    "run_component",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentPlan:
    """What a run of a component would be: the dry run.

    Attributes:
        component: What would run.
        grants: What its policy says to what is asked for.
        plan: The run; ``None`` if it would be refused or runs without a sandbox.
        refused: Its policy denies something, and it was not to go on without that.
        unsandboxed: It is to run without a sandbox.
        reason: Why it may not run without one; ``None`` if it may, or is not to.
    """

    component: Component
    grants: Grants
    plan: Plan | None
    refused: bool
    unsandboxed: bool
    reason: str | None


def run_component(
    component: str,
    *,
    registry: Registry = None,
    args: Iterable[str] = (),
    stdin: bytes = b"",
    capabilities: Capabilities = None,
    context: ExecutionContext | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Secrets = None,
    artifacts: ArtifactsAt = None,
    environment: str = "default",
    degrade: bool = False,
    unsandboxed: bool = False,
    on_output: OnOutput | None = None,
    bus: events.EventBus | None = None,
) -> RunResult:
    """Runs a component of the registry with what its policy grants.

    It asks for what its record requires and for ``capabilities``; its policy says
    what of that it gets, with masks where a forbid covers a part of a granted tree.

    Args:
        component: A uuid, ``name``, ``name@version`` or ``name@constraint``.
        registry: A store, a directory or a database URL; by default
            ``$OMNIBASE_REGISTRY``, else ``registry``.
        args: What the script finds in ``sys.argv[1:]``.
        stdin: Bytes on its standard input.
        capabilities: What to ask for in addition; the policy decides on it, too.
        context: Quotas and what happens on a violation.
        env: Environment variables; the script sees no others of the caller's.
        secrets: Where the values of ``SECRET_ACCESS`` grants come from: ``env`` (the
            default: ``OMNIBASE_SECRET_<NAME>``), ``dir:/path``, ``keyring``, a mapping,
            or a `SecretStore`.
        artifacts: The store of artifacts: a directory, a URL such as
            ``s3://bucket/prefix``, or an `ArtifactStore`; by default
            ``$OMNIBASE_ARTIFACTS``, else ``artifacts`` in the state directory.
        environment: Where the run happens, for conditions on
            ``context.environment``.
        degrade: Run without what is denied; ``result.denied`` lists it.
        unsandboxed: Run on the host, with the caller's rights: only if the
            component is ``trusted``, requires ``EXTERNAL_COMMAND:host-python``,
            and its policy permits that very name. Quotas hold; nothing else does.
        on_output: See `omnibase.run`.
        bus: Where events go; `omnibase.default_bus` by default.

    Returns:
        The result; a script that exits non-zero is a result.

    Raises:
        CapabilityDenied: Policy denies something, and ``degrade`` is not set;
            nothing was started.
        RegistryError, PolicyError: The component cannot be found or was tampered
            with; nothing was started.
        OmniBaseError: Whatever `omnibase.run` raises.
    """
    options = Options(
        args=args, stdin=stdin, context=context, env=env, secrets=secrets, artifacts=artifacts,
        on_output=on_output, bus=bus,
    )  # fmt: skip
    wanted = Wanted(
        component, registry, capability_set(capabilities), environment, degrade, unsandboxed
    )
    with contextlib.closing(Cancel()) as cancel:
        return wanted.execute(options, cancel)


async def arun_component(
    component: str,
    *,
    registry: Registry = None,
    args: Iterable[str] = (),
    stdin: bytes = b"",
    capabilities: Capabilities = None,
    context: ExecutionContext | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Secrets = None,
    artifacts: ArtifactsAt = None,
    environment: str = "default",
    degrade: bool = False,
    unsandboxed: bool = False,
    on_output: OnOutput | None = None,
    bus: events.EventBus | None = None,
) -> RunResult:
    """`run_component`, awaitable: cancelling it ends the run and cleans up first."""
    options = Options(
        args=args, stdin=stdin, context=context, env=env, secrets=secrets, artifacts=artifacts,
        on_output=on_output, bus=bus,
    )  # fmt: skip
    wanted = Wanted(
        component, registry, capability_set(capabilities), environment, degrade, unsandboxed
    )
    return await in_thread(lambda cancel: wanted.execute(options, cancel))


def plan_component(
    component: str,
    *,
    registry: Registry = None,
    args: Iterable[str] = (),
    stdin: bytes = b"",
    capabilities: Capabilities = None,
    context: ExecutionContext | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Secrets = None,
    artifacts: ArtifactsAt = None,
    environment: str = "default",
    degrade: bool = False,
    unsandboxed: bool = False,
) -> ComponentPlan:
    """Returns what `run_component` would do, and starts nothing.

    What policy denies is in ``grants.denied``, never raised.

    Raises:
        RegistryError: As `run_component`, and so are the others.
        PolicyError: Likewise.
        CapabilityError: Likewise.
        ConfigurationError: Likewise.
        SandboxUnavailable: Likewise.
    """
    options = Options(
        args=args, stdin=stdin, context=context, env=env, secrets=secrets, artifacts=artifacts
    )
    wanted = Wanted(
        component, registry, capability_set(capabilities), environment, degrade, unsandboxed
    )
    return wanted.plan(options)


class Wanted:
    """A component that is to run, and on which terms."""

    def __init__(
        self,
        reference: str,
        registry: Registry,
        overrides: CapabilitySet,
        environment: str,
        degrade: bool,
        unsandboxed: bool,
    ) -> None:
        if not isinstance(reference, str | UUID):
            raise ConfigurationError(
                f"a component is named by no `{type(reference).__name__}`",
                hint="pass a uuid, a name, or `name@version`",
            )
        self._reference = str(reference)
        if not isinstance(registry, RegistryStore):
            registry_location(registry)  # refused before anything is read
        self._registry = registry
        self._overrides = overrides
        PolicyContext(environment=environment)  # likewise
        self._environment = environment
        self._degrade = degrade
        self._unsandboxed = unsandboxed

    def plan(self, options: Options) -> ComponentPlan:
        loaded = self._load()
        options, asked = _memory_is_asked_for(options)
        grants = self._decide(loaded, asked)
        unsandboxed = self._unsandboxed
        reason = None
        if unsandboxed:
            try:
                self._host_permits(loaded)
            except CapabilityDenied as error:
                reason = error.message
        refused = reason is not None or (bool(grants.denied) and (unsandboxed or not self._degrade))
        plan = None if refused or unsandboxed else self._call(loaded, grants, options).plan()
        return ComponentPlan(
            component=loaded.component,
            grants=grants,
            plan=plan,
            refused=refused,
            unsandboxed=unsandboxed,
            reason=reason,
        )

    def execute(self, options: Options, cancel: Cancel) -> RunResult:
        """Runs it; whatever keeps it from running is an event first."""
        emitter = events.Emitter(options.bus, subject=self._reference or "component")
        try:
            loaded = self._load(partial(_name, emitter))
            if loaded.policy_version is not None:
                emitter.policydigest = f"sha256:{loaded.policy.sha256}"
            options, asked = _memory_is_asked_for(options)
            began = time.monotonic()
            grants = self._decide(loaded, asked)
            _tell(emitter, grants, loaded.policy_version, time.monotonic() - began)
            # Without a sandbox nothing holds it to what it is denied.
            if grants.denied and (self._unsandboxed or not self._degrade):
                raise refusal(
                    grants.denied, loaded.component.uuid, may_degrade=not self._unsandboxed
                )
            permits = self._host_permits(loaded) if self._unsandboxed else ()
        except CapabilityDenied as error:
            if "capability" in error.details:  # else told already, one by one
                capability, reason = error.details["capability"], error.details["reason"]
                emitter.emit(events.CapabilityDenied(capability=capability, reason=reason))
            tell_refused(emitter, error)
            raise
        except BaseException as error:
            tell_refused(emitter, error)
            raise
        if not self._unsandboxed:
            return self._call(loaded, grants, options).execute(cancel, emitter)
        from omnibase.unsandboxed import run_on_host

        authority = self._authority(loaded, grants)
        try:
            return run_on_host(
                loaded.name, loaded.script, permits, authority, grants.granted, options,
                emitter, cancel,
            )  # fmt: skip
        except BaseException as error:
            # What keeps a start from being put on record is told, though it is on some.
            if isinstance(error, SandboxStartError) or not emitter.has_emitted(
                events.UnsandboxedStart
            ):
                tell_refused(emitter, error)
            raise

    def _load(self, found: Callable[[Component], None] = lambda component: None) -> Loaded:
        if isinstance(self._registry, RegistryStore):
            return load(self._registry, self._reference, found)
        with contextlib.closing(open_registry(self._registry, must_exist=True)) as store:
            return load(store, self._reference, found)

    def _decide(self, loaded: Loaded, asked: CapabilitySet) -> Grants:
        return effective_grants(
            loaded.component.capabilities_required,
            self._overrides | asked,
            loaded.policy,
            loaded.component.uuid,
            loaded.context(self._environment),
            degrade=True,
        )

    def _host_permits(self, loaded: Loaded) -> tuple[str, ...]:
        return unsandboxed_permits(
            loaded.component.capabilities_required,
            loaded.policy,
            loaded.component.uuid,
            loaded.context(self._environment),
        )

    def _call(self, loaded: Loaded, grants: Grants, options: Options) -> Call:
        authority = self._authority(loaded, grants)
        return Call(loaded.name, loaded.script, grants.granted, options, authority)

    def _authority(self, loaded: Loaded, grants: Grants) -> Authority:
        has_policy = loaded.policy_version is not None
        return Authority(
            component=ComponentRun(
                uuid=str(loaded.component.uuid),
                reference=loaded.component.reference,
                policy_version=loaded.policy_version,
                policy_sha256=loaded.policy.sha256 if has_policy else None,
                environment=self._environment,
                granted=tuple(map(str, grants.granted)),
                masks=tuple(mask.path for mask in grants.masks),
            ),
            masks=tuple(Mask(path=mask.path, reason=mask.reason) for mask in grants.masks),
            denied=tuple(str(one.capability) for one in grants.denied),
            registry=loaded.directory,
            idempotent=loaded.component.idempotent,
            source=self._registry,
        )


def _memory_is_asked_for(options: Options) -> tuple[Options, CapabilitySet]:
    """Makes a caller's larger default of memory a request: policy decides on that, too."""
    most, wanted = ExecutionContext().default_memory_bytes, options.context.default_memory_bytes
    if wanted <= most:
        return options, CapabilitySet()
    context = replace(options.context, default_memory_bytes=most)
    return options.with_context(context), CapabilitySet.parse([f"MEMORY:{wanted}B"])


def _name(emitter: events.Emitter, component: Component) -> None:
    emitter.componentid = str(component.uuid)
    emitter.subject = component.reference


def _tell(
    emitter: events.Emitter, grants: Grants, policy_version: int | None, seconds: float
) -> None:
    """Puts a decision on record, and each capability that it denies."""
    decision, circumstances = grants.decision, grants.decision.context
    emitter.emit(
        events.PolicyDecided(
            requested=tuple(str(verdict.capability) for verdict in decision.verdicts),
            granted=tuple(map(str, grants.granted)),
            masks=tuple(mask.pattern for verdict in decision.verdicts for mask in verdict.masks),
            denied=tuple(str(one.capability) for one in grants.denied),
            trust=circumstances.trust,
            lifecycle=circumstances.lifecycle,
            environment=circumstances.environment,
            policy_version=policy_version,
            seconds=seconds,
        )
    )
    for one in grants.denied:
        emitter.emit(
            events.CapabilityDenied(
                capability=str(one.capability),
                reason=one.reason,
                policies=tuple(ref.id for ref in one.policies),
            )
        )
