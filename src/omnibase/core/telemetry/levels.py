"""How loud each event is, in a log. Pure."""

from __future__ import annotations

from typing import Final

from omnibase.core.events import (
    CapabilityDenied,
    CapabilityGranted,
    Event,
    MonitorGap,
    ResourceLimitExceeded,
    RunRefused,
    RunRetried,
    SandboxExit,
    SandboxViolation,
    SinkLag,
    UnsandboxedStart,
)

__all__ = ["LEVELS", "level_of"]

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""The standard library's numbers, by name."""

_WARNINGS: Final = (
    CapabilityDenied, ResourceLimitExceeded, RunRefused, RunRetried, SandboxViolation,
    UnsandboxedStart,
)  # fmt: skip


def level_of(event: Event) -> str:
    """Returns the level that an event is logged at."""
    match event.data:
        case MonitorGap():
            return "error"
        case SandboxExit(outcome=outcome):
            if outcome == "aborted":
                return "error"
            return "info" if outcome in ("ok", "failed") else "warning"
        case SinkLag(state=state):
            return "info" if state == "caught-up" else "warning"
        case CapabilityGranted():
            return "debug"
    refused = event.name.endswith(("Refused", "Failed"))
    return "warning" if refused or isinstance(event.data, _WARNINGS) else "info"
