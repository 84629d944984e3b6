"""The audit log: events in a hash chain, and the tools that read it."""

from typing import Any

from omnibase.core.audit.places import attach, configured, reserved

__all__ = ["AuditLog", "attach", "configured", "reserved"]


def __getattr__(name: str) -> Any:
    # Late: a process that keeps no log need not load what writes one.
    if name == "AuditLog":
        from omnibase.core.audit.log import AuditLog

        return AuditLog
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
