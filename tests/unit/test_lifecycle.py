"""The loop of a run: what is over is served once."""

from __future__ import annotations

import os
import selectors

from omnibase.core.sandbox.lifecycle import Run


class _Trace:
    """A trace that ends with the first read, as when the sandbox dies."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self.error: str | None = None
        self.reads = 0

    def fileno(self) -> int:
        return self.fd

    def on_readable(self) -> bool:
        self.reads += 1
        self.closed = True
        return False


def test_a_trace_that_the_network_was_served_from_is_not_served_again() -> None:
    """Both may be readable in one turn; what the broker refused is told with the trace read."""
    reader, writer = os.pipe()
    run = Run.__new__(Run)
    run._unwatched_since = run._fault = None
    trace = _Trace(reader)
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ, "trace")
        run._serve_trace(selector, trace)  # type: ignore[arg-type]
        run._serve_trace(selector, trace)  # type: ignore[arg-type]
        assert selector.get_map() is not None and not selector.get_map()
    assert trace.reads == 1
    assert run._unwatched_since is not None
    os.close(reader)
    os.close(writer)
