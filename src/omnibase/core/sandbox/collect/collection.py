"""What a run does about its outlets: takes files while they come, hands them on at the end."""

from __future__ import annotations

from pathlib import Path

from omnibase.core.sandbox.collect.receiver import Receiver
from omnibase.core.sandbox.collect.reports import uncollected
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.runner import Observer, RunRequest
from omnibase.core.sandbox.state import storage_hint
from omnibase.core.secrets import Scrubber
from omnibase.errors import SandboxError

__all__ = ["Collection"]


class Collection:
    """The files that one run leaves.

    Args:
        request: The run.
        directory: Where they go; made.
        scrubber: Knows the run's secrets.
        fd: The pipe, if the guest has its end already; closed with this.

    Attributes:
        fault: What went wrong, once something did.
    """

    def __init__(
        self, request: RunRequest, directory: Path, scrubber: Scrubber, fd: int | None = None
    ) -> None:
        self._outlets = request.spec.outlets
        self._receiver = Receiver(self._outlets, directory, request.covers, scrubber, fd)
        self.fault: SandboxError | None = None

    @property
    def guest_fd(self) -> int:
        """The guest's end of the pipe."""
        return self._receiver.guest_fd

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._receiver.fileno()

    def release_guest(self) -> None:
        """Closes the guest's end, which it has now."""
        self._receiver.release_guest()

    def close(self) -> None:
        """Frees the descriptors."""
        self._receiver.close()

    def on_readable(self) -> bool:
        """Takes what has come; returns whether more may come.

        What is wrong with it shows at the end, but for a host that has no room.
        """
        try:
            return self._receiver.on_readable()
        except OSError as error:
            self.fault = _unkept(error)
            return False

    def finish(self, trace: TraceServer, observer: Observer) -> None:
        """Hands on what the script has left, if it came to its own end.

        Args:
            trace: To its end; it is told of files that no grant covers.
            observer: Told of the rest.
        """
        killed = trace.script_status is not None and trace.script_status & 0x7F
        # Without word from PID 1 the sandbox died: that is what there is to say.
        if killed or trace.agent_status is None or self.fault is not None:
            return
        receiver = self._receiver
        try:
            receiver.drain()
        except OSError as error:
            self.fault = _unkept(error)
            return
        if receiver.error is not None:
            self.fault = SandboxError(
                f"the channel of what the script left is malformed: {receiver.error}",
                hint="the guest may be compromised; nothing of it was kept",
            )
            return
        for left in receiver.left:
            if left.denied:
                trace.attempted(uncollected(left, self._outlets), "agent")
        observer.on_collected(tuple(receiver.collected), tuple(receiver.left))


def _unkept(error: OSError) -> SandboxError:
    return SandboxError(
        f"what the script left cannot be kept: {error.strerror}", hint=storage_hint(error)
    )
