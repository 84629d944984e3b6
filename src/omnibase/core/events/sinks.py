"""What a sink is, and the sinks that keep nothing on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from omnibase.core.events.model import Event, Payload

_P = TypeVar("_P", bound=Payload)


class Sink(Protocol):
    """What keeps events. Every method may be called from any thread.

    A sink may write at once or hand over to a queue of its own. Either way,
    `emit` is called in the thread of the run and must return within a bound
    that the sink states; whatever a sink accepted and then lost, it reports
    (`MonitorGap`), and whatever it delivers twice keeps its ``id``. `emit` must not
    wait for another thread that emits: a run's events go out one at a time.

    A sink with a method ``report_to`` is given, whenever it is subscribed, a function
    of a payload and a run's id that tells the other sinks of that bus: see
    `Subscription.report`. One with a true attribute ``advisory`` is no record, or keeps
    what it cannot deliver: whether it could does not count in `EventBus.flush`.
    """

    def emit(self, event: Event, /) -> object:
        """Accepts one event.

        Raises:
            Exception: The event is not accepted: nothing of it will be kept.
        """
        ...

    def flush(self, timeout_seconds: float, /) -> bool:
        """Returns whether all that was accepted before is kept as safely as promised.

        ``False`` means that the time was too short; the sink goes on trying.
        """
        ...

    def close(self) -> None:
        """Keeps what it still can and releases everything; may be called twice.

        After it, `emit` raises.
        """
        ...


class CollectingSink:
    """Keeps events in memory: for tests, and for looking at one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._closed = False

    @property
    def events(self) -> tuple[Event, ...]:
        """What was emitted so far, in order."""
        with self._lock:
            return tuple(self._events)

    def payloads(self, kind: type[_P]) -> tuple[_P, ...]:
        """Returns the payloads of one type, in order."""
        return tuple(event.data for event in self.events if isinstance(event.data, kind))

    def clear(self) -> None:
        """Forgets what was emitted."""
        with self._lock:
            self._events.clear()

    def emit(self, event: Event, /) -> None:
        """Appends the event."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the sink is closed")
            self._events.append(event)

    def flush(self, timeout_seconds: float, /) -> bool:
        """Has nothing to wait for."""
        return True

    def close(self) -> None:
        """Refuses further events; those it has stay readable."""
        self._closed = True


class FunctionSink:
    """Calls a function with each event."""

    def __init__(self, function: Callable[[Event], object]) -> None:
        self.emit = function

    def flush(self, timeout_seconds: float, /) -> bool:
        """Has nothing to wait for."""
        return True

    def close(self) -> None:
        """Refuses further events."""
        self.emit = _closed


def _closed(event: Event) -> None:
    raise RuntimeError("the sink is closed")
