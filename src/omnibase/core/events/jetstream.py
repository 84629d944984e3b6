"""The JetStream sink: events to a NATS server, by way of an outbox on disk."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable
from types import MethodType
from typing import Final
from weakref import WeakMethod, WeakSet

from omnibase.core.events._fields import new_id
from omnibase.core.events.delivery import Delivery
from omnibase.core.events.jsonl import Fsync
from omnibase.core.events.model import Event
from omnibase.core.events.nats_settings import NatsSettings
from omnibase.core.events.outbox import Loss, Outbox
from omnibase.core.events.payload import Payload
from omnibase.core.events.payloads import MonitorGap
from omnibase.errors import ConfigurationError

__all__ = ["OUTBOX_BYTES", "JetStreamSink"]

OUTBOX_BYTES: Final = 64 << 20
LAG_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0

_open: WeakSet[JetStreamSink] = WeakSet()


class JetStreamSink:
    """Publishes events to a JetStream, each once, in order within a run.

    `emit` appends to an outbox on disk and returns: it waits for no server and for no
    other process, only for one ``write`` (and one ``fdatasync``, with
    ``fsync="always"``). A thread delivers, and tries again with growing pauses of at
    most 5 s. What is not delivered when the process ends, or is killed, is delivered
    by the next that has the same outbox; any number of them may have it at once.

    When the outbox is full, or its disk, `emit` raises, and the event is lost: the bus
    reports that as `MonitorGap`, and once there is room, so does an event in the
    stream, whichever process sends it. `SinkLag` tells the other sinks when this one
    lags, and when it has caught up.

    Args:
        servers: ``nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]``, or ``tls://…``, or
            several with commas between them; or settings.
        outbox: The outbox's directory. It is made with mode 0700, its files with 0600,
            and no grant of a run of this process reaches it.
        subject: Events go to ``SUBJECT.EventName``, by default
            ``omnibase.events.EventName``. A stream has to take them: none is made.
        max_bytes: What may wait in the outbox.
        fsync: ``never`` leaves it to the kernel when the outbox reaches the disk,
            ``close`` asks for it in `flush` and `close`, ``always`` in each `emit`.
        lag_seconds: Age of the oldest waiting event from which the sink lags.
        ack_timeout_seconds: How long one acknowledgement may take.
        close_timeout_seconds: How long `close` waits for the server.
        patience_seconds: Longest that one `flush` waits, which then also ends with the
            first attempt that fails: for a command, which cannot wait for a dead server.

    Raises:
        ConfigurationError: The address is malformed, or there is no ``nats-py``.
        ValueError: An argument is out of range.
        OSError: The outbox's directory cannot be used.
    """

    # What is in the outbox is kept: a server that is down keeps no run from starting.
    advisory: Final = True

    def __init__(
        self,
        servers: str | NatsSettings,
        outbox: str | os.PathLike[str],
        *,
        subject: str | None = None,
        max_bytes: int = OUTBOX_BYTES,
        fsync: Fsync = "close",
        lag_seconds: float = LAG_SECONDS,
        ack_timeout_seconds: float = 5.0,
        close_timeout_seconds: float = CLOSE_SECONDS,
        patience_seconds: float | None = None,
    ) -> None:
        if fsync not in ("never", "close", "always"):
            raise ValueError(f"`fsync={fsync}` is none of `never`, `close`, `always`")
        if max_bytes < 1 or lag_seconds <= 0 or ack_timeout_seconds <= 0:
            raise ValueError("`max_bytes`, `lag_seconds` or `ack_timeout_seconds` is out of range")
        if isinstance(servers, str):
            servers = NatsSettings.of(servers, subject=subject)
        if importlib.util.find_spec("nats") is None:
            raise ConfigurationError(
                "events to NATS need the library `nats-py`",
                hint="install it: `pip install 'omnibase[nats]'`",
            )
        servers.tls()  # certificates that cannot be used are the caller's to mend, now
        self.settings = servers
        self._lag_seconds = lag_seconds
        self._ack_seconds = ack_timeout_seconds
        self._close_seconds = close_timeout_seconds
        self._patience = patience_seconds
        self._reports: list[Callable[[], Callable[[Payload, str], None] | None]] = []
        self._lock = threading.Lock()
        self._gaps = 0
        self._source = f"urn:omnibase:sink:{new_id()}"
        self._outbox = Outbox(outbox, max_bytes=max_bytes, fsync=fsync)
        self._waited = 0
        self._emitted = 0
        self._left = 0
        self._closed = False
        self._pid = os.getpid()
        self._delivery = self._new_delivery()
        _open.add(self)

    @property
    def outbox(self) -> str:
        """The outbox's directory."""
        return str(self._outbox.directory)

    @property
    def pending(self) -> int:
        """How many events this process has, or had, in the outbox that are not delivered."""
        return self._left if self._closed else self._outbox.pending

    @property
    def delivered(self) -> int:
        """How many events this sink has delivered, those of earlier processes included."""
        return self._delivery.delivered

    @property
    def problem(self) -> str:
        """What keeps it from delivering now; empty if nothing does. Holds no secret."""
        return self._delivery.problem

    def take_over(self) -> int:
        """Takes what no other process has, now; returns how many events wait."""
        self._after_fork()
        self._outbox.take_over()
        self._delivery.wake()
        return self._outbox.pending

    def report_to(self, report: Callable[[Payload, str], None]) -> None:
        """Takes what tells the other sinks of a bus about this one."""
        # Not held: the sink's thread would keep alive a bus that everybody has forgotten.
        held = isinstance(report, MethodType)
        self._reports.append(WeakMethod(report) if held else lambda: report)

    def emit(self, event: Event, /) -> None:
        """Appends the event to the outbox.

        Raises:
            RuntimeError: The sink is closed.
            OSError: The outbox is full, or its disk: the event is lost, and counted.
        """
        line = event.to_json().encode("ascii") + b"\n"
        if self._closed:
            raise RuntimeError("the sink is closed")
        self._after_fork()
        try:
            self._outbox.append(line)
        except OSError as error:
            self._outbox.lose(1, f"{error.strerror or error}", event.runid)
            raise
        self._emitted += 1
        self._delivery.wake()

    def flush(self, timeout_seconds: float, /) -> bool:
        """Waits until all that was emitted before is acknowledged by the server.

        Returns:
            ``False`` if the time was too short, or, with ``patience_seconds``, an
            attempt failed. What is left is in the outbox, and has been asked onto the
            disk unless ``fsync="never"``.
        """
        self._after_fork()
        if self._closed:
            return True
        goal, once = self._outbox.goal(), self._patience is not None
        if self._patience is not None:
            timeout_seconds = min(timeout_seconds, self._patience)
        self._waited = self._emitted
        if self._delivery.wait(goal, timeout_seconds, once=once):
            return True
        self._outbox.sync()
        self._delivery.give_up()
        return False

    def close(self) -> None:
        """Delivers what it still can, leaves the rest in the outbox; may be called twice."""
        self._after_fork()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _open.discard(self)
        # Not again for what a `flush` waited for in vain.
        if self._emitted > self._waited:
            self._delivery.wait(self._outbox.goal(), self._close_seconds, once=True)
        stopped = self._delivery.stop()
        self._left = self._outbox.pending
        try:
            self._outbox.sync()
        finally:
            if stopped:  # else its thread, in a system call, still has the files
                self._outbox.close()

    def _new_delivery(self) -> Delivery:
        delivery = Delivery(
            self._outbox,
            self.settings,
            name=type(self).__name__,
            ack_seconds=self._ack_seconds,
            lag_seconds=self._lag_seconds,
            report=self._report,
            gap=self._gap,
        )
        delivery.start()
        return delivery

    def _report(self, payload: Payload, run: str) -> None:
        for report in [found for each in tuple(self._reports) if (found := each())]:
            report(payload, run)

    def _gap(self, loss: Loss) -> bytes:
        """The line of the event that says what the outbox could not take."""
        with self._lock:
            self._gaps += 1
            gap = Event(
                data=MonitorGap(dropped=loss.events, reason=f"outbox: {loss.reason}"),
                source=self._source,
                runid=loss.run,
                sequence=self._gaps,
            )
        return gap.to_json().encode("ascii") + b"\n"

    def _after_fork(self) -> None:
        """Gives a forked child a thread of its own."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._delivery = self._new_delivery()

    def _forked(self) -> None:
        # Threads do not survive a fork, and whoever held the lock is not here.
        self._lock = threading.Lock()
        self._source, self._gaps = f"urn:omnibase:sink:{new_id()}", 0
        self._emitted = self._waited = 0
        self._outbox.forked()


def _after_fork_in_child() -> None:
    for sink in tuple(_open):
        sink._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
