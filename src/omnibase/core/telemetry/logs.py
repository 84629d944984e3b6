"""The log sink: each event as a structured log line, for operators."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Final

import structlog

from omnibase.core.events import Event
from omnibase.core.events.tracing import parse
from omnibase.core.printable import printable
from omnibase.core.telemetry.levels import LEVELS, level_of
from omnibase.core.telemetry.queued import QUEUE_EVENTS, QueuedSink

__all__ = ["LogSink", "to_console", "to_json"]

_MAX_TEXT: Final = 1024
_LOGGER: Final = "omnibase.run"


class LogSink(QueuedSink):
    """Logs each event at a fitting level, with run, component and trace as its context.

    Every text is escaped before it is handed on: whatever renders it, hostile code
    can neither begin a line of its own nor act on a terminal.

    Args:
        logger: A structlog logger, or one of the standard library's. By default
            structlog's ``omnibase.run`` if the application has configured structlog,
            else the standard library's of this name, where a handler finds the same
            as a mapping in the record's attribute ``omnibase``.
        queue_events: Events that may wait.
        close_seconds: Longest time that `close` waits for handlers.
    """

    def __init__(
        self, logger: Any = None, *, queue_events: int = QUEUE_EVENTS, close_seconds: float = 5.0
    ) -> None:
        if logger is None:
            configured = structlog.is_configured()
            logger = structlog.get_logger(_LOGGER) if configured else logging.getLogger(_LOGGER)
        self._logger = _of_logging(logger) if isinstance(logger, logging.Logger) else logger
        super().__init__("log lines", queue_events=queue_events, close_seconds=close_seconds)

    def _take(self, event: Event) -> None:
        logger = self._logger.bind(**_context(event))
        getattr(logger, level_of(event))(event.name, **_fields(event))


def to_json(level: str, fd: int = 2) -> LogSink:
    """Returns a sink that writes each line as a JSON object.

    Args:
        level: Of the lowest that is written.
        fd: A descriptor that stays open; standard error by default.
    """
    return LogSink(_printing(structlog.processors.JSONRenderer(), level, fd))


def to_console(level: str, fd: int = 2) -> LogSink:
    """Returns a sink that writes lines for people; see `to_json`."""
    renderer = structlog.dev.ConsoleRenderer(colors=os.isatty(fd), pad_event_to=24, sort_keys=False)
    return LogSink(_printing(renderer, level, fd))


def _printing(renderer: Any, level: str, fd: int) -> Any:
    return structlog.wrap_logger(
        _Lines(fd),
        processors=[structlog.processors.add_log_level, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes each line at once, so that those of several processes do not mix."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def msg(self, line: str) -> None:
        data = memoryview(line.encode("utf-8", "backslashreplace") + b"\n")
        while data:  # a second round only after a short write
            data = data[os.write(self._fd, data) :]

    debug = info = warning = error = msg


def _of_logging(logger: logging.Logger) -> Any:
    return structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, _as_record],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _as_record(_logger: Any, _method: str, fields: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Renders a line for handlers that know text alone, with the fields beside it."""
    kept = dict(fields)
    name = str(kept.pop("event"))
    line = " ".join([name, *(f"{key}={_quoted(value)}" for key, value in kept.items())])
    # As an argument: a `%` in it is text.
    return ("%s", line), {"extra": {"omnibase": {"event": name, **kept}}}


def _quoted(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(' "=') or not text else text


def _context(event: Event) -> dict[str, Any]:
    span = parse(event.traceparent)
    found = {
        "timestamp": event.time,
        "run_id": event.runid,
        "sequence": event.sequence,
        "subject": event.subject,
        "component": event.componentid,
        "policy": event.policydigest,
        "trace_id": span and span.traceid,
        "span_id": span and span.spanid,
    }
    return {name: _shown(value) for name, value in found.items() if value is not None}


def _fields(event: Event) -> dict[str, Any]:
    """Returns what a payload says, without what it leaves open."""
    fields = event.data.to_dict().items()
    return {name: _shown(value) for name, value in fields if value not in (None, "", [], {})}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value, _MAX_TEXT)
    if isinstance(value, Mapping):
        return {printable(str(key), _MAX_TEXT): _shown(each) for key, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else value
