"""Events as log lines, through structlog and through the standard library."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from omnibase.core import events
from omnibase.core.events import Emitter, Event, EventBus
from omnibase.core.telemetry import LogSink
from omnibase.core.telemetry.levels import level_of
from omnibase.core.telemetry.logs import to_console, to_json
from tests.unit.test_telemetry_spans import ATTEMPT, DENIED, REFUSED, RETRIED, START, exit_of

HOSTILE = 'a\nSandboxExit outcome=ok\r\x1b[2J\u202e\u2028\x7f\x9b31m "x" 100%s {0} \\'
FORGED = events.SandboxViolation(
    operation="openat", resource=HOSTILE, process_name=HOSTILE, evidence="kernel"
)


def of(payload: events.Payload) -> Event:
    return Event(data=payload, source="x", runid="r", sequence=1)


@pytest.mark.parametrize(
    ("payload", "level"),
    [
        (START, "info"),
        (ATTEMPT, "warning"),
        (DENIED, "warning"),
        (REFUSED, "warning"),
        (RETRIED, "warning"),
        (exit_of("ok"), "info"),
        (exit_of("failed"), "info"),
        (exit_of("violation"), "warning"),
        (exit_of("timeout"), "warning"),
        (exit_of("aborted"), "error"),
        (events.MonitorGap(dropped=1, reason="x"), "error"),
        (events.CapabilityGranted(capability="x", enforcement="mount"), "debug"),
        (events.EgressFailed(target="x:1", capability="c", reason="r"), "warning"),
        (events.ArtifactRefused(artifact="x", reason="r"), "warning"),
        (events.ArtifactRead(artifact="x", version=1, digest="d", size_bytes=1), "info"),
        (
            events.SinkLag(sink="s", state="lagging", pending=1, oldest_seconds=1, reason="r"),
            "warning",
        ),
        (
            events.SinkLag(sink="s", state="caught-up", pending=0, oldest_seconds=0, reason="r"),
            "info",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_levels(payload: events.Payload, level: str) -> None:
    assert level_of(of(payload)) == level


def tell(sink: LogSink, *payloads: events.Payload, **options: Any) -> Emitter:
    bus = EventBus()
    bus.subscribe(sink)
    emitter = Emitter(bus, **options)
    for payload in payloads:
        emitter.emit(payload)
    assert bus.close() and bus.failures == ()
    return emitter


class TestStandardLibrary:
    @pytest.fixture
    def records(self) -> Iterator[list[logging.LogRecord]]:
        """What a handler of the application gets at level INFO."""
        kept: list[logging.LogRecord] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                kept.append(record)

        logger, handler = logging.getLogger("omnibase.run"), Keep()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        yield kept
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    def test_a_line_and_its_fields(self, records: list[logging.LogRecord]) -> None:
        granted = events.CapabilityGranted(capability="x", enforcement="mount")
        emitter = tell(LogSink(), granted, START, ATTEMPT, subject="x.py", componentid="c")
        start, attempt = records
        assert (start.name, start.levelno, attempt.levelno) == ("omnibase.run", 20, 30)
        message = attempt.getMessage()
        assert message.startswith("SandboxViolation timestamp=2")
        assert f" run_id={emitter.runid} sequence=3 subject=x.py component=c " in message
        fields = attempt.__dict__["omnibase"]
        assert fields["event"] == "SandboxViolation"
        assert fields["capability"] == "FILE_READ:/etc/x"
        assert fields["trace_id"] == emitter.traceparent.split("-")[1]
        assert fields["span_id"] == emitter.traceparent.split("-")[2]
        assert "errno" not in fields, "what is not known is left out"
        assert start.__dict__["omnibase"]["quotas"] == {"pids": 3}
        assert 'quotas="{\\"pids\\": 3}"' in start.getMessage()

    def test_hostile_text_stays_in_its_line(self, records: list[logging.LogRecord]) -> None:
        tell(LogSink(), FORGED, subject="x\ny")
        (record,) = records
        for text in (record.getMessage(), logging.Formatter("%(message)s").format(record)):
            assert text.isprintable() and "\n" not in text
        assert record.getMessage().count("outcome=ok") == 2  # inside of quotes, both
        assert record.__dict__["omnibase"]["resource"].startswith("a\\nSandboxExit")

    def test_a_logger_can_be_named(self) -> None:
        logger = logging.Logger("mine")
        stream = io.StringIO()
        logger.addHandler(logging.StreamHandler(stream))
        tell(LogSink(logger), START)
        assert stream.getvalue().startswith("SandboxStart ")

    def test_a_handler_that_raises_is_told_and_ends_nothing(self) -> None:
        logger = logging.Logger("mine")

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise OSError("disk full")

        logger.addHandler(Broken())
        sink, others, bus = LogSink(logger), events.CollectingSink(), EventBus()
        bus.subscribe(others)
        bus.subscribe(sink)
        Emitter(bus).emit(START)
        assert not sink.flush(5)
        (gap,) = others.payloads(events.MonitorGap)
        assert gap.reason == "LogSink: log lines were lost: OSError: disk full"
        bus.close()
        assert bus.failures == ()


class TestStructlog:
    def test_a_configured_one_is_used(self) -> None:
        with structlog.testing.capture_logs() as kept:
            structlog.configure(cache_logger_on_first_use=False)
            try:
                emitter = tell(LogSink(), ATTEMPT)
            finally:
                structlog.reset_defaults()
        (line,) = kept
        assert line["event"] == "SandboxViolation" and line["log_level"] == "warning"
        assert line["run_id"] == emitter.runid

    def test_json_is_one_object_on_each_line(self, capfd: pytest.CaptureFixture[str]) -> None:
        tell(to_json("info"), START, FORGED, exit_of())
        out, err = capfd.readouterr()
        assert out == ""
        lines = [json.loads(line) for line in err.splitlines()]
        assert [line["event"] for line in lines] == [
            "SandboxStart",
            "SandboxViolation",
            "SandboxExit",
        ]
        assert [line["level"] for line in lines] == ["info", "warning", "info"]
        assert err.isascii() and "\x1b" not in err and "\x7f" not in err

    def test_the_console_shows_one_line_for_each(self, capfd: pytest.CaptureFixture[str]) -> None:
        tell(to_console("warning"), START, FORGED, exit_of("violation"), subject="x\x1b]0;y\x07")
        err = capfd.readouterr().err
        assert len(err.splitlines()) == 2
        assert all(line.isprintable() for line in err.splitlines())
        assert "[warning  ] SandboxViolation" in err and "SandboxStart" not in err
