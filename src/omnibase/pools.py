"""`Pool`: warm sandboxes for runs that are to begin at once."""

from __future__ import annotations

import contextlib
import os
import re
import weakref
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from omnibase.asked import Extras, Options
from omnibase.backend import backend, compile_grants, places
from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.pool import PoolRunner
from omnibase.core.sandbox.pool_sandbox import Recipe
from omnibase.core.sandbox.pool_stats import PoolStats
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import ConfigurationError
from omnibase.inputs import Packages
from omnibase.pooling import Runs

if TYPE_CHECKING:
    from types import TracebackType

    from omnibase.core.packages.lock import Layer

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
        preload: Modules to import before there is a script, of the standard library or of
            ``packages``; what they use counts against its memory.
        packages: See `omnibase.run`. They are the pool's: they are there before a run is,
            and each run comes with them that names no others.
        idle_seconds: After so long without a run all are ended, until the next one.
            ``None`` keeps them.
        boots_at_once: Most that are started at one time; one for two CPUs by default.
        wait_seconds: How long a run waits for one that is being started.
        bus: Where events of runs go that name none; `omnibase.default_bus` by default.

    Raises:
        ConfigurationError: An argument is unusable.
        PackageError: Packages cannot be had, or are not what was locked.
        SandboxUnavailable: This machine cannot run sandboxes; the hint helps.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        context: ExecutionContext | None = None,
        preload: Iterable[str] = (),
        packages: Packages = None,
        idle_seconds: float | None = None,
        boots_at_once: int | None = None,
        wait_seconds: float = 1.0,
        bus: events.EventBus | None = None,
    ) -> None:
        _check_number("size", size, 1)
        if boots_at_once is not None:
            _check_number("boots_at_once", boots_at_once, 1)
        self._options = Options(context=context, bus=bus)
        names = modules(preload)
        found = backend()
        with contextlib.ExitStack() as kept:
            recipe = Recipe(
                runner=found.gvisor,
                base=compile_grants(CapabilitySet(), self._options.context, found.image, None),
                preload=names,
            )
            if packages is not None:
                recipe = self._with_packages(recipe, packages, kept)
            self._runner = PoolRunner(
                recipe,
                found.runner,
                size,
                places(),
                idle_seconds=idle_seconds,
                boots_at_once=boots_at_once,
                wait_seconds=wait_seconds,
            )
            self._pid = os.getpid()
            self._close = weakref.finalize(self, _close, self._runner, kept.pop_all())

    _runner: PoolRunner
    _layer: Layer | None = None
    _extras = Extras()

    def _with_packages(
        self, recipe: Recipe, packages: Packages, kept: contextlib.ExitStack
    ) -> Recipe:
        """Has the sandboxes start with packages, which are kept until the stack is closed."""
        from omnibase.packages import cache, extras_of, held, provided

        with contextlib.closing(Cancel()) as cancel:
            layer = kept.enter_context(provided(packages, bus=self._options.bus, cancel=cancel))
        if layer is None:
            raise ConfigurationError("no packages are named", hint="name a requirements file")
        self._layer, self._extras = layer, extras_of(layer)
        return replace(
            recipe, base=self._extras.on(recipe.base), held=partial(held, layer.digest, cache())
        )

    def _equipment(self, packages: Packages = None) -> contextlib.AbstractContextManager[Extras]:
        return contextlib.nullcontext(self._extras)

    @property
    def layer(self) -> Layer | None:
        """Its packages, if it has some."""
        return self._layer

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


def _close(runner: PoolRunner, kept: contextlib.ExitStack) -> None:
    """Ends a pool, and lets go of its packages once nothing uses them."""
    with kept:
        runner.close()


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
