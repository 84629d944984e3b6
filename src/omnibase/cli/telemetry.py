"""Telemetry of a command, where the environment asks for it: OpenTelemetry and log lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from omnibase.cli import console
from omnibase.core.telemetry.environment import asked_for
from omnibase.core.telemetry.levels import LEVELS
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.core.events import EventBus
    from omnibase.core.telemetry.queued import QueuedSink

__all__ = ["subscribe"]

_FORMS: Final = ("json", "console", "off")
# Nobody waits longer for a collector, and a little more to end.
_EXPORT_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 1.0


def subscribe(bus: EventBus) -> Callable[[], None]:
    """Adds the sinks that the environment asks for.

    What is asked for and not installed is told, and does not keep the command from
    its work: such variables are often set for a whole machine.

    Returns:
        To be called once the bus is closed: it tells what was not delivered.

    Raises:
        ConfigurationError: A variable of ours is none of its words, or names no file.
    """
    sinks = [*_logs(os.environ), *_open_telemetry(os.environ)]
    for sink in sinks:
        bus.subscribe(sink)

    def tell() -> None:
        for sink in sinks:
            if sink.lost:
                _warn(f"{sink.lost} {sink.what} were not delivered: {sink.error}")

    return tell


def _logs(environ: Mapping[str, str]) -> Iterator[QueuedSink]:
    form = environ.get("OMNIBASE_LOG", "") or "off"
    level = environ.get("OMNIBASE_LOG_LEVEL", "") or "info"
    if form not in _FORMS:
        raise ConfigurationError(
            f"`OMNIBASE_LOG={form[:80]}` is no form of log lines",
            hint="choose json, console or off",
        )
    if level not in LEVELS:
        raise ConfigurationError(
            f"`OMNIBASE_LOG_LEVEL={level[:80]}` is no level",
            hint=f"choose {', '.join(LEVELS)}",
        )
    if form == "off":
        return
    try:
        from omnibase.core.telemetry import logs
    except ModuleNotFoundError as error:
        _note(f"`OMNIBASE_LOG={form}` needs a library that is not installed: {error}",
              "`pip install 'omnibase[logs]'`")  # fmt: skip
        return
    make = logs.to_json if form == "json" else logs.to_console
    yield make(level, _log_file(environ.get("OMNIBASE_LOG_FILE", "")))


def _log_file(path: str) -> int:
    """Opens the file for log lines; it stays open as long as the command."""
    if not path:
        return 2
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o600)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`OMNIBASE_LOG_FILE={path[:400]}` cannot be written: "
            f"{getattr(error, 'strerror', error)}",
            hint="name a file that is yours; lines are appended to it",
        ) from None


def _open_telemetry(environ: Mapping[str, str]) -> Iterator[QueuedSink]:
    if not asked_for(environ):
        return
    # What goes wrong is told once, at the end, and not by each library that noticed.
    quiet = logging.getLogger("opentelemetry")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    try:
        from omnibase.core import telemetry

        yield telemetry.OpenTelemetrySink(
            timeout_seconds=_EXPORT_SECONDS, close_seconds=_CLOSE_SECONDS
        )
    except ConfigurationError as error:
        _note(f"without OpenTelemetry: {error.message}", error.hint)


def _note(text: str, hint: str | None) -> None:
    _warn(text)
    if hint:
        console.note(f"{console.colour('bold', 'hint:')} {console.printable(hint, 1000)}")


def _warn(text: str) -> None:
    prefix = console.colour("yellow", "omnibase: warning:")
    console.note(f"{prefix} {console.printable(text, 1000)}")
