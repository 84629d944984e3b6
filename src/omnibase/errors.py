"""The hierarchy of errors: each class names the party at fault.

Every error carries a stable ``code``, a ``message`` without a trailing full
stop, JSON-ready ``details``, and at most one ``hint`` that says what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.result import RunResult

__all__ = [
    "ArtifactError",
    "CapabilityDenied",
    "CapabilityError",
    "CircuitOpenError",
    "ConfigurationError",
    "ExternalCommandError",
    "OmniBaseError",
    "PackageError",
    "PolicyError",
    "RegistryError",
    "ResourceLimitExceeded",
    "SandboxError",
    "SandboxStartError",
    "SandboxTimeout",
    "SandboxUnavailable",
    "SandboxViolationError",
    "SecretAccessError",
    "SecurityError",
    "SessionClosed",
]


class OmniBaseError(Exception):
    """Base of every error that OmniBase raises on purpose.

    Attributes:
        code: Stable machine-readable name, e.g. ``"capability_denied"``.
        message: One sentence, lower case, the offending input in backticks.
        details: JSON-ready facts for logs and ``--json`` output.
        hint: What to type or change next, or ``None``.
    """

    code: ClassVar[str] = "omnibase_error"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.hint = hint

    def to_dict(self) -> dict[str, Any]:
        """Returns the error as JSON-ready data, without the traceback."""
        return {
            "code": self.code,
            "type": type(self).__name__,
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        }


class ConfigurationError(OmniBaseError):
    """The caller's file, flag or argument is wrong."""

    code = "configuration_error"


class RegistryError(OmniBaseError):
    """A component or its record in the registry is missing or invalid."""

    code = "registry_error"


class PackageError(OmniBaseError):
    """Packages for a run cannot be had, or are not what was locked; nothing was started.

    Attributes:
        reason: ``not_found``, ``no_wheel``, ``conflict``, ``source``, ``unreachable``,
            ``hash``, ``hostile``, ``tampered`` or ``failed``.
    """

    code = "package_error"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, details={"reason": reason, **(details or {})}, hint=hint)
        self.reason = reason


class ArtifactError(OmniBaseError):
    """An artifact is missing, malformed, or not what its digest says.

    Attributes:
        result: The finished run, if what it left could not be stored.
    """

    code = "artifact_error"
    result: RunResult | None = None


class SecurityError(OmniBaseError):
    """Something was asked for that is not allowed, or cannot be made safe."""

    code = "security_error"


class CapabilityError(SecurityError):
    """A capability is malformed, or this backend cannot enforce it."""

    code = "capability_error"


class PolicyError(SecurityError):
    """A policy is invalid, tampered with, or cannot be evaluated."""

    code = "policy_error"


class CapabilityDenied(SecurityError):
    """Before execution: a requested capability was refused."""

    code = "capability_denied"


class SecretAccessError(SecurityError):
    """A secret was asked for that is not granted or does not exist."""

    code = "secret_access_error"


class ExternalCommandError(SecurityError):
    """A command was asked for that is not granted or cannot be confined."""

    code = "external_command_error"


class SandboxError(OmniBaseError):
    """The sandbox or its host is at fault, not the code that ran in it.

    Attributes:
        result: What was collected until the fault, if the script had started.
    """

    code = "sandbox_error"

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
        result: RunResult | None = None,
    ) -> None:
        super().__init__(message, details=details, hint=hint)
        self.result = result


class SandboxUnavailable(SandboxError):
    """This machine cannot run a sandbox; the hint says how to mend that."""

    code = "sandbox_unavailable"


class SandboxStartError(SandboxError):
    """The sandbox did not come up; nothing of the script ran."""

    code = "sandbox_start_error"


class SandboxTimeout(SandboxError):
    """The wall-clock limit passed and the run was ended."""

    code = "sandbox_timeout"


class ResourceLimitExceeded(SandboxError):
    """A quota was reached.

    Attributes:
        kind: ``memory``, ``cpu``, ``pids``, ``output``, ``time`` or ``disk``.
    """

    code = "resource_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
        result: RunResult | None = None,
    ) -> None:
        super().__init__(
            message, details={"kind": kind, **(details or {})}, hint=hint, result=result
        )
        self.kind = kind


class CircuitOpenError(SandboxError):
    """The runtime failed repeatedly; starts are refused until it recovers."""

    code = "circuit_open"


class SessionClosed(SandboxError):
    """The session has ended: by its `close`, by a limit, by a violation, or by its own code."""

    code = "session_closed"


class SandboxViolationError(SecurityError):
    """At run time the code tried something beyond its grants.

    Attributes:
        violations: Every distinct attempt, in order of first occurrence.
    """

    code = "sandbox_violation"

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[Violation, ...] = (),
        result: RunResult | None = None,
        details: Mapping[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, details=details, hint=hint)
        self.violations = violations
        self._result = result

    @property
    def result(self) -> RunResult:
        """The finished run, its output included.

        Raises:
            AttributeError: The error is of somebody's own making, and has none.
        """
        if self._result is None:
            raise AttributeError("there is no result")
        return self._result
