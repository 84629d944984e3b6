"""What a run's end is to its caller: a plain result, or the error that it raises. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnibase.errors import (
    OmniBaseError,
    ResourceLimitExceeded,
    SandboxError,
    SandboxTimeout,
    SandboxViolationError,
)

if TYPE_CHECKING:
    from omnibase.core.context import ExecutionContext
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.result import LimitKind
    from omnibase.core.sandbox.runner import Ended, RunRequest

__all__ = ["UNITS", "spec_limits", "verdict"]

UNITS = {
    "memory": "bytes", "cpu": "seconds", "pids": "processes", "output": "bytes",
    "time": "seconds", "disk": "bytes",
}  # fmt: skip
_LIMIT_HINTS = {
    "cpu": "raise `cpu_seconds`",
    "pids": "raise `pids`",
    "output": "raise `output_bytes`, or choose `on_output_limit='truncate'`",
    "time": "raise `wall_seconds` (`--timeout`)",
    "disk": "raise `scratch_bytes`",
}


def spec_limits(request: RunRequest) -> dict[LimitKind, float]:
    """The figure of each quota."""
    spec = request.spec
    return {
        "memory": spec.memory_bytes,
        "cpu": spec.cpu_seconds or 0.0,
        "pids": spec.pids,
        "output": spec.output_bytes,
        "time": spec.wall_seconds,
        "disk": spec.scratch_bytes,
    }


def verdict(
    ended: Ended, context: ExecutionContext, limits: dict[LimitKind, float]
) -> OmniBaseError | None:
    """Returns the error that a run ends with, or ``None`` for a plain result. Pure.

    A fault of the sandbox comes first, then violations (their error carries the
    result, limits included), then limits. Processes and disk that ran out are
    errors to the script first: they are ours only if it failed.
    """
    result, cause = ended.result, ended.cause
    if ended.fault is not None:
        return ended.fault
    if cause == "cancelled":
        return SandboxError("the run was cancelled", result=result)
    if result.violations and context.on_violation != "record":
        return _violation_error(ended)
    if cause == "time":
        return SandboxTimeout(
            f"the run took longer than {limits['time']:g} s",
            details={"wall_seconds": limits["time"]},
            hint=_LIMIT_HINTS["time"],
            result=result,
        )
    for kind in result.limits:
        soft = kind in ("pids", "disk") or (kind == "memory" and cause == "exit")
        if soft and result.exit_code == 0:
            continue
        if kind == "output" and context.on_output_limit == "truncate":
            continue
        return ResourceLimitExceeded(
            f"the run reached its {kind} limit of {_figure(limits[kind])} {UNITS[kind]}",
            kind=kind,
            details={"limit": limits[kind], "unit": UNITS[kind]},
            hint=_limit_hint(kind, limits[kind]),
            result=result,
        )
    return None


def _violation_error(ended: Ended) -> SandboxViolationError:
    violations = ended.result.violations
    # What a policy covers is not to be granted around it.
    named = list(dict.fromkeys(v.capability for v in violations if v.capability and not v.reason))
    shown = [_shown(violation) for violation in violations[:3]]
    more = f" and {len(violations) - 3} more" if len(violations) > 3 else ""
    return SandboxViolationError(
        f"the script tried what it was not granted: {', '.join(shown)}{more}",
        violations=violations,
        result=ended.result,
        details={"violations": [violation.to_dict() for violation in violations]},
        hint=_grant_hint(named),
    )


def _shown(violation: Violation) -> str:
    what = violation.capability or f"{violation.operation} ({violation.resource})"
    why = f" ({_short(violation.reason)})" if violation.reason else ""
    return f"`{_short(what)}`{why}"


def _grant_hint(named: list[str]) -> str | None:
    """Suggests a grant only where it would open one thing: the script chose the names."""
    for capability in named:
        if not set("*?\n") & set(capability) and capability.isprintable():
            return f"if it should be allowed, grant `{_short(capability)}`"
    return None


def _limit_hint(kind: LimitKind, limit: float) -> str:
    if kind != "memory":
        return _LIMIT_HINTS[kind]
    more = int(limit) // (1 << 20) * 2 or 1
    return f"grant more, e.g. `MEMORY:{more}MiB`, below a ceiling (`memory_bytes`) that allows it"


def _figure(value: float) -> str:
    return f"{int(value)}" if value == int(value) else f"{value:g}"


def _short(text: str) -> str:
    """Cuts, and escapes what could forge a line or steer a terminal: the script chose it."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:200])
    return shown if len(text) <= 200 else f"{shown}…"
