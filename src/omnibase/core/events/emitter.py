"""What speaks for a run on the bus."""

from __future__ import annotations

import threading
import time

from omnibase.core.events import tracing
from omnibase.core.events._fields import bad, new_id
from omnibase.core.events.bus import EventBus
from omnibase.core.events.model import Event, Payload

__all__ = ["Emitter"]


class Emitter:
    """Emits the events of one run: fills the envelope and counts the sequence.

    All that speaks for a run shares its emitter, from any thread; every sink then
    sees the run's events in the order of their sequence.

    Args:
        bus: Where the events go.
        source: URI reference that belongs to this run alone; by default
            ``urn:omnibase:run:`` and the run's id.
        runid: The run; by default a new random id.
        subject: What the run is about, e.g. the script's name.
        componentid: UUID of the component.
        policydigest: Digest of the policy; may be set once it is known.
        traceparent: W3C trace context of the caller; by default that of the current
            OpenTelemetry span, else the bus's. If there is none, the run begins a trace.

    Raises:
        ValueError: ``traceparent`` is not valid.

    Attributes:
        traceparent: W3C trace context of the run: every event has it.
        parentspan: Span of the caller, if there is one.
        began: When it was made, by the monotonic clock, in seconds.
    """

    def __init__(
        self,
        bus: EventBus,
        source: str | None = None,
        runid: str | None = None,
        *,
        subject: str | None = None,
        componentid: str | None = None,
        policydigest: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.runid = runid or new_id()
        self.source = source or f"urn:omnibase:run:{self.runid}"
        self.subject = subject
        self.componentid = componentid
        self.policydigest = policydigest
        parent = tracing.parse(traceparent)
        if parent is None and traceparent is not None:
            raise bad("traceparent", "a W3C traceparent", traceparent)
        parent = parent or tracing.current_span() or bus.trace
        self.traceparent = str(tracing.begin(parent))
        self.parentspan = None if parent is None else parent.spanid
        self.began = time.monotonic()
        self._bus = bus
        # Held while publishing, for the order; re-entrant, for sinks that emit.
        self._lock = threading.RLock()
        self._sequence = 0
        self._emitted: set[type[Payload]] = set()

    @property
    def sequence(self) -> int:
        """Number of the run's latest event; 0 before the first."""
        return self._sequence

    def has_emitted(self, kind: type[Payload]) -> bool:
        """Whether the run has had an event of a type."""
        return kind in self._emitted

    def emit(self, payload: Payload) -> Event:
        """Publishes a payload as the run's next event; returns the event.

        Raises:
            ValueError: An attribute of the envelope is malformed.
            RuntimeError: The bus is closed.
        """
        with self._lock:
            event = Event(
                data=payload,
                source=self.source,
                runid=self.runid,
                sequence=self._sequence + 1,
                subject=self.subject,
                componentid=self.componentid,
                policydigest=self.policydigest,
                traceparent=self.traceparent,
                parentspan=self.parentspan,
            )
            self._sequence += 1
            self._emitted.add(type(payload))
            self._bus.publish(event)
        return event
