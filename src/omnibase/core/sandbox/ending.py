"""How a run ended: from what was seen and counted to a result, a cause and a fault."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping

from omnibase.core.sandbox.cgroup import CgroupStats
from omnibase.core.sandbox.monitor.server import TraceServer
from omnibase.core.sandbox.result import LimitKind, NetworkLimit, RunResult, Unreached, Usage
from omnibase.core.sandbox.runner import Ended
from omnibase.core.sandbox.script_error import ScriptError
from omnibase.core.sandbox.streams import Output
from omnibase.errors import SandboxError, SandboxStartError

__all__ = ["conclude"]


def conclude(
    trace: TraceServer,
    output: Output,
    stats: CgroupStats,
    *,
    run_id: str,
    status: int,
    cause: str,
    fault: SandboxError | None,
    complaint: bytes | None,
    egress_fault: Callable[[], SandboxError | None],
    cpu_seconds_before: float,
    wall_seconds: float,
    scratch_bytes: int,
    unreached: Mapping[tuple[str, str], int],
    network_limits: Iterable[NetworkLimit],
    error: ScriptError | None,
    finished: float,
    warm: bool,
) -> Ended:
    """Returns how the run ended.

    Args:
        trace: What the Sentry told, to its end.
        output: What came out, finished.
        stats: The cgroup's accounts.
        run_id: The run's.
        status: Exit status of ``runsc``, negative for a signal.
        cause: What ended the run, ``exit`` if it ended by itself.
        fault: What is already known to have failed.
        complaint: What ``runsc`` said, if the script was never sent.
        egress_fault: Says what is wrong with the run's network.
        cpu_seconds_before: What the cgroup had used before the run began.
        wall_seconds: From its start.
        scratch_bytes: Highest use of ``/tmp``.
        unreached: How often what granted target was not reached, and why.
        network_limits: What limits network grants have reached.
        error: What the script ended with, as it told.
        finished: When it was over, by the monotonic clock.
        warm: The sandbox had been started before.
    """
    if stats.oom_kills and cause == "exit" and trace.agent_status is None:
        cause = "memory"
    if trace.agent_status is not None and cause == "exit":
        status = os.waitstatus_to_exitcode(trace.agent_status & 0xFFFF)
    killed = trace.script_status is not None and trace.script_status & 0x7F
    result = RunResult(
        run_id=run_id,
        exit_code=status if status >= 0 else 128 - status,
        signal=int(killed) if killed else (int(signal.SIGKILL) if cause != "exit" else None),
        stdout=output.kept("stdout"),
        stderr=output.kept("stderr"),
        violations=trace.ledger.violations(),
        unreached=tuple(
            Unreached(target=target, reason=reason, count=count)
            for (target, reason), count in unreached.items()
        ),
        network_limits=tuple(network_limits),
        error=error,
        warm=warm,
        usage=Usage(
            cpu_seconds=stats.cpu_seconds - cpu_seconds_before,
            peak_memory_bytes=stats.peak_memory_bytes,
            wall_seconds=wall_seconds,
            output_bytes=output.total,
            scratch_bytes=scratch_bytes,
        ),
        limits=_limits(trace, output, stats, cause),
        truncated=output.truncated,
        trace_dropped=trace.dropped + trace.ledger.overflow,
    )
    if fault is not None and complaint is not None:
        fault = SandboxStartError(fault.message, hint="run `omnibase doctor`")
    if fault is None and cause == "exit":
        fault = _diagnose(trace, result, complaint or b"") or egress_fault() or _failed(trace)
    if fault is not None and trace.started:
        fault.result = result  # what was seen until then is not lost
    return Ended(result=result, cause=cause, fault=fault, finished=finished)


def _limits(
    trace: TraceServer, output: Output, stats: CgroupStats, cause: str
) -> tuple[LimitKind, ...]:
    limits: list[LimitKind] = [k for k in ("time", "output", "cpu", "memory") if k == cause]
    if stats.oom_kills and "memory" not in limits:
        limits.append("memory")
    if trace.pids_refused or stats.pids_refused:
        limits.append("pids")
    if trace.disk_full:
        limits.append("disk")
    if output.truncated and "output" not in limits:
        limits.append("output")
    return tuple(limits)


def _diagnose(trace: TraceServer, result: RunResult, complaint: bytes) -> SandboxError | None:
    """Tells an end of the script from a failure of the sandbox."""
    if not trace.started:
        message = _printable(complaint.decode("utf-8", "replace").strip())
        return SandboxStartError(
            f"the sandbox did not start: {message or f'runsc exited {result.exit_code}'}",
            details={"exit_code": result.exit_code},
            hint="run `omnibase doctor`",
        )
    # PID 1 never dies of a signal by itself, nor goes without a word.
    died = trace.agent_status is not None and trace.agent_status & 0x7F
    if died or (trace.agent_status is None and not trace.dropped):
        return SandboxError(
            "the sandbox died before the script ended",
            details={"exit_code": result.exit_code},
            hint="something outside ended it, or the Sentry crashed",
        )
    return None


def _printable(text: str) -> str:
    """Escapes what could steer a terminal; each line after the first follows a bar."""
    lines = text.splitlines()
    return " | ".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
                      for line in lines)  # fmt: skip


def _failed(trace: TraceServer) -> SandboxError | None:
    """Tells a failure of the agent, whose own reasons come first, from an exit of the script."""
    if not trace.agent_failed:
        return None
    return SandboxError(
        "the sandbox's agent failed before the script had ended",
        hint="its reason is in the result's stderr",
    )
