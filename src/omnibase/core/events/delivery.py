"""The thread that empties an outbox into JetStream, in order, and tries until it can.

An event is sent once the one before it of the same run is acknowledged: so a run's
events are stored in order, whatever is refused between, and at most one of each run
is ever in doubt. What is in doubt is sent again with its id, by which the stream knows
it; once the stream's memory may have run out, the stream itself is searched first.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from omnibase.core.events.lag import LagWatch, age_of
from omnibase.core.events.nats_broker import Answer, Broker, Unreachable
from omnibase.core.events.nats_loop import Loop, load
from omnibase.core.events.nats_settings import NatsSettings
from omnibase.core.events.outbox import Loss, Outbox
from omnibase.core.events.payload import Lag, Payload
from omnibase.core.events.payloads import MonitorGap, SinkLag
from omnibase.core.events.spool import Record, Spool
from omnibase.errors import ConfigurationError

__all__ = ["Delivery"]

_RUNS_AT_ONCE: Final = 64
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_LOOK_ROUND_SECONDS: Final = 2.0
_JOIN_SECONDS: Final = 3.0


class Delivery:
    """Delivers what is in an outbox, from a thread of its own.

    Args:
        outbox: What is to be delivered.
        settings: Where to.
        name: The sink's, for `SinkLag`.
        ack_seconds: How long one acknowledgement may take.
        lag_seconds: Age of the oldest event from which the sink lags.
        report: Takes a payload, and the run that it is about.
        gap: Makes the line of a `MonitorGap` for what was lost.
    """

    def __init__(
        self,
        outbox: Outbox,
        settings: NatsSettings,
        *,
        name: str,
        ack_seconds: float,
        lag_seconds: float,
        report: Callable[[Payload, str], None],
        gap: Callable[[Loss], bytes],
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._name = name
        self._ack_seconds = ack_seconds
        self._lag_seconds = lag_seconds
        self._report = report
        self._gap = gap
        self._moved = threading.Condition()
        self._watch = LagWatch(lag_seconds)
        self._watching = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._idle = False
        self._work, self._hurry = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self._done: set[str] = set()
        self._head: Record | None = None
        self._recovered = 0
        self._obstacle = "the server stores events more slowly than they come"
        self.problem = ""
        self._begun = self._failed = 0
        self.delivered = 0

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._main, name="omnibase-outbox", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that something was appended."""
        if self._idle:
            self._set(self._work)

    def wait(self, goal: list[tuple[Spool, int]], timeout_seconds: float, *, once: bool) -> bool:
        """Waits until all that waited at some time is delivered.

        Args:
            goal: Of `Outbox.goal`.
            timeout_seconds: Longest wait.
            once: Wait no longer than until one attempt has failed that began from now on.
        """
        begun = self._begun
        deadline = time.monotonic() + timeout_seconds
        if not Outbox.reached(goal):
            self._set(self._hurry)
        with self._moved:
            while not Outbox.reached(goal):
                left = deadline - time.monotonic()
                if left <= 0 or self._stopped or (once and self._failed > begun):
                    return False
                self._moved.wait(left)
        return True

    def give_up(self) -> None:
        """Reports what is left when nobody waits any longer."""
        pending = self._outbox.pending
        with self._watching:
            said = self._watch.give_up(pending)
        self._obstacle = self.problem or "there was no time to deliver them"
        self._tell(said, pending, self._obstacle)

    def stop(self) -> bool:
        """Ends the thread and its connection, within a few seconds; returns whether it did."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()
        loop = self._loop
        if loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(self._task.cancel)
        # `asyncio.wait_for`, up to Python 3.11, loses a cancellation that comes with the
        # result: then the thread finds that it is to stop as soon as it would wait.
        self._set(self._hurry)
        self._set(self._work)
        if self._thread is None:
            return True
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def _set(self, event: asyncio.Event) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(event.set)

    def _main(self) -> None:
        load()
        loop = Loop()
        try:
            self._task = loop.create_task(self._deliver_all())
            self._loop = loop
            if self._stopped:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(self._task)
        finally:
            self._loop = None
            loop.finish()

    async def _deliver_all(self) -> None:
        broker: Broker | None = None
        pause = _FIRST_PAUSE
        watch = asyncio.create_task(self._keep_looking())
        try:
            while not self._stopped:
                self._begun += 1
                try:
                    if broker is None or not broker.alive:
                        broker = await self._connect(broker)
                    while await self._round(broker):
                        pause = _FIRST_PAUSE
                        self._settled("")
                    self._settled("")
                    await self._rest()
                except (Unreachable, ConfigurationError) as error:
                    await self._leave(broker)
                    broker = None
                    self._settled(str(error))
                    pause = await self._pause(pause)
                except _Refused as error:
                    self._settled(str(error))
                    pause = await self._pause(pause)
                except Exception as error:  # the outbox's own disk, or an error of ours
                    self._settled(f"the outbox cannot be delivered: {_text(error)}")
                    pause = await self._pause(pause)
        finally:
            watch.cancel()
            await self._leave(broker)

    async def _connect(self, old: Broker | None) -> Broker:
        await self._leave(old)
        servers = self._settings.servers
        server = servers[self._attempt % len(servers)]
        self._attempt += 1
        broker = await Broker.connect(self._settings, server, self._ack_seconds)
        self._attempt -= 1  # stay with the one that answers
        self._outbox.tell_losses(self._gap)
        return broker

    @staticmethod
    async def _leave(broker: Broker | None) -> None:
        if broker is not None:
            await broker.close()

    async def _round(self, broker: Broker) -> bool:
        """Sends the next event of each run; returns whether there was one.

        Raises:
            Unreachable, _Refused: Some were not stored.
            OSError: The outbox cannot be read or written.
        """
        spool = None if self._stopped else self._outbox.next()
        if spool is None:
            return False
        records = spool.read(_RUNS_AT_ONCE)
        if not records:
            return False
        self._head = records[0]
        if not records[0].id:
            size = len(records[0].data)
            if size:
                self._lose(f"a line of {size} bytes in the outbox is no event", "none")
            spool.advance(records[0].end, min(size, 1), doubt=False)
            return True
        state = spool.state
        open_ = [record for record in records if record.id not in self._done]
        if state.sent and not 0 <= time.time() - state.sent < broker.window_seconds / 2:
            known = await broker.stored({record.id for record in open_}, state.sequence)
            self._done |= known
            open_ = [record for record in open_ if record.id not in known]
        if not state.sent:
            spool.mark(time.time(), broker.last_sequence)
        answers = await broker.send(open_)
        self._settle(spool, records, dict(zip(open_, answers, strict=True)), doubted=state.sent > 0)
        return True

    def _settle(
        self, spool: Spool, records: list[Record], answers: dict[Record, Answer], *, doubted: bool
    ) -> None:
        """Goes on to the first event that is not stored, if there is one."""
        for record, answer in answers.items():
            if answer.never:
                self._lose(answer.refused, record.run)
            if answer.never or not answer.refused:
                self._done.add(record.id)
        failed = [answer for answer in answers.values() if answer.refused and not answer.never]
        end, events = 0, 0
        for record in records:
            if record.id not in self._done:
                break
            end, events = record.end, events + 1
        # What was in doubt before stays so: it was not said that it is not stored.
        doubt = bool(failed) and (doubted or any(answer.doubt for answer in failed))
        if events:
            spool.advance(end, events, doubt=doubt)
            self._done -= {record.id for record in records[:events]}
            self._watch.progress(time.monotonic())
            self.delivered += events
        elif not doubt:
            spool.mark(0.0, 0)
        if failed:
            reason = failed[0].refused
            raise (
                Unreachable(reason) if any(answer.doubt for answer in failed) else _Refused(reason)
            )

    def _lose(self, reason: str, run: str) -> None:
        self._outbox.lose(1, reason, run)
        self._report(MonitorGap(dropped=1, reason=f"sink {self._name}: {reason}"), run)

    def _settled(self, problem: str) -> None:
        if not problem and not self._outbox.pending:
            # Before whoever waits for that goes on, and perhaps closes the bus.
            self._look_at_lag()
            self._tell_recovery()
        with self._moved:
            self.problem = problem
            if problem:
                self._failed = self._begun
            self._moved.notify_all()

    async def _rest(self) -> None:
        """Waits for work; looks round now and then for what other processes left."""
        self._outbox.take_over()
        self._outbox.tell_losses(self._gap)
        self._work.clear()
        self._idle = True
        try:
            if self._outbox.pending or self._stopped:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_ROUND_SECONDS):
                    await self._work.wait()
        finally:
            self._idle = False

    async def _pause(self, seconds: float) -> float:
        """Waits after a failure, or until somebody waits for us; returns the next wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.75, 1.25)):  # noqa: S311
                await self._hurry.wait()
        self._hurry.clear()
        return min(2 * seconds, _LONGEST_PAUSE)

    async def _keep_looking(self) -> None:
        while True:
            self._look_at_lag()
            await asyncio.sleep(min(1.0, self._lag_seconds / 4))

    def _look_at_lag(self) -> None:
        pending = self._outbox.pending
        with self._watching:
            said = self._watch.look(pending, self._age(pending), time.monotonic())
        if said is not None and self.problem:
            self._obstacle = self.problem
        self._tell(said, pending, self._obstacle)

    def _tell_recovery(self) -> None:
        """Says, once, that what earlier processes had left is delivered."""
        found, self._recovered = self._outbox.inherited - self._recovered, self._outbox.inherited
        with self._watching:
            lagging = self._watch.lagging
        if found and not lagging:
            reason = f"{found} events that an earlier process had left are delivered"
            self._tell("caught-up", 0, reason)

    def _tell(self, state: Lag | None, pending: int, reason: str) -> None:
        if state is not None:
            lag = SinkLag(
                sink=self._name, state=state, pending=pending, oldest_seconds=self._age(pending),
                reason=reason,
            )  # fmt: skip
            head = self._head
            self._report(lag, head.run if head is not None and head.run else "none")

    def _age(self, pending: int) -> float:
        """How long ago the oldest event that waits happened."""
        if not pending:
            return 0.0
        self._head = self._outbox.peek() or self._head
        return 0.0 if self._head is None else age_of(self._head.time, time.time())


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


class _Refused(Exception):
    """The server is there, and does not store what it is sent."""
