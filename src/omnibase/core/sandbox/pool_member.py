"""A member of a pool: one warm sandbox, used for one run, and then gone.

Each has a thread, which is the parent of its ``runsc`` (that ends with the thread) and
has its mount namespace. The thread starts it, looks after it while it waits, and ends
it. What a run does in between is done in the run's own thread, in the host's
namespaces: `Serving`.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.pool_rest import Rest
from omnibase.core.sandbox.pool_sandbox import Recipe, WarmSandbox
from omnibase.core.sandbox.state import RunDirectory
from omnibase.errors import SandboxError

__all__ = ["LINGER_SECONDS", "Member", "MemberState"]

_PING_SECONDS: Final = 5.0
_LATE_SECONDS: Final = 1.0
LINGER_SECONDS: Final = 0.005
"""Threads share an interpreter: what a run leaves behind waits until its caller has the result."""


class MemberState(Enum):
    """What a member is at."""

    BOOTING = "booting"
    READY = "ready"
    CLAIMED = "claimed"
    GONE = "gone"


class Member(WarmSandbox):
    """One warm sandbox, with its thread and what it is at.

    Args:
        recipe: See `WarmSandbox`.
        directory: Likewise.
        cgroup: Likewise.
        changed: Called in the member's thread when it is ready, and when it is gone.

    Attributes:
        state: See `MemberState`.
        fault: Why it did not start, or what was wrong with it.
        ended_at: When it was to go, in seconds of the monotonic clock; 0 before.
        gone_at: When nothing of it ran any more.
        used: It was taken for a run.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        cgroup: Cgroup,
        changed: Callable[[Member], None],
    ) -> None:
        super().__init__(recipe, directory, cgroup)
        self.state = MemberState.BOOTING
        self.fault: Exception | None = None
        self.ended_at = self.gone_at = 0.0
        self.used = False
        self._changed = changed
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._deadline: float | None = None
        self._status = 0
        self._rest = Rest(cgroup)
        self._stack.callback(self._rest.close)

    # For whoever has it

    def start(self) -> None:
        """Starts it, in a thread.

        Raises:
            RuntimeError: The process has no thread left; nothing was started.
        """
        try:
            threading.Thread(target=self._live, name="omnibase-warm", daemon=True).start()
        except RuntimeError:
            self._stack.close()
            raise

    def claim(self) -> bool:
        """Takes it for a run, if it is ready and alive."""
        if not self._lock.acquire(blocking=False):
            return False  # it is being looked at
        try:
            if self.state is not MemberState.READY or self._leave or _readable(self.pidfd):
                return False
            self._rest.wake()
            self.state = MemberState.CLAIMED
            self.used = True
            return True
        finally:
            self._lock.release()

    def unclaim(self) -> bool:
        """Gives it back untouched; returns whether it can be claimed again."""
        with self._lock:
            self.state, self.used = MemberState.READY, False
            os.eventfd_write(self._wake, 1)  # it may have died meanwhile
            return not self._leave

    def rest(self, wanted: bool) -> None:
        """Stops it while nobody wants it, or has it go on, so that a run need not wait for that.

        To be called in the host's namespaces.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self.state is MemberState.READY:
                self._rest.consider(wanted)
        finally:
            self._lock.release()

    def expire_at(self, deadline: float) -> None:
        """Has it ended a moment after a run's deadline, whatever the run's thread does."""
        self._deadline = deadline + _LATE_SECONDS
        os.eventfd_write(self._wake, 1)

    def leave(self) -> None:
        """Has it ended; returns at once, but for one that is being asked for a sign of life."""
        with self._lock:
            self._leave = True
            self.ended_at = self.ended_at or time.monotonic()
            if self.state is not MemberState.GONE:  # else the descriptor may be anybody's
                os.eventfd_write(self._wake, 1)

    def end(self) -> int:
        """Ends its process and waits for that; its descriptors stay until it is to `leave`.

        Returns:
            Its exit status, negative for a signal.
        """
        if self._process is not None:
            self._process.kill()
        self._gone.wait()
        return self._status

    # In its own thread

    def _live(self) -> None:
        try:
            self.boot()
            with self._lock:
                self.state = MemberState.READY
            self._changed(self)
            self._wait()
            if self._leave and self.used:
                time.sleep(LINGER_SECONDS)
        except Exception as error:
            self.fault = error
        finally:
            with self._lock:
                if self.state is not MemberState.CLAIMED:
                    self._leave = True
            self._fold_up()

    def _wait(self) -> None:
        """Looks after it until it is to go, and ends it if a run does not in time."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self.pidfd, select.POLLIN)
        ping_at = time.monotonic() + _PING_SECONDS
        while not self._leave:
            claimed = self.state is MemberState.CLAIMED
            until = (self._deadline if claimed else ping_at) or ping_at
            found = {fd for fd, _ in poller.poll(max(0.0, until - time.monotonic()) * 1000)}
            if self._wake in found:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            if self.pidfd in found:
                if not claimed and self.state is MemberState.READY:
                    raise SandboxError("a warm sandbox died")
                return
            now = time.monotonic()
            if self.state is MemberState.CLAIMED:
                if self._deadline is not None and now >= self._deadline:
                    return
                ping_at = now + _PING_SECONDS
            elif now >= ping_at:
                self._ping()
                ping_at = time.monotonic() + _PING_SECONDS

    def _ping(self) -> None:
        with self._lock:
            if self.state is not MemberState.READY:
                return
            self._rest.wake()
            try:
                self.ask()
            except SandboxError:
                self._leave = True
                raise
            self._rest.wake()  # it was not quiet until now

    def _fold_up(self) -> None:
        process = self._process
        if process is not None:
            process.kill()
            # The kernel ends and reaps the rest of its namespace before it.
            self._status = process.wait()
        self._gone.set()
        if self.state is MemberState.CLAIMED:
            self._await_release()
        with self._lock:
            self.state = MemberState.GONE
        self.gone_at = time.monotonic()
        self.ended_at = self.ended_at or self.gone_at
        self._stack.close()
        self._changed(self)

    def _await_release(self) -> None:
        """A run has its descriptors still."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        while not self._leave and self.state is MemberState.CLAIMED:
            poller.poll()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)


def _readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
