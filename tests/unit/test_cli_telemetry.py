"""What the command line does with the environment's wishes for telemetry."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.cli.telemetry import subscribe
from omnibase.core.events import Emitter, EventBus
from omnibase.errors import ConfigurationError
from tests.helpers.otlp import Receiver
from tests.unit.test_telemetry_spans import ATTEMPT, START, exit_of


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of whoever runs the tests counts, and no logger stays changed."""
    for name in tuple(os.environ):
        if name.startswith(("OTEL_", "OMNIBASE_LOG")):
            monkeypatch.delenv(name)
    yield
    logger = logging.getLogger("opentelemetry")
    logger.propagate = True
    logger.handlers.clear()


@pytest.mark.parametrize(
    ("variables", "sinks", "texts"),
    [
        ({}, [], []),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"}, [],
            ["warning: without OpenTelemetry: no exporter", "hint: install the package"],
        ),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, [], []),
        ({"OTEL_TRACES_EXPORTER": "none"}, [], []),
        ({"OMNIBASE_LOG": "off"}, [], []),
        ({"OMNIBASE_LOG": ""}, [], []),
        (
            {"OMNIBASE_LOG": "json", "OTEL_TRACES_EXPORTER": "console"},
            ["LogSink", "OpenTelemetrySink"], [],
        ),
        ({"OMNIBASE_LOG": "console", "OMNIBASE_LOG_LEVEL": "error"}, ["LogSink"], []),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_subscribed(
    variables: dict[str, str],
    sinks: list[str],
    texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bus = EventBus()
    tell = subscribe(bus)
    assert [each.name for each in bus._subscriptions] == sinks
    assert bus.close()
    tell()
    said = capfd.readouterr().err
    assert all(text in said for text in texts) and bool(said) is bool(texts)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"OMNIBASE_LOG": "xml"}, "`OMNIBASE_LOG=xml` is no form of log lines"),
        ({"OMNIBASE_LOG": "json", "OMNIBASE_LOG_LEVEL": "loud"}, "`OMNIBASE_LOG_LEVEL=loud`"),
        ({"OMNIBASE_LOG": "json", "OMNIBASE_LOG_FILE": "/absent/x"}, "No such file"),
        ({"OMNIBASE_LOG": "json", "OMNIBASE_LOG_FILE": "/dev"}, "Is a directory"),
    ],
)
def test_words_of_ours_are_checked(
    variables: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=text) as caught:
        subscribe(EventBus())
    assert caught.value.hint


def test_log_lines_go_to_a_file_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("OMNIBASE_LOG", "json")
    monkeypatch.setenv("OMNIBASE_LOG_FILE", str(link))
    with pytest.raises(ConfigurationError, match="symbolic links"):
        subscribe(EventBus())
    monkeypatch.setenv("OMNIBASE_LOG_FILE", str(tmp_path / "log"))
    bus = EventBus()
    subscribe(bus)
    for payload in (START, ATTEMPT):
        Emitter(bus).emit(payload)
    bus.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert capfd.readouterr().err == ""


def test_what_was_not_delivered_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Receiver() as receiver:
        receiver.status = 400
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        bus = EventBus()
        tell = subscribe(bus)
        emitter = Emitter(bus)
        for payload in (START, exit_of()):
            emitter.emit(payload)
        assert bus.close(), "telemetry is no record"
        tell()
    said = capfd.readouterr().err
    assert said.startswith("omnibase: warning: 4 spans were not delivered: the exporter")


def test_what_is_not_asked_for_is_not_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, types\n"
        "from omnibase.cli import engine\n"
        "import omnibase.api, omnibase.components, omnibase.core.events\n"
        "asked = types.SimpleNamespace(events=sys.argv[1], audit='off')\n"
        "with engine.events_to(asked) as bus: omnibase.core.events.Emitter(bus)\n"
        "heavy = {'opentelemetry', 'structlog', 'pyarrow', 'omnibase.core.telemetry'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "events")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
