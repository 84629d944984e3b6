"""What a caller may say of a run, checked before anything starts."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from omnibase.core import audit, events
from omnibase.core.artifacts.places import Place
from omnibase.core.context import ExecutionContext
from omnibase.errors import ConfigurationError
from omnibase.inputs import ArtifactsAt, Secrets, artifacts_at, is_argument, store_of

if TYPE_CHECKING:
    from omnibase.core.packages.lock import Lock
    from omnibase.core.sandbox.result import ComponentRun
    from omnibase.core.sandbox.runner import SandboxRunner
    from omnibase.core.sandbox.spec import Attachment, Mask, SandboxSpec
    from omnibase.registry_access import Registry

__all__ = ["Authority", "Extras", "OnOutput", "Options", "check_argument"]

OnOutput = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What a run comes with, besides what it is granted.

    Attributes:
        attached: Directories of OmniBase's own.
        imports: Guest directories that the script may import from.
        lock: What the attached packages are, if they are a layer.
        probes: Paths that they look for, and may miss.
    """

    attached: tuple[Attachment, ...] = ()
    imports: tuple[str, ...] = ()
    lock: Lock | None = None
    probes: frozenset[str] = frozenset()

    def over(self, other: Extras) -> Extras:
        """Returns these, and another's packages unless these have some of their own."""
        if self.lock is not None or other.lock is None:
            return self
        return Extras(
            attached=other.attached + self.attached,
            imports=other.imports + self.imports,
            lock=other.lock,
            probes=other.probes | self.probes,
        )

    def on(self, spec: SandboxSpec) -> SandboxSpec:
        """Returns a spec with them."""
        if self == Extras():
            return spec
        return replace(
            spec,
            attached=self.attached,
            imports=self.imports,
            layer=None if self.lock is None else self.lock.digest,
            watch=replace(spec.watch, probes=spec.watch.probes | self.probes),
        )

    def started(self) -> tuple[events.Payload, ...]:
        """Returns what the start of a run with them says."""
        if self.lock is None:
            return ()
        return (events.LayerAttached(lock_digest=self.lock.digest, packages=self.lock.pins()),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who a run is for and what was decided for it.

    Attributes:
        component: What runs, for the result.
        masks: What its policy takes out of granted trees.
        denied: Capabilities that were asked for and are not granted.
        registry: Directory of the registry that decided: no grant may write there.
        idempotent: Running it again does no harm, says its record.
        source: That registry, for what the script is shown of it; by default the
            implied one.
    """

    component: ComponentRun | None = None
    masks: tuple[Mask, ...] = ()
    denied: tuple[str, ...] = ()
    registry: str | None = None
    idempotent: bool = False
    source: Registry = None


class Options:
    """What a caller may say of a run, besides what runs and what it may do.

    Attributes:
        args: What the script finds in ``sys.argv[1:]``.
        stdin: Bytes on its standard input.
        context: Quotas and what happens on a violation.
        env: Its environment variables.
        secrets: Where secrets are kept.
        artifacts: Where artifacts are kept; ``None`` for `default_artifacts`.
        on_output: Called with ``(stream, bytes)`` as output comes.
        bus: Where events go.
        runner: Where it runs, if not where each run does.
        extras: What it comes with there, if it names no packages.

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
        artifacts: ArtifactsAt | Place = None,
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
        self.artifacts = artifacts if isinstance(artifacts, Place) else artifacts_at(artifacts)
        if on_output is not None and not callable(on_output):
            raise ConfigurationError("`on_output` is not callable", hint="pass a function")
        self.on_output = on_output
        self.bus = bus or events.default_bus()
        if self.bus.closed:
            raise ConfigurationError("the event bus is closed", hint="pass an open one")
        audit.attach(self.bus)
        if os.environ.get("OMNIBASE_NATS"):
            from omnibase import publishing

            publishing.attach(self.bus)
        self.runner: SandboxRunner | None = None
        self.extras = Extras()

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
