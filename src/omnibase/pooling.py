"""Runs through another runner than each run has by default."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

from omnibase.api import execute
from omnibase.asked import Extras, OnOutput, Options
from omnibase.call import in_thread
from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Cancel, SandboxRunner
from omnibase.inputs import (
    ArtifactsAt,
    Capabilities,
    Packages,
    Script,
    Secrets,
    Venv,
    capability_set,
    load_script,
)
from omnibase.registry_access import Registry

__all__ = ["RemotePool", "Runs"]


class Runs:
    """The functions of `omnibase` that run something, for a runner of its own.

    It is left to the process ``_pid``, if that is named: in a child, runs are as ever.
    """

    _options: Options
    _runner: SandboxRunner
    _pid: int | None = None

    def run(
        self,
        script: Script,
        *,
        args: Iterable[str] = (),
        stdin: bytes = b"",
        capabilities: Capabilities = None,
        context: ExecutionContext | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Secrets = None,
        packages: Packages = None,
        venv: Venv = None,
        artifacts: ArtifactsAt = None,
        on_output: OnOutput | None = None,
        bus: events.EventBus | None = None,
    ) -> RunResult:
        """See `omnibase.run`."""
        options = self._asked(
            args=args, stdin=stdin, context=context, env=env, secrets=secrets,
            artifacts=artifacts, on_output=on_output, bus=bus,
        )  # fmt: skip
        what = (load_script(script), capability_set(capabilities), options, packages, venv)
        with (
            contextlib.closing(Cancel()) as cancel,
            self._equipment(packages) as options.extras,
        ):
            return execute(*what, cancel)

    async def arun(
        self,
        script: Script,
        *,
        args: Iterable[str] = (),
        stdin: bytes = b"",
        capabilities: Capabilities = None,
        context: ExecutionContext | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Secrets = None,
        packages: Packages = None,
        venv: Venv = None,
        artifacts: ArtifactsAt = None,
        on_output: OnOutput | None = None,
        bus: events.EventBus | None = None,
    ) -> RunResult:
        """See `omnibase.arun`."""
        options = self._asked(
            args=args, stdin=stdin, context=context, env=env, secrets=secrets,
            artifacts=artifacts, on_output=on_output, bus=bus,
        )  # fmt: skip
        what = (load_script(script), capability_set(capabilities), options, packages, venv)

        def work(cancel: Cancel) -> RunResult:
            with self._equipment(packages) as options.extras:
                return execute(*what, cancel)

        return await in_thread(work)

    def run_component(
        self,
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
        on_output: OnOutput | None = None,
        bus: events.EventBus | None = None,
    ) -> RunResult:
        """See `omnibase.run_component`; nothing runs without a sandbox here."""
        from omnibase.components import Wanted

        options = self._asked(
            args=args, stdin=stdin, context=context, env=env, secrets=secrets,
            artifacts=artifacts, on_output=on_output, bus=bus,
        )  # fmt: skip
        wanted = Wanted(
            component, registry, capability_set(capabilities), environment, degrade, False
        )
        with contextlib.closing(Cancel()) as cancel, self._equipment() as options.extras:
            return wanted.execute(options, cancel)

    def _equipment(self, packages: Packages = None) -> AbstractContextManager[Extras]:
        """What a run comes with, unless it names packages, as long as it lasts."""
        return contextlib.nullcontext(Extras())

    def _asked(
        self,
        *,
        args: Iterable[str],
        stdin: bytes,
        context: ExecutionContext | None,
        env: Mapping[str, str] | None,
        secrets: Secrets,
        artifacts: ArtifactsAt,
        on_output: OnOutput | None,
        bus: events.EventBus | None,
    ) -> Options:
        options = Options(
            args=args, stdin=stdin, context=context or self._options.context, env=env,
            secrets=secrets, artifacts=artifacts, on_output=on_output,
            bus=bus or self._options.bus,
        )  # fmt: skip
        if self._pid in (None, os.getpid()):
            options.runner = self._runner
        return options


class RemotePool(Runs):
    """The pool of the daemon whose socket is in the state directory."""

    def __init__(self) -> None:
        from omnibase import __version__
        from omnibase.core.sandbox import state
        from omnibase.core.sandbox.remote.client import OFFER, RemoteRunner, socket_path

        path = socket_path(state.state_dir())
        self._options = Options()
        self._runner = RemoteRunner(path=path, version=__version__)
        self._offer = path.parent / OFFER

    def _equipment(self, packages: Packages = None) -> AbstractContextManager[Extras]:
        if packages is not None or not self._offer.exists():
            return contextlib.nullcontext(Extras())
        from omnibase.packages import offered

        return offered(self._offer)
