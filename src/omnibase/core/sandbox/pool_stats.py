"""How a pool is doing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

__all__ = ["PoolStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A pool, at one time.

    Attributes:
        size: Members that it wants to have ready.
        ready: Those that are.
        booting: Those that are being started.
        running: Those that have a run.
        ending: Those that are on their way out.
        warm_runs: Runs that had a member.
        cold_runs: Runs that had none.
        cold_reasons: Why not, and how often.
        failed_boots: Members that did not start.
        lost: Members that were ready, and died or gave no sign of life.
        idle_memory_bytes: What those that are ready used when they became it, together.
        boot_seconds: Of the last member that was started.
        teardown_seconds: From the result to the end of everything that ran in it; median
            of the last 512.
        problem: Why the last start failed, if it did.
        hint: What may help then.
    """

    size: int
    ready: int = 0
    booting: int = 0
    running: int = 0
    ending: int = 0
    warm_runs: int = 0
    cold_runs: int = 0
    cold_reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    failed_boots: int = 0
    lost: int = 0
    idle_memory_bytes: int = 0
    boot_seconds: float = 0.0
    teardown_seconds: float = 0.0
    problem: str | None = None
    hint: str | None = None

    def by_state(self) -> dict[str, int]:
        """Returns how many sandboxes there are in each state, as metrics have it."""
        return {
            "ready": self.ready, "booting": self.booting, "running": self.running,
            "ending": self.ending,
        }  # fmt: skip
