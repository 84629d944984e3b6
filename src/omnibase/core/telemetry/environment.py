"""What the standard environment variables of OpenTelemetry ask for. Pure.

Source of names and defaults:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from omnibase.errors import ConfigurationError

__all__ = ["SIGNALS", "Signal", "asked_for", "disabled", "exporters", "protocol"]

Signal: TypeAlias = Literal["traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics")

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOLS: Final = {
    "http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc", "http/json": "otlp_json_http",
}  # fmt: skip


def disabled(environ: Mapping[str, str]) -> bool:
    """Whether ``OTEL_SDK_DISABLED`` is set: only ``true`` counts, in any case."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def asked_for(environ: Mapping[str, str]) -> bool:
    """Whether anything is to be exported."""
    return not disabled(environ) and any(exporters(signal, environ) for signal in SIGNALS)


def exporters(signal: Signal, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names of a signal's exporters; none if it is not asked for.

    ``OTEL_TRACES_EXPORTER`` and ``OTEL_METRICS_EXPORTER`` name them, with commas
    between; without, an endpoint of OTLP asks for ``otlp``.
    """
    named = [word.strip() for word in environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(",")]
    named = [word for word in named if word]
    if named:
        return tuple(dict.fromkeys(word for word in named if word != "none"))
    endpoints = (_ENDPOINT, f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    return ("otlp",) if any(environ.get(name, "").strip() for name in endpoints) else ()


def protocol(signal: Signal, environ: Mapping[str, str]) -> str:
    """Returns the entry point of the exporter that ``otlp`` stands for.

    Raises:
        ConfigurationError: The protocol is unknown.
    """
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        word = environ.get(name, "").strip()
        if word:
            break
    else:
        return _PROTOCOLS["http/protobuf"]
    if word not in _PROTOCOLS:
        raise ConfigurationError(
            f"`{name}={word[:80]}` is no protocol of OTLP", hint=f"choose {' or '.join(_PROTOCOLS)}"
        )
    return _PROTOCOLS[word]
