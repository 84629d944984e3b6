"""The bus: carries events from those who emit them to the sinks that keep them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from omnibase.core.events import tracing
from omnibase.core.events._fields import bounded, new_id, utc
from omnibase.core.events.model import Event, MonitorGap, Payload
from omnibase.core.events.sinks import CollectingSink, FunctionSink, Sink

__all__ = [
    "CollectingSink",
    "EventBus",
    "Sink",
    "SinkFailure",
    "Subscription",
    "default_bus",
]

_T = TypeVar("_T")

_MAX_NESTING = 8
_ABOUT = ("componentid", "policydigest", "traceparent", "parentspan")
_MAX_FAILURES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailure:
    """What went wrong with one subscribed sink, so far.

    Attributes:
        sink: The sink's class, or the callable's name.
        operation: What failed last: ``emit``, ``flush`` or ``close``.
        count: How often anything failed.
        lost: How many events the sink did not accept.
        error: The last error, as text.
        first_seen: When it failed first.
        last_seen: When it failed last.
    """

    sink: str
    operation: str
    count: int
    lost: int
    error: str
    first_seen: str
    last_seen: str


class Subscription:
    """A sink's place on a bus; call it (or leave its ``with`` block) to end it."""

    def __init__(self, bus: EventBus, sink: Sink, name: str) -> None:
        self._bus = bus
        self.sink = sink
        self.name = name
        # The bus reports about each sink as a source of its own, which keeps
        # the sequence within a source free of gaps.
        self._source = f"urn:omnibase:sink:{new_id()}"
        self._reports = 0
        self._unreported = 0
        self._last: Event | None = None

    def unsubscribe(self) -> None:
        """Ends the subscription; the sink stays open. May be called twice."""
        self._bus._unsubscribe(self)

    __call__ = unsubscribe

    def report(self, payload: Payload, runid: str) -> None:
        """Tells the other sinks something about this one; nothing once it has left.

        May be called from any thread.

        Args:
            payload: What there is to say, e.g. `SinkLag`.
            runid: The run that it is about.
        """
        self._bus._report(self, payload, runid)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.unsubscribe()

    def _next(self, payload: Payload, runid: str) -> Event:
        self._reports += 1
        last = self._last
        same = last is not None and last.runid == runid
        about: dict[str, Any] = {name: getattr(last, name) for name in _ABOUT if same}
        return Event(
            data=payload, source=self._source, runid=runid, sequence=self._reports, **about
        )  # fmt: skip


class EventBus:
    """Delivers each event to every sink, in the thread that publishes.

    A sink that raises breaks neither the publisher nor the other sinks: the
    failure is counted in `failures`, logged once, and reported to the other sinks
    as `MonitorGap`; the rest is reported when the sink leaves the bus.
    ``KeyboardInterrupt`` and its like do propagate, after the other sinks had
    their turn.

    Args:
        traceparent: W3C trace context of the process's caller: runs that no
            OpenTelemetry span surrounds are its children. One that is not valid
            counts as none.
    """

    def __init__(self, *, traceparent: str | None = None) -> None:
        self.trace = tracing.parse(traceparent)
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()  # replaced, never changed
        self._failures: dict[Subscription, SinkFailure] = {}
        self._closing = self._closed = False
        self._nesting = threading.local()

    @property
    def failures(self) -> tuple[SinkFailure, ...]:
        """One record per sink that ever failed; the latest 256."""
        with self._lock:
            return tuple(self._failures.values())

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The sinks that are subscribed."""
        return tuple(each.sink for each in self._subscriptions)

    @property
    def closed(self) -> bool:
        """Whether the bus takes no more events."""
        return self._closed

    def subscribe(self, sink: Sink | Callable[[Event], object]) -> Subscription:
        """Adds a sink, or a function that takes an event; returns its handle.

        Raises:
            TypeError: It is neither.
            RuntimeError: The bus is closed.
        """
        if isinstance(sink, type):
            raise TypeError(f"`{sink.__name__}` is a class, not a sink")
        name = getattr(sink, "__qualname__", type(sink).__qualname__)
        if all(callable(getattr(sink, part, None)) for part in ("emit", "flush", "close")):
            subscription = Subscription(self, sink, name)  # type: ignore[arg-type]
        elif callable(sink):
            subscription = Subscription(self, FunctionSink(sink), name)
        else:
            raise TypeError(f"`{name}` is neither a sink nor a function")
        with self._lock:
            self._check_open()
            self._subscriptions += (subscription,)
        report_to = getattr(sink, "report_to", None)
        if callable(report_to):
            report_to(subscription.report)
        return subscription

    def publish(self, event: Event) -> None:
        """Delivers an event to every sink.

        Raises:
            RuntimeError: The bus is closed, or sinks publish to it in a loop.
        """
        self._check_open()
        depth = getattr(self._nesting, "depth", 0)
        if depth >= _MAX_NESTING:
            raise RuntimeError("sinks of this bus publish to it in a loop")
        self._nesting.depth = depth + 1
        interrupts: list[BaseException] = []
        try:
            self._deliver(event, interrupts)
        finally:
            self._nesting.depth = depth
        _raise_first(interrupts)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Waits until every sink has kept its events; the time is for all together.

        Returns:
            Whether all sinks succeeded but those that are ``advisory``.
        """
        deadline = time.monotonic() + timeout_seconds
        interrupts: list[BaseException] = []
        done = []
        for each in self._subscriptions:
            left = max(0.0, deadline - time.monotonic())
            kept = self._try(each, "flush", partial(each.sink.flush, left), interrupts)
            done.append(kept or getattr(each.sink, "advisory", False))
        _raise_first(interrupts)
        return all(done)

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Flushes and closes every sink; may be called twice.

        Returns:
            Whether the flush succeeded for all sinks.
        """
        with self._lock:
            self._closing, was_closing = True, self._closing
        if was_closing:
            return True
        interrupts: list[BaseException] = []
        for each in self._subscriptions:
            self._report_losses(each, interrupts)
        flushed = False
        try:
            # Still open: a sink may publish what it could not deliver.
            flushed = self.flush(timeout_seconds)
        except BaseException as error:
            interrupts.append(error)
        with self._lock:
            self._closed = True
            leaving, self._subscriptions = self._subscriptions, ()
        for each in leaving:
            self._try(each, "close", each.sink.close, interrupts)
        _raise_first(interrupts)
        return flushed

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the event bus is closed")

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            left = tuple(each for each in self._subscriptions if each is not subscription)
            gone, self._subscriptions = self._subscriptions != left, left
        if gone:
            interrupts: list[BaseException] = []
            self._report_losses(subscription, interrupts)
            _raise_first(interrupts)

    def _deliver(
        self, event: Event, interrupts: list[BaseException], but: Subscription | None = None
    ) -> None:
        for each in self._subscriptions:
            if each is not but:
                each._last = event
                self._try(each, "emit", partial(each.sink.emit, event), interrupts, event)

    def _try(
        self,
        subscription: Subscription,
        operation: str,
        call: Callable[[], _T],
        interrupts: list[BaseException],
        event: Event | None = None,
    ) -> _T | None:
        try:
            return call()
        except BaseException as error:
            if not isinstance(error, Exception):
                interrupts.append(error)
            if self._count(subscription, operation, error, event):
                _log(subscription.name, operation, error)
                self._report_losses(subscription, interrupts)
        return None

    def _count(
        self, subscription: Subscription, operation: str, error: BaseException, event: Event | None
    ) -> bool:
        """Keeps a failure; returns whether it is the sink's first."""
        now = utc()
        with self._lock:
            before = self._failures.get(subscription)
            lost = 0 if event is None else 1
            subscription._unreported += lost
            self._failures[subscription] = SinkFailure(
                sink=subscription.name,
                operation=operation,
                count=before.count + 1 if before else 1,
                lost=before.lost + lost if before else lost,
                error=_describe(error),
                first_seen=before.first_seen if before else now,
                last_seen=now,
            )
            while len(self._failures) > _MAX_FAILURES:
                del self._failures[next(iter(self._failures))]
            return before is None

    def _report(self, subscription: Subscription, payload: Payload, runid: str) -> None:
        with self._lock:
            if subscription not in self._subscriptions:
                return
            event = subscription._next(payload, runid)
        interrupts: list[BaseException] = []
        self._deliver(event, interrupts, but=subscription)
        _raise_first(interrupts)

    def _report_losses(self, subscription: Subscription, interrupts: list[BaseException]) -> None:
        """Tells the other sinks what this one lost since the last report."""
        with self._lock:
            failure, lost = self._failures.get(subscription), subscription._unreported
            last = subscription._last
            if failure is None or last is None or not lost:
                return
            subscription._unreported = 0
            reason = f"sink {failure.sink}: {failure.operation}: {failure.error}"
            gap = subscription._next(MonitorGap(dropped=lost, reason=reason), last.runid)
        self._deliver(gap, interrupts, but=subscription)


def _describe(error: BaseException) -> str:
    try:
        return bounded(f"{type(error).__name__}: {error}", 500)
    except Exception:  # an exception's `__str__` can be broken too
        return type(error).__name__


def _log(name: str, operation: str, error: BaseException) -> None:
    import logging

    logging.getLogger("omnibase.events").warning(
        "event sink `%s` failed to %s: %s", name, operation, ascii(_describe(error))
    )


def _raise_first(interrupts: list[BaseException]) -> None:
    if interrupts:
        raise interrupts[0]


_default: list[EventBus] = []
_default_lock = threading.Lock()


def default_bus() -> EventBus:
    """Returns the process's global bus: a new one if there is none or it is closed.

    It is closed, its sinks with it, when the interpreter exits.
    """
    with _default_lock:
        if not _default or _default[0].closed:
            import atexit

            for old in _default:
                atexit.unregister(old.close)
            _default[:] = [EventBus()]
            atexit.register(_default[0].close)
        return _default[0]
