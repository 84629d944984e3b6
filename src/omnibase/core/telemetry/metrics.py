"""Metrics of runs, made from their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from omnibase.core.events import (
    CapabilityDenied,
    Event,
    MonitorGap,
    PolicyDecided,
    ResourceLimitExceeded,
    RunRefused,
    RunRetried,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
)
from omnibase.core.telemetry.attributes import Attributes, capability_type

__all__ = ["Metrics", "PoolSize"]

PoolSize: TypeAlias = Callable[[], Mapping[str, int]]
"""Says how many pre-booted sandboxes there are, by state."""

_RUN_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0)
_STEP_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 5.0)


class Metrics:
    """Counts and times what events tell. Attributes are words of small sets.

    Args:
        meter: Makes the instruments.
        pool_size: Asked whenever metrics are collected.
    """

    def __init__(self, meter: Meter, pool_size: PoolSize | None = None) -> None:
        self._runs = meter.create_counter(
            "omnibase.runs", "{run}", "Runs that have ended, by outcome"
        )
        self._denials = meter.create_counter(
            "omnibase.denials", "{denial}", "Capabilities that were asked for and denied"
        )
        self._violations = meter.create_counter(
            "omnibase.violations", "{attempt}", "Attempts of scripts beyond their grants"
        )
        self._retries = meter.create_counter(
            "omnibase.retries", "{attempt}", "Tries whose sandbox failed, and that were repeated"
        )
        self._limits = meter.create_counter(
            "omnibase.limits", "{limit}", "Quotas that runs have reached"
        )
        self._lost = meter.create_counter(
            "omnibase.events.lost",
            "{event}",
            "Observations or events that a sink or the trace lost",
        )

        def seconds(name: str, text: str, bounds: tuple[float, ...] = _STEP_SECONDS) -> Histogram:
            return meter.create_histogram(
                name, "s", text, explicit_bucket_boundaries_advisory=bounds
            )

        self._run = seconds("omnibase.run.duration", "From request to end", _RUN_SECONDS)
        self._decision = seconds("omnibase.policy.duration", "Decisions of policies")
        self._boot = seconds("omnibase.boot.duration", "Until the sandbox has the script")
        self._teardown = seconds(
            "omnibase.teardown.duration", "From the script's end until nothing is left"
        )
        if pool_size is not None:
            meter.create_observable_up_down_counter(
                "omnibase.pool.size",
                [lambda options: _observe(pool_size, options)],
                "{sandbox}",
                "Pre-booted sandboxes, by state",
            )

    def take(self, event: Event) -> None:
        """Counts an event."""
        match event.data:
            case SandboxStart() as start:
                if start.boot_seconds is not None:
                    self._boot.record(start.boot_seconds, {"omnibase.sandbox.start": start.start})
            case SandboxExit() as end:
                attributes: Attributes = {"omnibase.outcome": end.outcome}
                if end.outcome != "ok":
                    attributes["error.type"] = end.outcome
                self._runs.add(1, attributes)
                self._run.record(end.wall_seconds, attributes)
                if end.teardown_seconds is not None:
                    self._teardown.record(end.teardown_seconds)
            case RunRefused() as refused:
                attributes = {"omnibase.outcome": "refused", "error.type": refused.code[:80]}
                self._runs.add(1, attributes)
            case PolicyDecided() as decided:
                if decided.seconds is not None:
                    self._decision.record(decided.seconds)
            case CapabilityDenied() as denied:
                self._denials.add(1, _of_capability(denied.capability))
            case SandboxViolation() as violation:
                # Told at once with a count of 1, and once more at the end with all of them.
                count = violation.count - 1 if violation.count > 1 else 1
                self._violations.add(count, _of_capability(violation.capability))
            case RunRetried():
                self._retries.add(1)
            case ResourceLimitExceeded() as limit:
                self._limits.add(1, {"omnibase.limit": limit.kind})
            case MonitorGap() as gap:
                self._lost.add(gap.dropped)
            case _:
                pass


def _of_capability(capability: str | None) -> Attributes:
    return {"omnibase.capability.type": capability_type(capability)}


def _observe(pool_size: PoolSize, _options: CallbackOptions) -> Iterable[Observation]:
    for state, count in pool_size().items():
        yield Observation(count, {"omnibase.pool.state": state})
