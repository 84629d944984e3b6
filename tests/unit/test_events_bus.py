"""The bus: delivery, failures that stay where they are, sequence numbers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.events import (
    CollectingSink,
    Emitter,
    Event,
    EventBus,
    MonitorGap,
    SandboxExit,
    Sink,
    SinkLag,
    default_bus,
)

SRC = str(Path(__file__).parents[2] / "src")


class BrokenSink:
    """Raises where it is told to."""

    def __init__(self, error: BaseException | None = None, *, on: str = "emit") -> None:
        self.error = error or OSError(28, "No space left on device")
        self.on = on
        self.calls: list[str] = []

    def _do(self, operation: str) -> None:
        self.calls.append(operation)
        if operation == self.on:
            raise self.error

    def emit(self, event: Event, /) -> None:
        self._do("emit")

    def flush(self, timeout_seconds: float, /) -> bool:
        self._do("flush")
        return True

    def close(self) -> None:
        self._do("close")


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


def collecting(bus: EventBus) -> CollectingSink:
    sink = CollectingSink()
    bus.subscribe(sink)
    return sink


def gap(number: int = 1) -> MonitorGap:
    return MonitorGap(dropped=number, reason="test")


class TestSubscribing:
    def test_sinks_and_functions_get_every_event(self, bus: EventBus) -> None:
        sink, seen = collecting(bus), list[Event]()
        bus.subscribe(seen.append)
        event = Emitter(bus).emit(gap())
        assert sink.events == tuple(seen) == (event,)

    @pytest.mark.parametrize(
        "end", [lambda s: s.unsubscribe(), lambda s: s(), lambda s: s.__exit__()]
    )
    def test_a_handle_ends_its_own_subscription(
        self, bus: EventBus, end: Callable[[Any], None]
    ) -> None:
        sink = CollectingSink()
        first, _second = bus.subscribe(sink), bus.subscribe(sink)
        end(first)
        end(first)
        Emitter(bus).emit(gap())
        assert len(sink.events) == 1

    def test_a_with_block_ends_it_too(self, bus: EventBus) -> None:
        sink = CollectingSink()
        with bus.subscribe(sink) as subscription:
            assert subscription.sink is sink
            Emitter(bus).emit(gap(1))
        Emitter(bus).emit(gap(2))
        assert [each.dropped for each in sink.payloads(MonitorGap)] == [1]
        assert sink.payloads(SandboxExit) == ()
        sink.clear()
        assert sink.events == ()

    @pytest.mark.parametrize("other", [None, "x", CollectingSink])
    def test_anything_else_is_refused(self, bus: EventBus, other: Any) -> None:
        with pytest.raises(TypeError):
            bus.subscribe(other)

    def test_a_sink_may_come_and_go_while_events_are_published(self, bus: EventBus) -> None:
        late = CollectingSink()

        def swap(_: Event) -> None:
            handle.unsubscribe()
            bus.subscribe(late)

        handle = bus.subscribe(swap)
        kept = collecting(bus)
        emitter = Emitter(bus)
        emitter.emit(gap(1))
        emitter.emit(gap(2))
        assert len(kept.events) == 2
        assert [each.dropped for each in late.payloads(MonitorGap)] == [2]


class TestFailures:
    def test_break_neither_the_publisher_nor_other_sinks(self, bus: EventBus) -> None:
        before, broken = collecting(bus), BrokenSink()
        handle = bus.subscribe(broken)
        after = collecting(bus)
        emitter = Emitter(bus, runid="r1")
        sent = [emitter.emit(gap(n)) for n in range(3)]
        for sink in (before, after):
            assert [each for each in sink.events if each.source == emitter.source] == sent
        assert broken.calls == ["emit"] * 3
        (failure,) = bus.failures
        assert (failure.sink, failure.operation) == ("BrokenSink", "emit")
        assert (failure.count, failure.lost) == (3, 3)
        assert failure.error == "OSError: [Errno 28] No space left on device"
        assert failure.first_seen <= failure.last_seen
        handle.unsubscribe()
        assert bus.failures == (failure,)

    def test_are_reported_at_first_and_the_rest_at_the_end(self, bus: EventBus) -> None:
        handle, sink = bus.subscribe(BrokenSink()), collecting(bus)
        emitter = Emitter(bus, runid="r1")
        for _ in range(5):
            emitter.emit(SandboxExit(outcome="ok", wall_seconds=1))
        handle.unsubscribe()
        reports = [each for each in sink.events if each.source != emitter.source]
        assert [each.data.dropped for each in reports if isinstance(each.data, MonitorGap)] == [
            1,
            4,
        ]
        assert [each.sequence for each in reports] == [1, 2]
        assert {each.runid for each in reports} == {"r1"}
        assert len({each.source for each in reports}) == 1
        assert isinstance(reports[0].data, MonitorGap)
        assert reports[0].data.reason.startswith("sink BrokenSink: emit: OSError: ")

    def test_the_rest_is_reported_on_close(self, bus: EventBus) -> None:
        sink = collecting(bus)
        bus.subscribe(BrokenSink())
        for _ in range(3):
            Emitter(bus).emit(SandboxExit(outcome="ok", wall_seconds=1))
        bus.close()
        assert [each.dropped for each in sink.payloads(MonitorGap)] == [1, 2]

    def test_are_logged_once_in_ascii(
        self, bus: EventBus, caplog: pytest.LogCaptureFixture
    ) -> None:
        bus.subscribe(BrokenSink(ValueError("a\nb\x1b")))
        with caplog.at_level(logging.WARNING, "omnibase.events"):
            Emitter(bus).emit(gap())
            Emitter(bus).emit(gap())
        (record,) = caplog.records
        assert record.getMessage() == (
            "event sink `BrokenSink` failed to emit: 'ValueError: a\\nb\\x1b'"
        )

    def test_of_all_sinks_end(self, bus: EventBus) -> None:
        for _ in range(5):
            bus.subscribe(BrokenSink())
        Emitter(bus).emit(gap())
        assert len(bus.failures) == 5
        assert all(failure.count <= 5 for failure in bus.failures)

    def test_an_error_that_cannot_be_printed_is_one_too(self, bus: EventBus) -> None:
        class Unprintable(Exception):
            def __str__(self) -> str:
                raise ValueError

        bus.subscribe(BrokenSink(Unprintable()))
        Emitter(bus).emit(gap())
        assert bus.failures[0].error == "Unprintable"

    def test_records_are_bounded(self, bus: EventBus) -> None:
        for _ in range(300):
            with bus.subscribe(BrokenSink()):
                Emitter(bus).emit(gap())
        assert len(bus.failures) == 256

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
    def test_an_interrupt_propagates_after_the_other_sinks(
        self, bus: EventBus, error: BaseException
    ) -> None:
        bus.subscribe(BrokenSink(error))
        sink = collecting(bus)
        emitter = Emitter(bus)
        with pytest.raises(type(error)):
            emitter.emit(gap())
        assert [each.source for each in sink.events].count(emitter.source) == 1
        assert bus.failures[0].count == 1

    def test_an_interrupt_during_a_report_propagates(self, bus: EventBus) -> None:
        def interrupt(event: Event) -> None:
            if event.source != emitter.source:
                raise KeyboardInterrupt

        emitter = Emitter(bus)
        handle = bus.subscribe(BrokenSink())
        bus.subscribe(interrupt)
        sink = collecting(bus)
        with pytest.raises(KeyboardInterrupt):
            emitter.emit(gap())
        assert len(sink.events) == 3  # two reports, then the event itself
        emitter.emit(gap())
        with pytest.raises(KeyboardInterrupt):
            handle.unsubscribe()

    def test_a_sink_that_publishes_in_a_loop_is_stopped(self, bus: EventBus) -> None:
        emitter = Emitter(bus)
        bus.subscribe(lambda _: emitter.emit(gap()))
        bus.subscribe(lambda _: emitter.emit(gap()))
        emitter.emit(gap())
        assert "in a loop" in bus.failures[0].error
        bus.close()

    def test_a_sink_may_emit(self, bus: EventBus) -> None:
        sink, emitter = CollectingSink(), Emitter(bus)

        def follow(event: Event) -> None:
            if isinstance(event.data, SandboxExit):
                emitter.emit(gap())

        bus.subscribe(sink)
        bus.subscribe(follow)
        emitter.emit(SandboxExit(outcome="ok", wall_seconds=1))
        assert [each.sequence for each in sink.events] == [1, 2]
        assert bus.failures == ()


class TestReports:
    class Lagging(CollectingSink):
        """Says that it lags, when told to."""

        report: Callable[..., None]

        def report_to(self, report: Callable[..., None]) -> None:
            self.report = report

    LAG = SinkLag(
        sink="Lagging", state="lagging", pending=1, oldest_seconds=11, reason="a slow broker"
    )

    def test_reach_the_other_sinks_alone(self, bus: EventBus) -> None:
        sink, other = self.Lagging(), collecting(bus)
        bus.subscribe(sink)
        for _ in range(2):
            sink.report(self.LAG, "r1")
        assert sink.events == ()
        assert other.payloads(SinkLag) == (self.LAG, self.LAG)
        assert [(e.runid, e.sequence) for e in other.events] == [("r1", 1), ("r1", 2)]
        assert other.events[0].source.startswith("urn:omnibase:sink:")

    def test_share_their_sequence_with_those_of_failures(self, bus: EventBus) -> None:
        class Broken(TestReports.Lagging):
            def emit(self, event: Event, /) -> None:
                raise OSError("full")

        sink, other = Broken(), collecting(bus)
        bus.subscribe(sink)
        sink.report(self.LAG, "r1")
        sent = Emitter(bus).emit(MonitorGap(dropped=0, reason="test"))
        mine = [event for event in other.events if event is not sent]
        assert [event.sequence for event in mine] == [1, 2]
        assert len({event.source for event in mine}) == 1

    def test_end_with_the_subscription_and_the_bus(self, bus: EventBus) -> None:
        sink, other = self.Lagging(), collecting(bus)
        bus.subscribe(sink)()
        sink.report(self.LAG, "r1")
        bus.subscribe(sink)
        bus.close()
        sink.report(self.LAG, "r1")
        assert other.events == ()

    def test_a_sink_that_fails_to_keep_one_is_counted(self, bus: EventBus) -> None:
        sink = self.Lagging()
        bus.subscribe(BrokenSink())
        bus.subscribe(sink)
        sink.report(self.LAG, "r1")
        assert [failure.lost for failure in bus.failures] == [1]


class TestFlushAndClose:
    def test_flush_reaches_every_sink_and_shares_the_time(self, bus: EventBus) -> None:
        left: list[float] = []

        class Slow(CollectingSink):
            def flush(self, timeout_seconds: float, /) -> bool:
                left.append(timeout_seconds)
                time.sleep(0.02)
                return True

        bus.subscribe(Slow())
        bus.subscribe(Slow())
        assert bus.flush(10)
        assert 10 >= left[0] > left[1] + 0.01
        assert bus.flush(0)
        assert left[2:] == [0.0, 0.0]

    def test_flush_is_false_if_one_sink_needs_longer(self, bus: EventBus) -> None:
        class Behind(CollectingSink):
            def flush(self, timeout_seconds: float, /) -> bool:
                return False

        bus.subscribe(Behind())
        collecting(bus)
        assert not bus.flush()
        assert bus.failures == ()
        assert not bus.close()

    @pytest.mark.parametrize("on", ["flush", "close"])
    def test_a_failure_is_counted_and_the_others_go_on(self, bus: EventBus, on: str) -> None:
        broken, other = BrokenSink(on=on), BrokenSink(on="")
        bus.subscribe(broken)
        bus.subscribe(other)
        Emitter(bus).emit(gap())
        assert bus.close() is (on == "close")
        assert broken.calls == other.calls == ["emit", "flush", "close"]
        (failure,) = bus.failures
        assert (failure.operation, failure.lost) == (on, 0)

    @pytest.mark.parametrize("on", ["flush", "close"])
    def test_an_interrupt_propagates_once_all_is_closed(self, bus: EventBus, on: str) -> None:
        other = BrokenSink(on="")
        bus.subscribe(BrokenSink(KeyboardInterrupt(), on=on))
        bus.subscribe(other)
        with pytest.raises(KeyboardInterrupt):
            bus.close()
        assert other.calls == ["flush", "close"]
        assert bus.closed

    def test_a_sink_may_report_while_it_is_flushed_by_close(self, bus: EventBus) -> None:
        class Behind(CollectingSink):
            def flush(self, timeout_seconds: float, /) -> bool:
                Emitter(bus).emit(gap(7))
                return True

        bus.subscribe(Behind())
        sink = collecting(bus)
        assert bus.close()
        assert [each.dropped for each in sink.payloads(MonitorGap)] == [7]

    def test_a_closed_bus_says_so(self, bus: EventBus) -> None:
        sink = collecting(bus)
        function = bus.subscribe(lambda _: None).sink
        event = Emitter(bus).emit(gap())
        assert bus.close()
        assert bus.close()
        refused: tuple[Callable[[], object], ...] = (
            lambda: bus.publish(event),
            lambda: bus.subscribe(sink),
            lambda: function.emit(event),
        )
        for each in refused:
            with pytest.raises(RuntimeError, match="closed"):
                each()
        assert bus.flush()


class TestEmitter:
    def test_fills_the_envelope(self, bus: EventBus) -> None:
        emitter = Emitter(bus, "/host/1", "r1", subject="job.py", componentid="c")
        emitter.policydigest = "d"
        event = emitter.emit(gap())
        assert (event.source, event.runid, event.subject) == ("/host/1", "r1", "job.py")
        assert (event.componentid, event.policydigest) == ("c", "d")
        assert (event.traceparent, event.parentspan) == (emitter.traceparent, None)

    def test_each_run_has_its_own_sequence_and_source(self, bus: EventBus) -> None:
        one, two = Emitter(bus), Emitter(bus)
        assert [e.emit(gap()).sequence for e in (one, two, one, two, one)] == [1, 1, 2, 2, 3]
        assert one.source == f"urn:omnibase:run:{one.runid}" != two.source

    def test_a_malformed_event_takes_no_number(self, bus: EventBus) -> None:
        emitter = Emitter(bus, componentid="c")
        emitter.componentid = ""
        with pytest.raises(ValueError, match="componentid"):
            emitter.emit(gap())
        emitter.componentid = None
        assert emitter.emit(gap()).sequence == 1

    def test_threads_share_it_without_gaps_or_disorder(self, bus: EventBus) -> None:
        sinks = [collecting(bus), collecting(bus)]
        emitter = Emitter(bus)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [
                threading.Thread(target=lambda: [emitter.emit(gap()) for _ in range(200)])
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        for sink in sinks:
            assert [each.sequence for each in sink.events] == list(range(1, 1601))


class TestDefaultBus:
    def test_is_one_until_it_is_closed(self) -> None:
        first = default_bus()
        assert default_bus() is first
        first.close()
        assert default_bus() is not first
        assert not default_bus().closed

    def test_is_closed_at_exit(self) -> None:
        code = (
            "from omnibase.core.events import *\n"
            "class Late(CollectingSink):\n"
            "    def close(self): print(len(self.events), 'kept')\n"
            "default_bus().close()\n"
            "default_bus().subscribe(Late())\n"
            "Emitter(default_bus()).emit(MonitorGap(dropped=0, reason=''))\n"
        )
        out = subprocess.check_output(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": SRC}, text=True
        )
        assert out == "1 kept\n"


def test_a_sink_is_a_matter_of_shape() -> None:
    sinks: list[Sink] = [CollectingSink(), BrokenSink()]
    assert all(callable(sink.emit) for sink in sinks)
