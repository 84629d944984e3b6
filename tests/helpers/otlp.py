"""A receiver of OTLP over HTTP, in this process, that can be made to fail."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["Receiver", "plain", "tree"]


class Receiver:
    """Takes what is exported; ``status`` and ``delay`` say how it answers.

    Attributes:
        status: Of its answers.
        delay: Seconds before each answer; `released` ends them all.
        spans: What came in, as protobuf messages, while the status was 200.
        metrics: Likewise, by name: the latest.
    """

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
        self.released = threading.Event()
        self.requests = 0
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                receiver.released.wait(receiver.delay)
                answer = receiver._take(self.path, body, self.headers)
                try:
                    self.send_response(receiver.status)
                    self.send_header("Content-Type", "application/x-protobuf")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass  # who asked has gone

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, count: int, seconds: float = 10) -> list[Any]:
        """Waits for so many spans."""
        deadline = time.monotonic() + seconds
        while len(self.spans) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.spans) >= count, [span.name for span in self.spans]
        return self.spans

    def _take(self, path: str, body: bytes, headers: Any) -> bytes:
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        good = self.status == 200
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                if good:
                    self.resources.append(plain(resource.resource.attributes))
                    self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            return bytes(ExportTraceServiceResponse().SerializeToString())
        assert path == "/v1/metrics", path
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                if good:
                    self.metrics |= {metric.name: metric for metric in scope.metrics}
        return bytes(ExportMetricsServiceResponse().SerializeToString())


def plain(attributes: Any) -> dict[str, Any]:
    """Returns attributes of a protobuf message as a dictionary."""

    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(each) for each in found.values] if kind == "array_value" else found

    return {each.key: value(each.value) for each in attributes}


def tree(spans: list[Any]) -> Iterator[tuple[str, str | None]]:
    """Yields each span's name with its parent's, from the earliest on."""
    names = {span.span_id: span.name for span in spans}
    for span in sorted(
        spans, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano)
    ):
        yield span.name, names.get(span.parent_span_id) if span.parent_span_id else None
