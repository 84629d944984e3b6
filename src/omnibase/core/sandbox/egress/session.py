"""The network of one run, as the run's own thread meets it: a broker, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.egress.broker import Broker
from omnibase.core.sandbox.egress.channel import Ends
from omnibase.core.sandbox.egress.reports import Assigned, Closed, Denied, Failed, Opened, Report
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.result import NetworkLimit
from omnibase.core.sandbox.spec import SandboxSpec
from omnibase.errors import SandboxError, SandboxStartError

__all__ = ["Session"]

_MAX_UNREACHED: Final = 100


class Session:
    """A broker that works for one run.

    Args:
        spec: The run's.
        tell: Told of granted connections.
        scrub: Takes secrets out of text.
        ends: Of the channel, if the guest has its own already.

    Attributes:
        unreached: ``(target, reason) → how often`` of granted connections not made.
        limits: Those that grants have reached, in order, each once.

    Raises:
        SandboxStartError: There are no descriptors or threads left for it.
    """

    def __init__(
        self,
        spec: SandboxSpec,
        tell: Callable[[Opened | Closed | Failed], None],
        scrub: Callable[[str], str],
        ends: Ends | None = None,
    ) -> None:
        self._tell = tell
        self._scrub = scrub
        self.unreached: dict[tuple[str, str], int] = {}
        self.limits: dict[NetworkLimit, None] = {}
        try:
            self._broker = Broker(spec.egress, spec.egress_limits, ends=ends)
        except OSError as error:
            raise SandboxStartError(
                f"the run has no descriptors: {error.strerror}", hint="`ulimit -n 1024`"
            ) from error
        try:
            self._broker.start()
        except RuntimeError as error:
            self._broker.close()
            raise SandboxStartError(
                f"the run got no thread: {error}", hint="lower the number of runs at once"
            ) from error

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._broker.fileno()

    @property
    def guest_fd(self) -> int:
        """The guest's end of the channel."""
        return self._broker.guest_fd

    def release_guest(self) -> None:
        """Closes the guest's end, which it has now."""
        self._broker.release_guest()

    def serve(self, trace: TraceServer, catch_up: Callable[[], None]) -> SandboxError | None:
        """Takes what the broker tells; returns what is wrong with it, if anything is.

        Args:
            trace: Of the run.
            catch_up: Takes what the trace has told until now: it may tell the port of
                a look-up.
        """
        reports = self._broker.take()
        if any(isinstance(report, Denied) for report in reports):
            catch_up()
        self._report(reports, trace)
        return self.fault() if self._broker.error is not None else None

    def finish(self, trace: TraceServer) -> None:
        """Takes what is left, once the sandbox is gone."""
        self._report(self._broker.finish(), trace)

    def fault(self) -> SandboxError | None:
        """Returns what was wrong with the run's network, if anything was."""
        if self._broker.broken:
            return SandboxError(
                f"the broker of the run's network failed: {self._broker.error}",
                hint="run it again; if it fails again, this is a defect: report it",
            )
        if self._broker.error is not None:
            return SandboxError(
                f"the network channel of the sandbox is malformed: {self._broker.error}",
                hint="the guest may be compromised; the run was ended",
            )
        if not self._broker.ready:
            return SandboxError(
                "the guest's network was not set up", hint="its reason is in the result's stderr"
            )
        return None

    def close(self) -> None:
        """Ends the broker."""
        self._broker.close()

    def _report(self, reports: list[Report], trace: TraceServer) -> None:
        for report in reports:
            if isinstance(report, Denied):
                trace.denied(report)
            elif isinstance(report, Assigned):
                trace.assign(report)
            else:
                # A name that a wildcard covers is the script's choice.
                target = self._scrub(report.target)
                if isinstance(report, Failed):
                    key = target, report.reason
                    if key in self.unreached or len(self.unreached) < _MAX_UNREACHED:
                        self.unreached[key] = self.unreached.get(key, 0) + 1
                if not isinstance(report, Opened) and report.limit is not None:
                    reached = NetworkLimit(capability=report.capability, limit=report.limit)
                    self.limits[reached] = None
                self._tell(replace(report, target=target))
