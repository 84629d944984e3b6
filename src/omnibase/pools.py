"""`Pool`: warm sandboxes for runs that are to begin at once."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from omnibase.asked import Options
from omnibase.backend import backend, compile_grants, places
from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.pool import PoolRunner, PoolStats
from omnibase.core.sandbox.pool_member import Recipe
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import ConfigurationError
from omnibase.pooling import Runs

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Pool", "PoolStats"]

_MOST: Final = 1024
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class Pool(Runs):
    """Sandboxes that are started before there is a script, each for one run.

    A run of a pool takes the arguments of `omnibase.run` and gives the same result, errors,
    events and violations; what it is granted is bound when it comes. It takes one that is
    ready, which is not used again. If none is, or the run asks for what is fixed when a
    sandbox starts, it gets one of its own as by `omnibase.run`, and
    ``result.cold_reason`` says why.

    Usable as ``with Pool(size=4) as pool: pool.run(...)`` and as ``async with``. A
    process that forks leaves its pools to itself: in a child, runs get sandboxes of their
    own.

    Args:
        size: How many are to be ready.
        context: Quotas of runs that name none. Its ``scratch_bytes`` is fixed at the
            start of a sandbox.
        preload: Modules of the standard library to import before there is a script;
            what they use counts against its memory.
        idle_seconds: After so long without a run all are ended, until the next one.
            ``None`` keeps them.
        boots_at_once: Most that are started at one time; one for two CPUs by default.
        wait_seconds: How long a run waits for one that is being started.
        bus: Where events of runs go that name none; `omnibase.default_bus` by default.

    Raises:
        ConfigurationError: An argument is unusable.
        SandboxUnavailable: This machine cannot run sandboxes; the hint helps.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        context: ExecutionContext | None = None,
        preload: Iterable[str] = (),
        idle_seconds: float | None = None,
        boots_at_once: int | None = None,
        wait_seconds: float = 1.0,
        bus: events.EventBus | None = None,
    ) -> None:
        _check_number("size", size, 1)
        if boots_at_once is not None:
            _check_number("boots_at_once", boots_at_once, 1)
        self._options = Options(context=context, bus=bus)
        found = backend()
        base = compile_grants(CapabilitySet(), self._options.context, found.image, None)
        self._runner = PoolRunner(
            Recipe(runner=found.gvisor, base=base, preload=modules(preload)),
            found.runner,
            size,
            places(),
            idle_seconds=idle_seconds,
            boots_at_once=boots_at_once,
            wait_seconds=wait_seconds,
        )
        self._pid = os.getpid()
        self._close = weakref.finalize(self, self._runner.close)

    _runner: PoolRunner

    @property
    def runner(self) -> PoolRunner:
        """What its runs go through."""
        return self._runner

    def stats(self) -> PoolStats:
        """Tells how the pool is doing."""
        return self._runner.stats()

    def wait_ready(self, count: int | None = None, timeout_seconds: float = 30.0) -> bool:
        """Waits until so many are ready, all by default; returns whether they are."""
        size = self._runner.stats().size
        return self._runner.wait_ready(size if count is None else count, timeout_seconds)

    def close(self) -> None:
        """Ends all that have no run, and waits for those that have one, and for their end.

        Runs that come later get sandboxes of their own.
        """
        self._close()

    drain = close

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        import asyncio

        await asyncio.to_thread(self.close)


def _check_number(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
        raise ConfigurationError(
            f"`{name}` is `{value!r:.40}`", hint=f"pass a whole number from {least} to {_MOST}"
        )


def modules(preload: Iterable[str]) -> tuple[str, ...]:
    if isinstance(preload, str):
        raise ConfigurationError("`preload` is a string", hint=f"pass a list: `[{preload[:80]!r}]`")
    names: tuple[Any, ...] = tuple(preload)
    for name in names:
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            raise ConfigurationError(
                f"`{name!r:.80}` is not a module's name", hint="pass names such as `json`"
            )
    return names
