"""Spans of runs, made from their events.

A run's span has the very ids that its events carry in ``traceparent``, so that an
event in any other sink leads to the span. Its start is known once the script has
started or the run was refused; until then its events wait.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace

from omnibase.core.events import (
    Event,
    LayerBuilt,
    PackagesResolved,
    PolicyDecided,
    RunRefused,
    RunRetried,
    SandboxExit,
    SandboxStart,
    UnsandboxedStart,
)
from omnibase.core.events.tracing import TraceContext, parse
from omnibase.core.telemetry import attributes as named

__all__ = ["MAX_OPEN", "Runs", "ids_of_ours"]

MAX_OPEN: Final = 4096
_MAX_WAITING: Final = 256


class _Ids:
    """Gives the next span the ids that were planned for it, and all others new ones."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual
        self.planned: TraceContext | None = None

    def generate_trace_id(self) -> int:
        if self.planned is None:
            return int(self._usual.generate_trace_id())
        return int(self.planned.traceid, 16)

    def generate_span_id(self) -> int:
        if self.planned is None:
            return int(self._usual.generate_span_id())
        return int(self.planned.spanid, 16)

    def is_trace_id_random(self) -> bool:
        usual = getattr(self._usual, "is_trace_id_random", None)
        return bool(usual()) if usual is not None else False


def ids_of_ours(tracer: trace.Tracer) -> _Ids | None:
    """Makes a tracer of the SDK take ids of ours; ``None`` if it is of another make.

    Each tracer holds its generator in a public attribute, and this one is of our
    own scope: other spans of the application keep theirs.
    """
    usual = getattr(tracer, "id_generator", None)
    if isinstance(usual, _Ids):
        return usual
    if not all(hasattr(usual, name) for name in ("generate_trace_id", "generate_span_id")):
        return None
    ids = _Ids(usual)
    tracer.id_generator = ids  # type: ignore[attr-defined]
    return ids


@dataclass(slots=True)
class _Run:
    """A run that has not ended."""

    waiting: list[Event] = field(default_factory=list)
    last_ns: int = 0
    span: trace.Span | None = None
    context: contexts.Context | None = None
    execution: trace.Span | None = None
    started_ns: int = 0


class Runs:
    """Makes a tree of spans for each run. To be used by one thread.

    Args:
        tracer: Makes the spans.
        max_open: Runs that may be open; the oldest is ended for a newer one.
    """

    def __init__(self, tracer: trace.Tracer, max_open: int = MAX_OPEN) -> None:
        self._tracer = tracer
        self._ids = ids_of_ours(tracer)
        self._max_open = max_open
        self._open: OrderedDict[str, _Run] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def take(self, event: Event) -> None:
        """Adds an event to the span of its run."""
        own = event.source == f"urn:omnibase:run:{event.runid}"
        run = self._open.get(event.runid)
        if run is None and (not own or event.runid in self._ended):
            self._late(event)
            return
        if run is None:
            run = self._open[event.runid] = _Run()
            while len(self._open) > self._max_open:
                self._abandon(next(iter(self._open)))
        now = _nanoseconds(event.time)
        run.last_ns = max(run.last_ns, now)
        data = event.data
        starts = isinstance(data, SandboxStart | UnsandboxedStart)
        ends = isinstance(data, SandboxExit | RunRefused | LayerBuilt) and own
        waits = not starts and not ends and len(run.waiting) < _MAX_WAITING
        if run.span is None and waits:
            run.waiting.append(event)
            return
        self._apply(run, run.span or self._begin(run, event), event, now)
        if ends:
            self._forget(event.runid)

    def end_all(self) -> None:
        """Ends what is open, as unfinished."""
        for runid in tuple(self._open):
            self._abandon(runid)

    def _begin(self, run: _Run, event: Event) -> trace.Span:
        """Begins a run's span, and adds what came before."""
        first = run.waiting[0] if run.waiting else event
        start = min(_nanoseconds(first.time) - _before(first), _nanoseconds(event.time))
        start = min(start, _nanoseconds(event.time) - _before(event))
        installs = isinstance(first.data, PackagesResolved | LayerBuilt)
        name = "omnibase.packages.install" if installs else "omnibase.run"
        run.span = span = self._start_run(name, event, start)
        run.context = trace.set_span_in_context(span, contexts.Context())
        waiting, run.waiting = run.waiting, []
        for each in waiting:
            self._apply(run, span, each, _nanoseconds(each.time))
        return span

    def _start_run(self, name: str, event: Event, start: int) -> trace.Span:
        place = parse(event.traceparent)
        parent = contexts.Context()
        above = event.parentspan
        if place is not None and above is None and self._ids is None:
            above = place.spanid  # the trace's id is kept, at least
        if place is not None and above is not None:
            caller = trace.SpanContext(
                int(place.traceid, 16), int(above, 16), True, trace.TraceFlags(place.flags)
            )
            parent = trace.set_span_in_context(trace.NonRecordingSpan(caller), parent)
        if self._ids is not None:
            self._ids.planned = place
        try:
            return self._tracer.start_span(
                name, parent, attributes=named.of_run(event), start_time=start
            )
        finally:
            if self._ids is not None:
                self._ids.planned = None

    def _apply(self, run: _Run, span: trace.Span, event: Event, now: int) -> None:
        data = event.data
        match data:
            case PolicyDecided():
                spent = _in_ns(data.seconds)
                self._child(run, "omnibase.policy", now - spent, named.of_decision(data), now)
            case SandboxStart() | UnsandboxedStart():
                span.set_attributes(named.of_run(event))
                span.set_attribute("omnibase.sandboxed", isinstance(data, SandboxStart))
                if isinstance(data, SandboxStart) and data.boot_seconds is not None:
                    self._child(run, "omnibase.boot", now - _in_ns(data.boot_seconds), {}, now)
                run.execution = self._child(run, "omnibase.execution", now, {}, None)
                run.started_ns = now
            case SandboxExit():
                self._exit(run, span, data, now)
            case RunRefused():
                self._event(span, event, now)
                span.set_attributes({"omnibase.outcome": "refused", "error.type": data.code})
                span.set_status(trace.StatusCode.ERROR, data.code)
                span.end(now)
            case LayerBuilt():
                self._event(span, event, now)
                span.end(now)
            case RunRetried():
                if run.execution is not None:
                    run.execution.set_status(trace.StatusCode.ERROR, "the sandbox failed")
                    run.execution.end(now)
                    run.execution = None
                self._event(span, event, now)
            case _:
                self._event(run.execution or span, event, now)

    def _exit(self, run: _Run, span: trace.Span, end: SandboxExit, now: int) -> None:
        attributes = named.of_end(end)
        failed = end.outcome != "ok"
        if failed:
            attributes["error.type"] = end.outcome
        if run.execution is not None:
            # A clock that was set back must not turn the tree over.
            finished = max(now - _in_ns(end.teardown_seconds), run.started_ns)
            run.execution.set_attributes(attributes)
            if failed:
                run.execution.set_status(trace.StatusCode.ERROR, end.outcome)
            run.execution.end(finished)
            if end.teardown_seconds is not None:
                self._child(run, "omnibase.teardown", finished, {}, now)
        span.set_attributes(attributes)
        if failed:
            span.set_status(trace.StatusCode.ERROR, end.outcome)
        span.end(now)

    def _child(
        self, run: _Run, name: str, start: int, attributes: named.Attributes, end: int | None
    ) -> trace.Span:
        span = self._tracer.start_span(name, run.context, attributes=attributes, start_time=start)
        if end is not None:
            span.end(end)
        return span

    def _event(self, span: trace.Span, event: Event, now: int) -> None:
        span.add_event(f"omnibase.{event.name}", named.of_event(event), now)

    def _late(self, event: Event) -> None:
        """Makes what comes after a run's end, or from elsewhere, a span of no length."""
        place = parse(event.traceparent)
        parent = contexts.Context()
        if place is not None:
            above = trace.SpanContext(
                int(place.traceid, 16), int(place.spanid, 16), True, trace.TraceFlags(place.flags)
            )
            parent = trace.set_span_in_context(trace.NonRecordingSpan(above), parent)
        now = _nanoseconds(event.time)
        attributes = named.of_run(event) | named.of_event(event)
        name = f"omnibase.{event.name}"
        self._tracer.start_span(name, parent, attributes=attributes, start_time=now).end(now)

    def _abandon(self, runid: str) -> None:
        """Ends a run that has not told its end."""
        run = self._open[runid]
        if run.span is None and run.waiting:
            self._begin(run, run.waiting[-1])
        for span in (run.execution, run.span):
            if span is not None:
                span.set_attribute("omnibase.outcome", "unknown")
                span.end(run.last_ns)
        self._forget(runid)

    def _forget(self, runid: str) -> None:
        del self._open[runid]
        self._ended[runid] = None
        while len(self._ended) > self._max_open:
            self._ended.popitem(last=False)


def _before(event: Event) -> int:
    """How long before an event its run, or its decision, has begun, as far as it tells."""
    match event.data:
        case SandboxStart():
            return _in_ns(event.data.prepare_seconds) + _in_ns(event.data.boot_seconds)
        case UnsandboxedStart():
            return _in_ns(event.data.prepare_seconds)
        case RunRefused() | PolicyDecided() | LayerBuilt() | PackagesResolved():
            return _in_ns(event.data.seconds)
        case _:
            return 0


def _in_ns(seconds: float | None) -> int:
    return 0 if seconds is None else round(seconds * 1e9)


def _nanoseconds(time: str) -> int:
    """Returns an event's time in Unix nanoseconds; without a loss, unlike a float's."""
    moment = datetime.fromisoformat(time[:19] + "+00:00")
    fraction = time[20:-1] if len(time) > 20 else ""
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)
