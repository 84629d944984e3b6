"""When a sink lags, and when it has caught up: a pure decision, so that nobody is flooded."""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass, field
from typing import Final

from omnibase.core.events.payload import Lag

__all__ = ["LagWatch", "age_of"]

_CAUGHT_UP: Final = 0.1


@dataclass(slots=True)
class LagWatch:
    """Decides from what waits whether there is something to say.

    A sink lags once the oldest event has waited for longer than the bound while this
    process looked, and has caught up once nothing waits, or nothing for longer than a
    tenth of it. Between two reports of ``lagging`` more than the bound passes.

    Attributes:
        bound: In seconds.
        lagging: Whether it was said to lag, and not yet to have caught up.
    """

    bound: float
    lagging: bool = False
    _since: float | None = field(default=None)
    _moved: float = field(default=0.0)
    _given_up: bool = field(default=False)

    def progress(self, now: float) -> None:
        """Takes note that something was delivered, at a monotonic time."""
        self._moved = now

    def look(self, pending: int, oldest_seconds: float, now: float) -> Lag | None:
        """Returns what there is to say, if there is something.

        Args:
            pending: How many events wait.
            oldest_seconds: Age of the oldest, by the clock on the wall.
            now: Monotonic time, in seconds.
        """
        if not pending:
            self._since, self._given_up = None, False
            return self._becomes(False)
        if self._since is None:
            self._since = self._moved = now
        # The clock on the wall may jump, and an event may claim any time: nothing is
        # older than we know it to be, and nothing that moves not is young.
        age = min(now - self._since, max(oldest_seconds, now - self._moved))
        if age > self.bound:
            return self._becomes(True)
        young = age < self.bound * _CAUGHT_UP and not self._given_up
        return self._becomes(False) if young else None

    def give_up(self, pending: int) -> Lag | None:
        """Returns what there is to say when nobody waits any longer for what is left.

        From then on the sink has caught up when nothing waits.
        """
        self._given_up = pending > 0
        return self._becomes(True) if pending else None

    def _becomes(self, lagging: bool) -> Lag | None:
        if lagging == self.lagging:
            return None
        self.lagging = lagging
        return "lagging" if lagging else "caught-up"


def age_of(timestamp: str, now: float) -> float:
    """Returns how long ago an RFC 3339 time in UTC was, in seconds; 0 if that is unknown.

    Args:
        timestamp: The time, e.g. ``2025-03-01T09:30:00.5Z``.
        now: Seconds since the epoch.
    """
    try:
        whole = calendar.timegm(time.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S"))
        return max(0.0, now - whole - float(f"0{timestamp[19:-1] or '.0'}"))
    except (ValueError, OverflowError):
        return 0.0
