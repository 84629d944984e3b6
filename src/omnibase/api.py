"""The public way in: `run`, `arun`, `plan` and `Sandbox`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnibase.asked import OnOutput, Options
from omnibase.call import Call, Plan, in_thread
from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.inputs import (
    ArtifactsAt,
    Capabilities,
    Packages,
    Script,
    Secrets,
    Venv,
    capability_set,
    load_script,
    store_of,
)

if TYPE_CHECKING:
    from types import TracebackType

    from omnibase.core.sandbox.result import RunResult

__all__ = ["Chunk", "Sandbox", "arun", "execute", "plan", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of output, as it came.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        data: At most 64 KiB, cut anywhere.
    """

    stream: str
    data: bytes


def run(
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
    """Runs untrusted Python in a sandbox of its own and waits for its end.

    Args:
        script: A path (any ``os.PathLike``, or a ``str`` of one line that ends
            in ``.py``), or source code (``bytes``, or any other ``str``).
        args: What the script finds in ``sys.argv[1:]``.
        stdin: Bytes on its standard input.
        capabilities: What it may do; nothing by default.
        context: Quotas and what happens on a violation.
        env: Environment variables; the script sees no others of the caller's.
        secrets: Where the values of ``SECRET_ACCESS`` grants come from: ``env`` (the
            default: ``OMNIBASE_SECRET_<NAME>``), ``dir:/path``, ``keyring``, a mapping,
            or a `SecretStore`.
        packages: What it may import: a requirements file, a list of requirements, or
            what `omnibase.install_packages` returned. They are fetched and unpacked
            first, in sandboxes of their own, unless they are there already.
        venv: A virtual environment of this Python; it may import from it, and read
            its site-packages.
        artifacts: The store of artifacts: a directory, a URL such as
            ``s3://bucket/prefix``, or an `ArtifactStore`; by default
            ``$OMNIBASE_ARTIFACTS``, else ``artifacts`` in the state directory.
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
        ArtifactError: An artifact that is granted is missing or was tampered with, and
            nothing was started; or one that the script left was not stored.
        SecretAccessError: A secret that is granted is missing; nothing was started.
        ConfigurationError: The script or an argument is unusable.
        PackageError: Packages cannot be had, or are not what was locked.
        SandboxUnavailable: This machine cannot run sandboxes; the hint helps.
        SandboxStartError: The sandbox did not come up; nothing of the script ran.
    """
    options = Options(
        args=args, stdin=stdin, context=context, env=env, secrets=secrets, artifacts=artifacts,
        on_output=on_output, bus=bus,
    )  # fmt: skip
    what = (load_script(script), capability_set(capabilities), options, packages, venv)
    with contextlib.closing(Cancel()) as cancel:
        return execute(*what, cancel)


async def arun(
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
    """`run`, awaitable: cancelling it ends the run and cleans up before it returns."""
    options = Options(
        args=args, stdin=stdin, context=context, env=env, secrets=secrets, artifacts=artifacts,
        on_output=on_output, bus=bus,
    )  # fmt: skip
    what = (load_script(script), capability_set(capabilities), options, packages, venv)
    return await in_thread(lambda cancel: execute(*what, cancel))


def execute(
    script: tuple[str, bytes],
    grants: CapabilitySet,
    options: Options,
    packages: Packages,
    venv: Venv,
    cancel: Cancel,
) -> RunResult:
    """Runs what `run` was given, checked."""
    if packages is None and venv is None:
        return Call(*script, grants, options).execute(cancel)
    from omnibase.packages import equipped

    with equipped(packages, venv, grants, bus=options.bus, cancel=cancel) as (more, extras):
        return Call(*script, more, options, extras=extras).execute(cancel)


def plan(
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
) -> Plan:
    """Returns what `run` would do, and starts nothing.

    Raises:
        CapabilityError, ConfigurationError, SandboxUnavailable: As `run`.
    """
    options = Options(
        args=args, stdin=stdin, context=context, env=env, secrets=secrets, artifacts=artifacts
    )
    grants, extras = capability_set(capabilities), None
    if packages is not None or venv is not None:
        from omnibase.packages import planned

        grants, extras = planned(packages, venv, grants)
    return Call(*load_script(script), grants, options, extras=extras).plan()


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
        secrets: Secrets = None,
        packages: Packages = None,
        venv: Venv = None,
        artifacts: ArtifactsAt = None,
        bus: events.EventBus | None = None,
    ) -> None:
        self.capabilities = capability_set(capabilities)
        self.context = context or ExecutionContext()
        self._env = dict(env or {})
        self._secrets = store_of(secrets)
        # An iterator would be empty at the second run.
        if packages is not None and not isinstance(packages, str | os.PathLike):
            from omnibase.core.packages.lock import Layer

            packages = packages if isinstance(packages, Layer) else list(packages)
        self._packages = packages
        self._venv = venv
        self._artifacts = artifacts
        self._bus = bus

    def run_sync(
        self, script: Script, *, args: Iterable[str] = (), stdin: bytes = b"",
        on_output: OnOutput | None = None,
    ) -> RunResult:  # fmt: skip
        """See `omnibase.run`."""
        return run(
            script, args=args, stdin=stdin, capabilities=self.capabilities, context=self.context,
            env=self._env, secrets=self._secrets, packages=self._packages, venv=self._venv,
            artifacts=self._artifacts, on_output=on_output, bus=self._bus,
        )  # fmt: skip

    async def run(
        self, script: Script, *, args: Iterable[str] = (), stdin: bytes = b"",
        on_output: OnOutput | None = None,
    ) -> RunResult:  # fmt: skip
        """See `omnibase.arun`."""
        return await arun(
            script, args=args, stdin=stdin, capabilities=self.capabilities, context=self.context,
            env=self._env, secrets=self._secrets, packages=self._packages, venv=self._venv,
            artifacts=self._artifacts, on_output=on_output, bus=self._bus,
        )  # fmt: skip

    async def stream(
        self, script: Script, *, args: Iterable[str] = (), stdin: bytes = b""
    ) -> AsyncGenerator[Chunk | RunResult]:
        """Yields each `Chunk` as it comes, and the `RunResult` last.

        Raises:
            OmniBaseError: As `omnibase.run`, after the output that came before.
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
