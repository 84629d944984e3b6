"""The host's end of a run's egress: decides each connection, makes it, and relays.

One thread and one channel per run. The guest's end of the channel is a socket
that the sandbox is started with; no name of it exists anywhere. Everything that
comes out of it is hostile: each connection is decided here again, from the
grants alone, and anything that is not the protocol ends the channel.

Memory is bounded: by the windows of streams, by what is held for slow peers of
all streams together, and by not reading the channel while there is too much to
say on it or to report.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from omnibase.core.sandbox.egress import resolver, wire
from omnibase.core.sandbox.egress.channel import Channel, Ends
from omnibase.core.sandbox.egress.gate import Gate
from omnibase.core.sandbox.egress.relay import Relay
from omnibase.core.sandbox.egress.reports import Report
from omnibase.core.sandbox.spec import EgressGrant, EgressLimits

__all__ = ["Broker"]

_BATCH: Final = 64  # frames per turn, so that peers and deadlines get theirs
_MAX_REPORTS: Final = 1024
_TICK_SECONDS: Final = 0.25
_LINGER_SECONDS: Final = 5.0
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Broker:
    """Serves one run.

    Args:
        grants: What it may connect to.
        limits: For each grant.
        look_up: Name → addresses; that of `resolver` if not given.
        ends: Of the channel, if the guest has its own already.

    Attributes:
        ready: The guest's listeners were up.
        error: Why the channel was ended, if it was.
        broken: That is not the guest's fault.
    """

    def __init__(
        self,
        grants: Sequence[EgressGrant],
        limits: EgressLimits,
        *,
        look_up: Callable[[str], Sequence[str]] | None = None,
        ends: Ends | None = None,
    ) -> None:
        self.ready = False
        self.error: str | None = None
        self.broken = False
        self._reports: deque[Report] = deque()
        self._give_up_at: float | None = None
        self._hung_up = False
        self._thread: threading.Thread | None = None
        with contextlib.ExitStack() as stack:
            self._channel = Channel(ends)
            stack.callback(self._channel.close)
            self._wake, self._told = _eventfd(stack), _eventfd(stack)
            self._resolver = resolver.Resolver(look_up or resolver.look_up, self._nudge)
            self._relay = Relay(
                self._channel, Gate(grants, limits), limits, self._resolver, self._tell
            )
            stack.callback(self._relay.close)
            self._epoll = stack.enter_context(select.epoll())
            # Peers have an epoll of their own, which is left alone while the channel is full.
            self._masks = {
                fd: _IN for fd in (self._channel.fileno(), self._wake, self._relay.peers.fileno())
            }
            for fd, mask in self._masks.items():
                self._epoll.register(fd, mask)
            self._stack = stack.pop_all()

    @property
    def guest_fd(self) -> int:
        """The guest's end of the channel, for the sandbox to be started with."""
        return self._channel.guest.fileno()

    def start(self) -> None:
        """Starts serving, in a thread with the caller's namespaces.

        Raises:
            RuntimeError: The process has no thread left.
        """
        thread = threading.Thread(target=self._run, name="omnibase-egress", daemon=True)
        thread.start()
        self._thread = thread

    def fileno(self) -> int:
        """Readable when there is something to `take`."""
        return self._told

    def take(self) -> list[Report]:
        """Takes what there is to report, oldest first."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._told)
        taken = []
        while self._reports:
            taken.append(self._reports.popleft())
        if taken:
            self._nudge()  # it may have waited for room
        return taken

    def release_guest(self) -> None:
        """Closes this process's copy of the guest's end: then its end can be seen."""
        self._channel.guest.close()

    def finish(self) -> list[Report]:
        """Ends it when the guest is dead: what the guest had sent is passed on, within reason.

        Returns:
            The reports that were not taken yet.
        """
        self.release_guest()
        if self._thread is not None:
            self._give_up_at = self._give_up_at or time.monotonic() + _LINGER_SECONDS
            self._nudge()
            self._thread.join()
            self._thread = None
        return self.take()

    def close(self) -> None:
        """Ends it in any case and frees everything; `finish` comes first where it matters."""
        self.finish()
        self._resolver.close()
        self._stack.close()

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._wake, 1)

    def _tell(self, report: Report) -> None:
        self._reports.append(report)
        if len(self._reports) == 1:
            os.eventfd_write(self._told, 1)

    def _run(self) -> None:
        try:
            while not self._over():
                self._turn()
        except wire.WireError as error:
            self.error = str(error)
        except Exception as error:  # whatever it is, it is this run's alone
            self.error, self.broken = f"{type(error).__name__}: {error}", True
        finally:
            self._hang_up()
            self._relay.close()
            os.eventfd_write(self._told, 1)  # of the error, if there was one

    def _over(self) -> bool:
        if self._hung_up and not self._relay.active:
            return True
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def _turn(self) -> None:
        channel = self._channel.fileno()
        if not self._hung_up:
            behind = len(self._reports) > _MAX_REPORTS and self._give_up_at is None
            reading = 0 if behind or self._crowded() else _IN
            self._poll_for(channel, reading | (_OUT if self._channel.waiting else 0))
            self._poll_for(self._relay.peers.fileno(), 0 if self._channel.waiting else _IN)
        idle = not self._relay.active and self._give_up_at is None
        for fd, events in self._epoll.poll(None if idle else _TICK_SECONDS):
            if fd == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                self._relay.resolved()
            elif fd == channel:
                self._serve_channel(events)
            else:
                self._relay.serve_peers()
        self._relay.check_times()

    def _poll_for(self, fd: int, mask: int) -> None:
        if self._masks[fd] != mask:
            self._masks[fd] = mask
            self._epoll.modify(fd, mask)

    def _crowded(self) -> bool:
        return self._channel.crowded or self._relay.crowded

    def _serve_channel(self, events: int) -> None:
        if events & _OUT:
            self._channel.flush()
        if events & ~_OUT:
            for _ in range(_BATCH):
                if self._crowded():
                    return
                frame = self._channel.receive()
                if frame is None:
                    break
                if frame.kind == wire.READY and not self.ready:
                    self.ready = True
                else:
                    self._relay.take(frame)
        if self._channel.gone:
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._hung_up:
            self._hung_up = True
            self._give_up_at = self._give_up_at or time.monotonic() + _LINGER_SECONDS
            self._epoll.unregister(self._channel.fileno())
            self._channel.hang_up()
            self._poll_for(self._relay.peers.fileno(), _IN)
            self._relay.hang_up()


def _eventfd(stack: contextlib.ExitStack) -> int:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    stack.callback(os.close, fd)
    return fd
