"""The audit log: events in a hash chain, and the tools that read it."""

from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.places import configured, reserved

__all__ = ["AuditLog", "configured", "reserved"]
