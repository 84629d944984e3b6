"""The OpenTelemetry sink: runs as traces and metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from opentelemetry import metrics, trace

from omnibase import __version__
from omnibase.core.events import Event
from omnibase.core.telemetry.metrics import Metrics, PoolSize
from omnibase.core.telemetry.providers import (
    Providers,
    of_the_application,
    of_the_environment,
)
from omnibase.core.telemetry.queued import QUEUE_EVENTS, QueuedSink
from omnibase.core.telemetry.spans import Runs

__all__ = ["OpenTelemetrySink"]

_SCOPE: Final = "omnibase"


class OpenTelemetrySink(QueuedSink):
    """Makes a trace of each run, and metrics of all of them.

    `emit` puts the event into a queue and returns; a thread of the sink's own makes
    spans and metrics of it, so that no exporter, processor or collector holds up a
    run. Spans that an exporter of the sink's own did not deliver are counted and
    told as `MonitorGap`; with providers of the application's, delivery is its affair.

    Args:
        tracer_provider: Makes the tracer. By default the one that the application has
            set up globally; else one as the standard environment variables say
            (``OTEL_TRACES_EXPORTER``, ``OTEL_EXPORTER_OTLP_ENDPOINT`` …), which is for
            this sink alone and ends with it; without any of them, OTLP to this machine.
        meter_provider: Makes the meter, likewise.
        pool_size: Says how many pre-booted sandboxes there are, by state.
        queue_events: Events that may wait.
        close_seconds: Longest time that `close` waits for collectors.
        timeout_seconds: Of an export by OTLP, unless the environment sets one.

    Raises:
        ConfigurationError: What the environment asks for is not there or unusable.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        pool_size: PoolSize | None = None,
        queue_events: int = QUEUE_EVENTS,
        close_seconds: float = 5.0,
        timeout_seconds: float | None = None,
    ) -> None:
        self._providers = _providers(tracer_provider, meter_provider, timeout_seconds)
        self._tracer = self._providers.tracers.get_tracer(_SCOPE, __version__)
        meter = self._providers.meters.get_meter(_SCOPE, __version__)
        self._metrics = Metrics(meter, pool_size)
        super().__init__("spans", queue_events=queue_events, close_seconds=close_seconds)

    @property
    def lost(self) -> int:
        """Spans, and events that made none, that are known to be lost."""
        return self._broken + max((each.failed for each in self._providers.deliveries), default=0)

    @property
    def pending(self) -> int:
        """Events that wait, and spans that have not been delivered, as far as known."""
        spans = max((each.pending for each in self._providers.deliveries), default=0)
        return len(self._events) + spans

    @property
    def error(self) -> str:
        """What went wrong last, for a person; empty if nothing did."""
        errors = (each.error for each in self._providers.deliveries)
        return next((error for error in errors if error), self._error)

    def _start(self) -> None:
        for each in self._providers.deliveries:
            each.forget()
        self._runs = Runs(self._tracer)

    def _take(self, event: Event) -> None:
        self._metrics.take(event)
        self._runs.take(event)

    def _last(self) -> None:
        self._runs.end_all()

    def _deliver(self, deadline: float) -> bool:
        # Whatever exporters have been given until here is delivered after a flush, or lost.
        given = [each.given for each in self._providers.deliveries]
        left = max(1, round((deadline - time.monotonic()) * 1000))

        def flush_of(provider: object) -> Callable[[], object]:
            flush = getattr(provider, "force_flush", None)
            return _nothing if flush is None else lambda: flush(left)

        providers = (self._providers.tracers, self._providers.meters)
        if not _bounded([flush_of(each) for each in providers], deadline):
            return False
        self._settle(given)
        return True

    def _release(self, deadline: float) -> None:
        if self._providers.ours:
            providers = (self._providers.tracers, self._providers.meters)
            ends = [getattr(each, "shutdown", _nothing) for each in providers]
            if not _bounded(ends, deadline):
                # Ends their waits between tries; the providers would do so in half a minute.
                _bounded([each.shutdown for each in self._providers.exporters], deadline + 0.2)
            self._settle([each.given for each in self._providers.deliveries])
        elif self._taken:
            self._deliver(deadline)

    def _settle(self, given: list[int]) -> None:
        """Counts as lost what no exporter was handed: a queue was full, or time is up."""
        for each, count in zip(self._providers.deliveries, given, strict=True):
            each.settle(count)


def _providers(
    tracers: trace.TracerProvider | None,
    meters: metrics.MeterProvider | None,
    timeout_seconds: float | None,
) -> Providers:
    if tracers is None and meters is None:
        return of_the_application() or of_the_environment(
            default=("otlp",), timeout_seconds=timeout_seconds
        )
    return Providers(
        tracers=tracers or trace.get_tracer_provider(),
        meters=meters or metrics.get_meter_provider(),
    )


def _bounded(calls: list[Callable[[], object]], deadline: float) -> bool:
    """Makes calls that know no deadline, at the same time; returns whether all were good.

    A call that has not come back then goes on in a thread that nothing waits for.
    """
    good = [False] * len(calls)

    def make(index: int) -> None:
        try:
            good[index] = calls[index]() is not False
        except Exception:
            good[index] = False

    threads = [
        threading.Thread(target=make, args=(index,), name="omnibase-otel-flush", daemon=True)
        for index in range(len(calls))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return all(good)


def _nothing() -> None:
    """For providers that have nothing to flush or to shut down."""
