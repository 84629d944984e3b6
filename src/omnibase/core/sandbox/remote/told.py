"""What a run tells its observer and how it ends, as data: one table for both ends. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from omnibase import errors
from omnibase.core.sandbox.remote.codec import WireError, named, pack, unpack
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Ended
from omnibase.errors import OmniBaseError, ResourceLimitExceeded, SandboxError

__all__ = [
    "ANSWERED",
    "TOLD",
    "arguments_of",
    "pack_ended",
    "pack_error",
    "unpack_ended",
    "unpack_error",
]

TOLD: Final[dict[str, tuple[str, ...]]] = {
    "on_retry": ("int", "str", "float"),
    "on_staging": ("Path",),
    "on_started": ("str", "float | None", "bool"),
    "on_staged": ("sandbox.databases.copying:DatabaseCopied",),
    "on_output": ("str", "bytes"),
    "on_violation": ("sandbox.monitor.attempts:Violation",),
    "on_secret_read": ("sandbox.monitor.reads:SecretReading",),
    "on_command": ("sandbox.monitor.executions:CommandStart",),
    "on_egress/Opened": ("sandbox.egress.reports:Opened",),
    "on_egress/Closed": ("sandbox.egress.reports:Closed",),
    "on_egress/Failed": ("sandbox.egress.reports:Failed",),
    "on_collected": (
        "*sandbox.collect.reports:Collected", "*sandbox.collect.reports:Left",
    ),
    "covers": ("str", "str"),
}  # fmt: skip
"""Each call of an observer, and the types of its arguments, imported once it is told."""

ANSWERED: Final = frozenset({"on_staging", "on_started", "on_collected", "covers"})
"""Those that the run waits for: what they do has to be done before it goes on."""

_CLASSES: Final[dict[str, type[OmniBaseError]]] = {
    name: getattr(errors, name) for name in errors.__all__
}
_CAUSES: Final = frozenset({"exit", "time", "output", "cpu", "memory", "violation", "cancelled"})


_PLAIN: Final[dict[str, Any]] = {
    "bool": bool, "bytes": bytes, "float": float, "float | None": float | None, "int": int,
    "Path": Path, "str": str,
}  # fmt: skip


def arguments_of(name: object, data: object, blob: bytes) -> list[Any]:
    """Returns the arguments of a call.

    Raises:
        WireError: There is no such call, or it has others.
    """
    kinds = TOLD.get(name) if isinstance(name, str) else None
    if kinds is None or not isinstance(data, list) or len(data) != len(kinds):
        raise WireError("an unknown message")
    return [unpack(_kind(kind), one, blob) for kind, one in zip(kinds, data, strict=True)]


def _kind(text: str) -> Any:
    if text.startswith("*"):
        return tuple[_kind(text[1:]), ...]  # type: ignore[misc]
    return _PLAIN[text] if text in _PLAIN else named(text)


def pack_error(
    error: OmniBaseError, blob: bytearray, *, with_result: bool = True
) -> dict[str, Any]:
    """Returns an error as data, with what was collected until then."""
    result = getattr(error, "result", None) if with_result else None
    return {
        "class": type(error).__name__,
        "message": error.message,
        "details": pack(error.details, blob),
        "hint": error.hint,
        "result": None if result is None else pack(result, blob),
    }


def unpack_error(data: Any, blob: bytes) -> OmniBaseError:
    """Returns the error that was packed.

    Raises:
        WireError: It is none.
    """
    if not isinstance(data, dict) or data.keys() != _ERROR_KEYS:
        raise WireError("no error")
    kind = _CLASSES.get(unpack(str, data["class"]), SandboxError)
    details, message = data["details"], unpack(str, data["message"])
    if not isinstance(details, dict):
        raise WireError("an error without details")
    more: dict[str, Any] = {"details": details, "hint": unpack(str | None, data["hint"])}
    if issubclass(kind, ResourceLimitExceeded):
        more["kind"] = str(details.get("kind"))
    elif kind is errors.PackageError:
        more["reason"] = str(details.get("reason"))
    error = kind(message, **more)
    if data["result"] is not None and isinstance(error, SandboxError):
        error.result = unpack(RunResult, data["result"], blob)
    return error


_ERROR_KEYS: Final = frozenset({"class", "message", "details", "hint", "result"})


_ENDED_KEYS: Final = frozenset({"result", "cause", "fault", "began", "finished"})


def pack_ended(ended: Ended, blob: bytearray) -> dict[str, Any]:
    """Returns how a run ended as data; the monotonic clock is the machine's."""
    fault = None if ended.fault is None else pack_error(ended.fault, blob, with_result=False)
    return {
        "result": pack(ended.result, blob),
        "cause": ended.cause,
        "fault": fault,
        # A fault that has a result has the run's.
        "began": ended.fault is not None and ended.fault.result is not None,
        "finished": ended.finished,
    }


def unpack_ended(data: Any, blob: bytes) -> Ended:
    """Returns how the run ended.

    Raises:
        WireError: It is no such data.
    """
    if not isinstance(data, dict) or data.keys() != _ENDED_KEYS:
        raise WireError("no end of a run")
    fault = None if data["fault"] is None else unpack_error(data["fault"], blob)
    if data["cause"] not in _CAUSES or not isinstance(fault, SandboxError | None):
        raise WireError("no end of a run")
    result: RunResult = unpack(RunResult, data["result"], blob)
    if unpack(bool, data["began"]) and fault is not None:
        fault.result = result
    finished = unpack(float | None, data["finished"])
    return Ended(result=result, cause=data["cause"], fault=fault, finished=finished)
