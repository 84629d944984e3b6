"""Sinks for operators: OpenTelemetry and structured logs. They are no record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnibase.core.telemetry.logs import LogSink
    from omnibase.core.telemetry.sink import OpenTelemetrySink

__all__ = ["LogSink", "OpenTelemetrySink"]


def __getattr__(name: str) -> Any:
    """Loads a sink, and its library, when it is named.

    Raises:
        ConfigurationError: The library is not installed.
    """
    import importlib

    from omnibase.errors import ConfigurationError

    modules = {"OpenTelemetrySink": ("sink", "otel"), "LogSink": ("logs", "logs")}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = modules[name]
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("omnibase"):
            raise
        raise ConfigurationError(
            f"`{name}` needs a library that is not installed: {error}",
            hint=f"`pip install 'omnibase[{extra}]'`",
        ) from None
