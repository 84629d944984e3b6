"""How many sandboxes run at once: first come, first served, within runs and memory.

Nobody overtakes: a run that needs much memory waits at the head of the queue until
it fits, and those behind it wait, too, so that it is not starved.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from omnibase.errors import ConfigurationError, SandboxTimeout, SandboxUnavailable

__all__ = ["Admission", "machine_memory"]

# A queued caller looks at its cancellation so often; places are told at once.
_LOOK_SECONDS: Final = 0.05


class _Cancel(Protocol):
    def fileno(self) -> int: ...


class _Ticket:
    """A caller in the queue."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes


class Admission:
    """Places for sandboxes in this process; threads share it.

    Args:
        runs: Sandboxes at one time.
        memory_bytes: Sum of their memory limits.
    """

    def __init__(self, *, runs: int, memory_bytes: int) -> None:
        self._runs = runs
        self._memory_bytes = memory_bytes
        self._changed = threading.Condition()
        self._queue: deque[_Ticket] = deque()
        self._running = 0
        self._used_bytes = 0
        self._reserved_bytes = 0
        self._draining = False

    @classmethod
    def from_environment(cls) -> Admission:
        """Returns one by ``OMNIBASE_MAX_RUNS`` and ``OMNIBASE_MAX_MEMORY``.

        By default 8 runs for each CPU, 16 at least, and 80 % of the machine's memory.

        Raises:
            ConfigurationError: A variable is malformed.
        """
        from omnibase.core.context import parse_size

        runs = os.environ.get("OMNIBASE_MAX_RUNS", "")
        if runs and not (runs.isdecimal() and runs.isascii() and 0 < int(runs) <= 1_000_000):
            raise ConfigurationError(
                f"`OMNIBASE_MAX_RUNS={runs[:40]}` is not a number of runs",
                hint="set a whole number, e.g. `OMNIBASE_MAX_RUNS=16`",
            )
        memory = os.environ.get("OMNIBASE_MAX_MEMORY", "")
        return cls(
            runs=int(runs) if runs else max(16, 8 * (os.cpu_count() or 1)),
            memory_bytes=parse_size(memory) if memory else machine_memory() * 8 // 10,
        )

    @property
    def running(self) -> int:
        """Places that are taken."""
        return self._running

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._queue)

    @property
    def pressed(self) -> bool:
        """Whether a run waits for memory that is set aside."""
        with self._changed:
            if not self._queue or not self._reserved_bytes:
                return False
            wanted = self._used_bytes + self._queue[0].memory_bytes
            return wanted <= self._memory_bytes < wanted + self._reserved_bytes

    def reserve(self, memory_bytes: int) -> bool:
        """Sets memory aside for a sandbox that has no run yet; returns whether there was some.

        Half of all memory stays for runs, and so does what one waits for.
        """
        with self._changed:
            reserved = self._reserved_bytes + memory_bytes
            fits = self._used_bytes + reserved <= self._memory_bytes
            if self._draining or self._queue or not fits or 2 * reserved > self._memory_bytes:
                return False
            self._reserved_bytes = reserved
            return True

    def unreserve(self, memory_bytes: int) -> None:
        """Gives it back: there is no such sandbox any more."""
        with self._changed:
            self._reserved_bytes -= memory_bytes
            self._changed.notify_all()

    def convert(self, reserved_bytes: int, memory_bytes: int) -> bool:
        """Makes a place of what was set aside, if it is enough or there is more; see `leave`.

        Raises:
            SandboxUnavailable: The process is draining.
        """
        with self._changed:
            self._check_draining()
            others = self._used_bytes + self._reserved_bytes - reserved_bytes
            if self._running >= self._runs or others + memory_bytes > self._memory_bytes:
                return False
            self._reserved_bytes -= reserved_bytes
            self._running += 1
            self._used_bytes += memory_bytes
            return True

    def leave(self, memory_bytes: int) -> None:
        """Gives up a place."""
        with self._changed:
            self._running -= 1
            self._used_bytes -= memory_bytes
            self._changed.notify_all()

    @contextlib.contextmanager
    def place(self, memory_bytes: int, wait_seconds: float, cancel: _Cancel) -> Iterator[None]:
        """Waits for a place and keeps it for the block.

        Args:
            memory_bytes: The run's memory limit.
            wait_seconds: Longest wait.
            cancel: Readable once the caller gives up; the block is entered then
                without a place, so that the run ends as a cancelled one does.

        Raises:
            SandboxTimeout: No place in time; nothing was started.
            SandboxUnavailable: The process is draining, or no place will ever do.
        """
        if memory_bytes > self._memory_bytes:
            raise SandboxUnavailable(
                f"the run may use {memory_bytes} bytes of memory, and all runs together "
                f"{self._memory_bytes}",
                hint="grant it less, or raise `OMNIBASE_MAX_MEMORY`",
            )
        taken = self._take(memory_bytes, time.monotonic() + wait_seconds, wait_seconds, cancel)
        try:
            yield
        finally:
            if taken:
                self.leave(memory_bytes)

    def drain(self, timeout_seconds: float) -> bool:
        """Admits nobody from now on, and waits for those that run.

        Returns:
            Whether all have ended in time.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._draining = True
            self._changed.notify_all()
            while self._running:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _LOOK_SECONDS))
        return True

    def _take(
        self, memory_bytes: int, deadline: float, wait_seconds: float, cancel: _Cancel
    ) -> bool:
        ticket = _Ticket(memory_bytes)
        with self._changed:
            self._queue.append(ticket)
            try:
                while not self._fits(ticket):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise SandboxTimeout(
                            f"no place for the run within {wait_seconds:g} s: {self._running} "
                            f"run and {len(self._queue) - 1} wait",
                            details={"wall_seconds": wait_seconds, "queued": True},
                            hint="nothing was started; try later, or raise `OMNIBASE_MAX_RUNS`",
                        )
                    if _is_set(cancel):
                        return False
                    self._changed.wait(min(left, _LOOK_SECONDS))
                self._running += 1
                self._used_bytes += memory_bytes
                return True
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _fits(self, ticket: _Ticket) -> bool:
        self._check_draining()
        used = self._used_bytes + self._reserved_bytes
        return (
            self._queue[0] is ticket
            and self._running < self._runs
            and used + ticket.memory_bytes <= self._memory_bytes
        )

    def _check_draining(self) -> None:
        if self._draining:
            raise SandboxUnavailable(
                "the process is draining: it starts no more runs", hint="send it elsewhere"
            )


def _is_set(cancel: _Cancel) -> bool:
    poller = select.poll()  # descriptors past 1024 too
    poller.register(cancel, select.POLLIN)
    return bool(poller.poll(0))


def machine_memory() -> int:
    """Returns the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
