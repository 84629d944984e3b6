"""Runs in warm sandboxes: each in a pool of its own, of which nothing is left afterwards."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.pool import PoolRunner
from omnibase.core.sandbox.pool_fit import at_start
from omnibase.core.sandbox.pool_sandbox import Recipe
from omnibase.core.sandbox.runner import Cancel, Ended, GVisorRunner, Observer, RunRequest
from omnibase.core.sandbox.spec import SandboxSpec

__all__ = ["AlwaysWarm", "always_warm", "bare"]

_READY_SECONDS: Final = 60.0


def always_warm() -> bool:
    """Whether the security tests run in warm sandboxes, one for each."""
    return os.environ.get("OMNIBASE_TEST_POOL") == "1"


def bare(spec: SandboxSpec) -> SandboxSpec:
    """Returns what a sandbox for a run can be started with: what is fixed then, and no grant."""
    fixed = at_start(spec)
    return replace(
        spec,
        files=(), secrets=(), commands=(), databases=(), registry=(), servers=(), egress=(),
        attached=(), imports=(), layer=None, artifacts=(), outlets=(), masks=(), grants=(),
        environment=tuple((n, v) for n, v in spec.environment if n in fixed or n in _FIXED),
        memory_bytes=50 * 10**6, cpus=1.0, pids=64,
    )  # fmt: skip


_FIXED: Final = ("HOME", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True, slots=True)
class AlwaysWarm:
    """Runs each request in a warm sandbox, and fails if it did not.

    Attributes:
        gvisor: Starts them.
    """

    gvisor: GVisorRunner

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`."""
        recipe = Recipe(runner=self.gvisor, base=bare(request.spec))
        admission = Admission(runs=16, memory_bytes=1 << 40)
        pool = PoolRunner(recipe, self.gvisor, 1, admission, wait_seconds=0)
        try:
            assert pool.wait_ready(1, _READY_SECONDS), pool.stats()
            ended = pool.run(request, observer, cancel)
        finally:
            pool.close()
        assert ended.result.cold_reason is None
        assert ended.result.warm
        return ended
