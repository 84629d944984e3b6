"""Exit codes: the one table that the commands, ``--help`` and the documentation share."""

from __future__ import annotations

from typing import Final

from omnibase.errors import (
    ArtifactError,
    CapabilityDenied,
    CapabilityError,
    ConfigurationError,
    ExternalCommandError,
    OmniBaseError,
    PackageError,
    PolicyError,
    RegistryError,
    ResourceLimitExceeded,
    SandboxTimeout,
    SandboxViolationError,
    SecretAccessError,
)

__all__ = ["TABLE", "epilog", "for_error"]

OK: Final = 0
UNFIT: Final = 1
USAGE: Final = 2
DENIED: Final = 120
VIOLATION: Final = 121
LIMIT: Final = 122
TIMEOUT: Final = 124
FAILED: Final = 125
SIGNALLED: Final = 128
CLOSED: Final = 141

TABLE: Final[tuple[tuple[str, str], ...]] = (
    ("0–255", "the script's own code, when it ended by itself (`128 + n`: signal `n` ended it)"),
    ("0", "every other command: it did what was asked"),
    (
        "1",
        "`doctor`: no sandbox can run on this machine; `selftest`: something does not hold; "
        "`policy lint`, `policy test`, "
        "`policy diff`, `registry verify`, `artifacts verify`, "
        "`audit verify`: something was found; `audit outbox --deliver`: events are left",
    ),
    ("2", "usage, or a bad script, file, policy file, flag or capability; nothing was started"),
    (
        "120",
        "before the start: a capability was denied, a secret, a command or an artifact is missing, "
        "or a record or policy of the registry was tampered with or is not accepted",
    ),
    ("121", "violation: the script tried what it was not granted"),
    ("122", "a resource limit was reached: memory, CPU time, processes, output, disk"),
    ("124", "timeout: the run took longer than `--timeout`"),
    ("125", "the sandbox, its set-up or the registry failed; not the script's fault"),
    ("129", "ended by SIGHUP, after cleaning up"),
    ("130", "ended by Ctrl-C, after cleaning up"),
    ("141", "the reader of standard output went away"),
    ("143", "ended by SIGTERM, after cleaning up"),
)
"""``(code, meaning)``. A script may itself end with one of ours: ``--json`` tells them apart."""

_CODES: Final[tuple[tuple[type[OmniBaseError], int], ...]] = (
    (SandboxViolationError, VIOLATION),
    (SandboxTimeout, TIMEOUT),
    (ResourceLimitExceeded, LIMIT),
    (CapabilityDenied, DENIED),
    (PolicyError, DENIED),
    (SecretAccessError, DENIED),
    (ExternalCommandError, DENIED),
    (CapabilityError, USAGE),
    (ConfigurationError, USAGE),
    (RegistryError, USAGE),
    (PackageError, USAGE),
    (ArtifactError, USAGE),
)


_REASONS: Final = {
    "tampered": DENIED, "invalid": USAGE, "busy": FAILED, "unavailable": FAILED,
    "hash": DENIED, "hostile": DENIED, "source": DENIED, "unreachable": FAILED, "failed": FAILED,
}  # fmt: skip


def for_error(error: OmniBaseError) -> int:
    """Returns the exit code of a command that ends with this error."""
    if isinstance(error, ArtifactError) and "capability" in error.details:
        return DENIED
    if isinstance(error, ArtifactError | RegistryError | PolicyError | PackageError):
        reason = error.details.get("reason")
        if reason in _REASONS:
            return _REASONS[reason]
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def epilog() -> str:
    """Returns the table as ``--help`` shows it."""
    rows = (f"  {code:<6} {meaning}" for code, meaning in TABLE)
    return "exit codes:\n" + "\n".join(rows)
