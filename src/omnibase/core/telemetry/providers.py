"""Providers of tracers and meters: the application's, or what the environment asks for.

Those of ours are told to nobody else: an application may still set up its own.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from omnibase import __version__
from omnibase.core.telemetry.environment import Signal, disabled, exporters, protocol
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

__all__ = ["Delivery", "Providers", "of_the_application", "of_the_environment"]

# What the extra brings is found without reading the metadata of every package.
_KNOWN: Final = {
    ("traces", "console"): ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
    ("metrics", "console"): ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
    ("traces", "otlp_proto_http"): (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    ("metrics", "otlp_proto_http"): (
        "opentelemetry.exporter.otlp.proto.http.metric_exporter", "OTLPMetricExporter"),
}  # fmt: skip


@dataclass(slots=True)
class Delivery:
    """What one exporter was to deliver, and did.

    Attributes:
        exporter: Its name.
        given: Spans that have ended and were sampled.
        delivered: Spans that it says it has exported.
        failed: Spans that it says it could not export.
        error: The last thing that went wrong, for a person.
    """

    exporter: str
    given: int = 0
    delivered: int = 0
    failed: int = 0
    error: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pending(self) -> int:
        """Spans of which nothing is known: in the queue, on their way, or dropped from it."""
        return max(0, self.given - self.delivered - self.failed)

    def forget(self) -> None:
        """Begins anew, in a forked child: what is on its way is the parent's."""
        self.lock = threading.Lock()
        self.given = self.delivered = self.failed = 0
        self.error = ""

    def watch(self, exporter: Any) -> None:
        """Counts what an exporter of spans is given, and what comes of it."""
        export = exporter.export

        def counted(spans: Any) -> Any:
            try:
                result = export(spans)
            except Exception as error:
                self._count(len(spans), f"{type(error).__name__}: {error}")
                raise
            good = getattr(result, "name", "") == "SUCCESS"
            self._count(len(spans), "" if good else "the exporter reports a failure")
            return result

        exporter.export = counted

    def settle(self, given: int) -> None:
        """Counts as failed what of the first spans neither arrived nor failed."""
        with self.lock:
            missing = given - self.delivered - self.failed
            if missing > 0:
                self.failed += missing
                self.error = self.error or "dropped before it was exported"

    def _count(self, spans: int, error: str) -> None:
        with self.lock:
            if error:
                self.failed += spans
                self.error = error[:500]
            else:
                self.delivered += spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """Where spans and metrics go.

    Attributes:
        tracers: Makes tracers.
        meters: Makes meters.
        ours: They end with the sink.
        deliveries: One for each exporter of spans of ours.
        exporters: Those of ours.
    """

    tracers: trace.TracerProvider
    meters: metrics.MeterProvider
    ours: bool = False
    deliveries: tuple[Delivery, ...] = ()
    exporters: tuple[Any, ...] = ()


def of_the_application() -> Providers | None:
    """Returns what the application has set up globally; ``None`` if it has set up no tracing."""
    tracers = trace.get_tracer_provider()
    if isinstance(tracers, trace.ProxyTracerProvider):
        return None
    return Providers(tracers=tracers, meters=metrics.get_meter_provider())


def of_the_environment(
    environ: Mapping[str, str] = os.environ,
    *,
    default: tuple[str, ...] = (),
    timeout_seconds: float | None = None,
) -> Providers:
    """Makes providers as the standard environment variables say.

    Args:
        environ: The variables; the SDK reads the rest of them from ``os.environ``.
        default: Exporters if the variables ask for none.
        timeout_seconds: Of OTLP, unless they set one.

    Raises:
        ConfigurationError: An exporter is unknown, not installed, or cannot be set up.
    """
    if disabled(environ):
        none = metrics.NoOpMeterProvider()
        return Providers(tracers=trace.NoOpTracerProvider(), meters=none, ours=True)
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _missing(error) from None

    class Counter(SpanProcessor):
        def __init__(self, deliveries: tuple[Delivery, ...]) -> None:
            self._deliveries = deliveries

        def on_end(self, span: ReadableSpan) -> None:
            if span.context is not None and span.context.trace_flags.sampled:
                for each in self._deliveries:
                    with each.lock:
                        each.given += 1

    wanted: dict[Signal, tuple[str, ...]] = {
        "traces": exporters("traces", environ), "metrics": exporters("metrics", environ),
    }  # fmt: skip
    if not any(wanted.values()):
        wanted = {"traces": default, "metrics": default}
    spans = [
        (name, _exporter("traces", name, environ, timeout_seconds)) for name in wanted["traces"]
    ]
    readers = [_exporter("metrics", name, environ, timeout_seconds) for name in wanted["metrics"]]
    try:
        resource = _resource()
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        deliveries = tuple(Delivery(exporter=name) for name, _ in spans)
        tracers.add_span_processor(Counter(deliveries))
        for delivery, (_, exporter) in zip(deliveries, spans, strict=True):
            delivery.watch(exporter)
            tracers.add_span_processor(BatchSpanProcessor(exporter))
        meters = MeterProvider(
            metric_readers=[PeriodicExportingMetricReader(reader) for reader in readers],
            resource=resource,
            shutdown_on_exit=False,
        )
    except ValueError as error:
        raise ConfigurationError(
            f"OpenTelemetry cannot be set up: {error}", hint="check the `OTEL_` variables"
        ) from error
    return Providers(
        tracers=tracers,
        meters=meters,
        ours=True,
        deliveries=deliveries,
        exporters=(*(exporter for _, exporter in spans), *readers),
    )


def _resource() -> Resource:
    """What exports: ours by name, unless ``OTEL_SERVICE_NAME`` or its kin name it."""
    from opentelemetry.sdk.resources import Resource

    named = Resource.create()
    if str(named.attributes.get("service.name", "")).startswith("unknown_service"):
        ours = {"service.name": "omnibase", "service.version": __version__}
        return named.merge(Resource(ours))
    return named


def _exporter(
    signal: Signal, name: str, environ: Mapping[str, str], timeout_seconds: float | None
) -> Any:
    found = protocol(signal, environ) if name == "otlp" else name
    make = _known(signal, found) or _installed(signal, found)
    if make is None:
        raise ConfigurationError(
            f"no exporter of OpenTelemetry for {signal} is called `{name[:80]}`"
            + (f" with this protocol (`{found}`)" if found != name else ""),
            hint="install the package that brings it, or choose otlp, console or none",
        )
    options: dict[str, Any] = {}
    if found == "console":
        options["out"] = sys.stderr  # standard output is the script's
    elif name == "otlp" and timeout_seconds is not None:
        names = ("OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT")
        if not any(environ.get(each) for each in names):
            options["timeout"] = timeout_seconds
    try:
        return make(**options)
    except Exception as error:  # whatever an exporter raises that cannot be set up
        raise ConfigurationError(
            f"the exporter `{name}` for {signal} cannot be set up: {error}",
            hint="check the `OTEL_EXPORTER_` variables",
        ) from error


def _known(signal: Signal, name: str) -> Any:
    if (signal, name) not in _KNOWN:
        return None
    module, attribute = _KNOWN[signal, name]
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise _missing(error) from None


def _installed(signal: Signal, name: str) -> Any:
    for each in entry_points(group=f"opentelemetry_{signal}_exporter", name=name):
        try:
            return each.load()
        except ImportError as error:
            raise _missing(error) from None
    return None


def _missing(error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"OpenTelemetry is not installed here: {error}", hint="`pip install 'omnibase[otel]'`"
    )
