"""A sink with a queue and a thread of its own, so that nothing behind it holds up a run."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from omnibase.core.events import Event, MonitorGap, Payload, SinkLag

__all__ = ["QUEUE_EVENTS", "QueuedSink"]

QUEUE_EVENTS: Final = 10_000
_GRACE_SECONDS: Final = 0.2
_CHECK_SECONDS: Final = 5.0
_log: Final = logging.getLogger("omnibase.events")


class QueuedSink:
    """Takes events into a queue at once; a thread of its own does the rest, in order.

    A full queue is an error of `emit`, which the bus counts and tells to the other
    sinks. What was taken and then lost is told as `MonitorGap`, and what holds up
    `flush` as `SinkLag`.

    Args:
        what: Of its events, for messages, e.g. ``log lines``.
        queue_events: Events that may wait.
        close_seconds: Longest time that `close` waits.
    """

    advisory: Final = True
    """It is no record: what it fails to deliver keeps no run from starting."""

    _since: float | None
    _lost_before: int

    def __init__(self, what: str, *, queue_events: int, close_seconds: float) -> None:
        self.what = what
        self._most = queue_events
        self._close_seconds = close_seconds
        self._report: Callable[[Payload, str], None] | None = None
        self._closed = False
        self._lagging = self._failing = False
        self._error = ""
        self._begin()

    def _take(self, event: Event) -> None:
        """Does its work for one event, in the sink's thread."""
        raise NotImplementedError

    def _start(self) -> None:
        """Makes what belongs to one process: called first, and in each forked child."""

    def _last(self) -> None:
        """Does what is left at the end, in the sink's thread."""

    def _deliver(self, deadline: float) -> bool:
        """Makes what was taken leave the process until then; returns whether it did."""
        return True

    def _release(self, deadline: float) -> None:
        """Lets go of everything; what is not delivered until then is lost."""

    @property
    def lost(self) -> int:
        """What was taken and is known to be lost."""
        return self._broken

    @property
    def pending(self) -> int:
        """What was taken and has not been delivered, as far as known."""
        return len(self._events)

    @property
    def error(self) -> str:
        """What went wrong last, for a person; empty if nothing did."""
        return self._error

    def report_to(self, report: Callable[[Payload, str], None], /) -> None:
        """See `EventBus.subscribe`: where losses are told."""
        self._report = report

    def emit(self, event: Event, /) -> None:
        """Puts an event into the queue; takes no longer than that.

        Raises:
            RuntimeError: The sink is closed, or its queue is full.
        """
        self._after_fork()
        with self._changed:
            if self._closed:
                raise RuntimeError("the sink is closed")
            if len(self._events) >= self._most:
                raise RuntimeError(f"the queue is full: {self._most} events wait already")
            self._events.append(event)
            self._taken += 1
            self._runid = event.runid
            self._since = self._since or time.monotonic()
            self._changed.notify_all()

    def flush(self, timeout_seconds: float, /) -> bool:
        """Returns whether all that was taken since the last one was delivered in that time."""
        self._after_fork()
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            target = self._taken
            if not target or self._closed:
                return True
            made = self._changed.wait_for(lambda: self._done >= target, timeout_seconds)
        flushed = made and self._deliver(deadline)
        self._tell(flushed)
        before, self._lost_before = self._lost_before, self.lost
        self._failing = not flushed or self._lost_before > before
        return not self._failing

    def close(self) -> None:
        """Delivers what it can and lets go of everything; may be called twice.

        Takes no longer than ``close_seconds``, and only a moment if `flush` has
        just failed.
        """
        self._after_fork()
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        within = _GRACE_SECONDS if self._failing else self._close_seconds
        deadline = time.monotonic() + within
        self._thread.join(within)
        self._release(deadline)
        with self._changed:
            self._broken += len(self._events)
            self._events.clear()
        if self.lost > self._told:
            _log.warning(
                "%s: %d %s are lost: %s",
                type(self).__name__, self.lost - self._told, self.what, ascii(self.error),
            )  # fmt: skip

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._telling = threading.RLock()
        self._events: deque[Event] = deque()
        self._taken = self._done = self._broken = 0
        self._since = None
        self._runid = ""
        self._start()
        self._told = self._lost_before = self.lost
        self._thread = threading.Thread(
            target=self._work, args=(self._changed,), name="omnibase-sink", daemon=True
        )
        self._thread.start()

    def _work(self, changed: threading.Condition) -> None:
        while True:
            with changed:
                changed.wait_for(lambda: self._events or self._closed, _CHECK_SECONDS)
                event = self._events.popleft() if self._events else None
                if event is None and self._closed:
                    break
            if event is not None:
                self._attempt(lambda: self._take(event))  # noqa: B023 - called at once
            if self.lost > self._told:  # a service flushes at its end alone
                self._attempt(self._tell_losses)
            if event is not None:  # only now: who flushes has been told
                with changed:
                    self._done += 1
                    changed.notify_all()
        self._attempt(self._last)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # of a library, a handler or a processor that is not ours
            self._broken += 1
            self._error = f"{type(error).__name__}: {error}"[:500]

    def _tell_losses(self) -> None:
        """Tells the other sinks what has been lost since the last time."""
        with self._telling:  # held until they are told, so that a flush does not return before
            lost = self.lost - self._told
            self._told += max(0, lost)
            if lost > 0 and self._report is not None:
                reason = f"{type(self).__name__}: {self.what} were lost: {self.error}"
                self._report(MonitorGap(dropped=lost, reason=reason), self._runid)

    def _tell(self, flushed: bool) -> None:
        """Tells the other sinks how a flush went."""
        self._tell_losses()
        report = self._report or _to_nobody
        if self._lagging is flushed:
            report(
                SinkLag(
                    sink=type(self).__name__,
                    state="caught-up" if flushed else "lagging",
                    pending=0 if flushed else self.pending,
                    oldest_seconds=0.0 if flushed else time.monotonic() - (self._since or 0.0),
                    reason=self.error or "no answer in time",
                ),
                self._runid,
            )
        self._lagging = not flushed
        if flushed:
            self._since = None

    def _after_fork(self) -> None:
        """Gives a forked child a queue and a thread; what waits is the parent's."""
        if self._pid != os.getpid():
            self._begin()


def _to_nobody(_payload: Payload, _runid: str) -> None:
    """For a sink that is on no bus."""
