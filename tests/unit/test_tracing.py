"""The trace that a run belongs to."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from omnibase.core.events import CollectingSink, Emitter, EventBus, MonitorGap, tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b9c7c989f97918e1"
HEADER = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "read"),
    [
        (HEADER, HEADER),
        (f" {HEADER}\t", HEADER),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # Flags that version 00 does not have are not passed on.
        (f"00-{TRACE}-{SPAN}-ff", HEADER),
        # A later version is read as far as we know it.
        (f"01-{TRACE}-{SPAN}-01", HEADER),
        (f"01-{TRACE}-{SPAN}-01-more", HEADER),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"01-{TRACE}-{SPAN}-01more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (HEADER.upper(), None),
        (HEADER + "\n", None),
        (HEADER[:-1], None),
        ("", None),
        (None, None),
        ("00-" + "\N{ARABIC-INDIC DIGIT ZERO}" * 32 + f"-{SPAN}-01", None),
    ],
)
def test_a_header_is_read(header: str | None, read: str | None) -> None:
    found = tracing.parse(header)
    assert (None if found is None else str(found)) == read


def test_a_run_is_a_new_span_of_its_caller() -> None:
    parent = tracing.parse(f"00-{TRACE}-{SPAN}-00")
    one, two = tracing.begin(parent), tracing.begin(parent)
    assert one.traceid == two.traceid == TRACE
    assert len({one.spanid, two.spanid, SPAN}) == 3
    assert one.flags == 0


def test_without_a_caller_it_begins_a_trace() -> None:
    one, two = tracing.begin(None), tracing.begin(None)
    assert one.traceid != two.traceid and one.spanid != two.spanid
    assert str(tracing.parse(str(one))) == str(one) and one.flags == 1


def test_no_id_is_all_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([bytes(16), b"\1" * 16, bytes(8), bytes(8), b"\2" * 8])
    monkeypatch.setattr(tracing.os, "urandom", lambda size: next(answers))
    assert str(tracing.begin(None)) == f"00-{'01' * 16}-{'02' * 8}-01"


class TestEmitter:
    def test_its_caller_is_the_current_span(self) -> None:
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        bus = EventBus(traceparent=HEADER)
        with tracer.start_as_current_span("outer") as span:
            emitter = Emitter(bus)
        context = span.get_span_context()
        assert emitter.parentspan == f"{context.span_id:016x}"
        assert emitter.traceparent.split("-")[1] == f"{context.trace_id:032x}"

    def test_without_opentelemetry_there_is_no_current_span(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
        assert tracing.current_span() is None
        assert Emitter(EventBus()).parentspan is None

    def test_else_that_of_the_bus(self) -> None:
        emitter = Emitter(EventBus(traceparent=HEADER))
        assert emitter.parentspan == SPAN and TRACE in emitter.traceparent

    def test_one_that_is_named_comes_first(self) -> None:
        other = HEADER.replace("b9", "aa")
        emitter = Emitter(EventBus(traceparent=HEADER), traceparent=other)
        assert emitter.parentspan == SPAN.replace("b9", "aa")

    def test_one_that_is_named_wrongly_is_refused(self) -> None:
        with pytest.raises(ValueError, match="traceparent: expected a W3C traceparent, got `'x'`"):
            Emitter(EventBus(), traceparent="x")

    def test_a_wrong_one_of_the_process_counts_as_none(self) -> None:
        assert EventBus(traceparent="x").trace is None

    def test_a_gap_of_a_sink_belongs_to_the_run_that_it_hurt(self) -> None:
        bus, kept = EventBus(), CollectingSink()

        def fail(event: object) -> None:
            raise OSError("full")

        bus.subscribe(kept)
        bus.subscribe(fail)
        emitter = Emitter(bus, componentid="c", policydigest="d", traceparent=HEADER)
        sent = emitter.emit(MonitorGap(dropped=0, reason="test"))
        _, gap = sorted(kept.events, key=lambda event: event.source == sent.source, reverse=True)
        assert gap.data == MonitorGap(dropped=1, reason="sink " + gap.data.reason.partition(" ")[2])  # type: ignore[attr-defined]
        for name in ("runid", "componentid", "policydigest", "traceparent", "parentspan"):
            assert getattr(gap, name) == getattr(sent, name)
