"""Rest for a warm sandbox that nobody wants yet: its Sentry is stopped, and costs no CPU.

gVisor's systrap wakes up some thousand times a second to measure its own delays, whether
the guest does something or not: 2.5 % of a CPU for each sandbox, which adds up in a large
pool. A Sentry that is stopped is killed like any other, and goes on within a millisecond.

The guest's processes are not stopped. One that waits for the Sentry's answer at that
moment does so busily, for as long as it takes: so it has to be quiet first, and what its
rest costs is looked at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

from omnibase.core.sandbox.cgroup import Cgroup

__all__ = ["Rest"]

_QUIET_SECONDS: Final = 0.3
"""So long nothing has to happen before it is stopped."""

_TRIAL_SECONDS: Final = 0.25
_SENTRY: Final = b"runsc-sandbox\0"  # gVisor's own name for it, `ps` shows it


class Rest:
    """Stops a sandbox's Sentry, and has it go on.

    Args:
        cgroup: The sandbox's. Until it rests for the first time, nothing but gVisor and
            its agent must have run there.

    Attributes:
        resting: Whether it is stopped.
    """

    def __init__(self, cgroup: Cgroup) -> None:
        self.resting = False
        self._cgroup = cgroup
        self._sentry: int | None = None
        self._quiet_since = time.monotonic()
        self._used: float | None = None

    def consider(self, wanted: bool) -> None:
        """Stops it if that is wanted and it has been quiet, else has it go on."""
        now = time.monotonic()
        if not wanted:
            self.wake()
        elif not self.resting:
            if now - self._quiet_since >= _QUIET_SECONDS:
                self._used = self._cgroup.cpu_seconds()
                self._stop()
                self._quiet_since = now
        elif self._used is not None and now - self._quiet_since >= _TRIAL_SECONDS:
            if self._cgroup.cpu_seconds() - self._used > _TRIAL_SECONDS / 10:
                self.wake()
            self._used = None

    def wake(self) -> None:
        """Has it go on: there is something to do. It may rest again later."""
        self._quiet_since = time.monotonic()
        if self.resting and self._sentry is not None:
            self.resting = False
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._sentry, signal.SIGCONT)

    def _stop(self) -> None:
        if self._sentry is None:
            self._sentry = _find(self._cgroup)
        if self._sentry >= 0:
            self.resting = True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._sentry, signal.SIGSTOP)

    def close(self) -> None:
        """Frees the descriptor."""
        if self._sentry is not None and self._sentry >= 0:
            os.close(self._sentry)
        self._sentry = -1


def _find(cgroup: Cgroup) -> int:
    """Returns a descriptor of the Sentry's process, or -1."""
    for pid in cgroup.processes():
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            fd = os.pidfd_open(pid)  # before the name is read: the number cannot be another's
            stack.callback(os.close, fd)
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read(len(_SENTRY)) == _SENTRY:
                    stack.pop_all()
                    return fd
    return -1
