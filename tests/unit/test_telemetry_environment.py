"""What the standard environment variables of OpenTelemetry ask for."""

from __future__ import annotations

import pytest

from omnibase.core.telemetry.environment import asked_for, exporters, protocol
from omnibase.errors import ConfigurationError

URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, (), ()),
        ({"OTEL_SERVICE_NAME": "x"}, (), ()),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",), ()),
        ({"OTEL_TRACES_EXPORTER": " otlp , console,otlp"}, ("otlp", "console"), ()),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, (), ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, ("otlp",), ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, (), ()),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, ("otlp",), ()),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL}, (), ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_METRICS_EXPORTER": "none"}, ("otlp",), ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": ""}, ("otlp",), ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, (), ()),
    ],
)
def test_exporters(
    environ: dict[str, str], traces: tuple[str, ...], metrics: tuple[str, ...]
) -> None:
    assert exporters("traces", environ) == traces
    assert exporters("metrics", environ) == metrics
    assert asked_for(environ) is bool(traces or metrics)
    assert not asked_for({**environ, "OTEL_SDK_DISABLED": " TRUE "})
    assert asked_for({**environ, "OTEL_SDK_DISABLED": "1"}) is bool(traces or metrics)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, "otlp_proto_http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp_proto_http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":
             "http/protobuf"}, "otlp_proto_http",
        ),
    ],
)  # fmt: skip
def test_protocols(environ: dict[str, str], found: str) -> None:
    assert protocol("traces", environ) == found


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="`OTEL_EXPORTER_OTLP_PROTOCOL=carrier-pigeon`"):
        protocol("metrics", {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"})
