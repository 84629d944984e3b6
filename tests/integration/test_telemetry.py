"""Traces, metrics and log lines of real runs, from the API and the command line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase.core.events import Event, MonitorGap
from omnibase.core.telemetry import OpenTelemetrySink
from tests.helpers.cli import NO_RUNTIME
from tests.helpers.cli import omnibase as command
from tests.helpers.components import OneComponent
from tests.helpers.otlp import Receiver, plain, tree

BRIEF = omnibase.ExecutionContext(wall_seconds=1)
PARTS = ["omnibase.boot", "omnibase.execution", "omnibase.teardown"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests counts."""
    for name in tuple(os.environ):
        if name.startswith(("OTEL_", "OMNIBASE_LOG", "TRACEPARENT")):
            monkeypatch.delenv(name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text("print('done')\n")
    return path


def seconds(span: Any) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


class TestTrees:
    @pytest.fixture
    def bus(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[omnibase.EventBus]:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        bus = omnibase.EventBus()
        bus.subscribe(OpenTelemetrySink())
        yield bus
        bus.close()
        assert bus.failures == ()

    def spans(self, bus: omnibase.EventBus, receiver: Receiver) -> dict[str, Any]:
        assert bus.flush(10)
        spans = {span.name: span for span in receiver.spans}
        assert len(spans) == len(receiver.spans)
        assert len({span.trace_id for span in receiver.spans}) == 1
        run = spans["omnibase.run"]
        for span in receiver.spans:
            assert span is run or span.parent_span_id == run.span_id
            assert run.start_time_unix_nano <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano <= run.end_time_unix_nano
        return spans

    def test_plain(self, bus: omnibase.EventBus, receiver: Receiver) -> None:
        result = omnibase.run(b"import time; time.sleep(0.2)", bus=bus)
        spans = self.spans(bus, receiver)
        assert [name for name, _ in tree(receiver.spans)] == ["omnibase.run", *PARTS]
        assert seconds(spans["omnibase.execution"]) >= 0.2
        assert seconds(spans["omnibase.boot"]) > 0.01
        assert sum(seconds(spans[name]) for name in PARTS) <= seconds(spans["omnibase.run"]) + 1e-4
        attributes = plain(spans["omnibase.run"].attributes)
        assert attributes["omnibase.run.id"] == result.run_id
        assert attributes["omnibase.outcome"] == "ok" and attributes["process.exit.code"] == 0

    def test_violating(self, bus: omnibase.EventBus, receiver: Receiver) -> None:
        with pytest.raises(omnibase.SandboxViolationError):
            omnibase.run(b"open('/etc/shadow\\x1b[2J')", bus=bus)
        spans = self.spans(bus, receiver)
        names = [event.name for event in spans["omnibase.execution"].events]
        assert names == ["omnibase.SandboxViolation"]
        (event,) = spans["omnibase.execution"].events
        assert plain(event.attributes)["omnibase.resource"] == "/etc/shadow\\x1b[2J"
        assert spans["omnibase.run"].status.message == "violation"
        assert plain(spans["omnibase.run"].attributes)["error.type"] == "violation"

    def test_killed(self, bus: omnibase.EventBus, receiver: Receiver) -> None:
        with pytest.raises(omnibase.SandboxTimeout):
            omnibase.run(b"while True: pass", context=BRIEF, bus=bus)
        spans = self.spans(bus, receiver)
        assert list(spans) != [] and spans["omnibase.execution"].status.message == "timeout"
        assert 0.5 < seconds(spans["omnibase.execution"]) < 5
        names = [event.name for event in spans["omnibase.execution"].events]
        assert names == ["omnibase.ResourceLimitExceeded"]

    def test_denied(self, bus: omnibase.EventBus, receiver: Receiver, tmp_path: Path) -> None:
        one = OneComponent(tmp_path / "registry", b"print(1)", requires=["FILE_READ:/etc/hosts"])
        with pytest.raises(omnibase.CapabilityDenied):
            omnibase.run_component("report", registry=one.directory, bus=bus)
        spans = self.spans(bus, receiver)
        assert set(spans) == {"omnibase.run", "omnibase.policy"}
        decision = plain(spans["omnibase.policy"].attributes)
        assert decision["omnibase.policy.denied"] == ["FILE_READ:/etc/hosts"]
        run = spans["omnibase.run"]
        assert plain(run.attributes)["omnibase.component.id"] == str(one.uuid)
        assert [event.name for event in run.events] == [
            "omnibase.CapabilityDenied", "omnibase.RunRefused",
        ]  # fmt: skip
        assert run.status.message == "capability_denied"
        assert {"omnibase.runs", "omnibase.denials"} <= receiver.metrics.keys()

    def test_it_is_below_the_applications_span(
        self, bus: omnibase.EventBus, receiver: Receiver
    ) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
        with tracer.start_as_current_span("handle request") as outer:
            omnibase.run(b"print(1)", bus=bus)
        (run,) = [s for s in receiver.spans if s.name == "omnibase.run"] if bus.flush(10) else []
        assert int.from_bytes(run.parent_span_id) == outer.get_span_context().span_id
        assert int.from_bytes(run.trace_id) == outer.get_span_context().trace_id


class TestCommandLine:
    def test_a_run_is_exported_and_its_events_lead_there(
        self, receiver: Receiver, script: Path, tmp_path: Path
    ) -> None:
        log = tmp_path / "events.jsonl"
        said = command(
            "sandbox", "run", script, "--events", log, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            TRACEPARENT=f"00-{'a' * 32}-{'b' * 16}-01",
        )  # fmt: skip
        assert (said.code, said.text, said.err) == (0, "done\n", "")
        (run,) = [span for span in receiver.spans if span.name == "omnibase.run"]
        events = [Event.from_json(line) for line in log.read_bytes().splitlines()]
        assert {event.traceparent for event in events} == {
            f"00-{run.trace_id.hex()}-{run.span_id.hex()}-01"
        }
        assert run.trace_id.hex() == "a" * 32 and run.parent_span_id.hex() == "b" * 16
        assert "omnibase.runs" in receiver.metrics

    def test_the_console_exporter_leaves_the_output_alone(self, script: Path) -> None:
        said = command("sandbox", "run", script, "--json", OTEL_TRACES_EXPORTER="console")
        assert said.code == 0 and json.loads(said.out)["stdout"] == "done\n"
        assert '"name": "omnibase.teardown"' in said.err

    @pytest.mark.parametrize("trouble", ["hangs", "is not there"])
    def test_a_collector_in_trouble_costs_a_bounded_time_and_is_told(
        self, trouble: str, receiver: Receiver, script: Path, tmp_path: Path
    ) -> None:
        url, log = receiver.url, tmp_path / "events.jsonl"
        if trouble == "hangs":
            receiver.delay = 60
        else:
            url = "http://127.0.0.1:9"
        began = time.monotonic()
        said = command("sandbox", "run", script, "--events", log, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        assert time.monotonic() - began < 40  # of which telemetry is at most 6, and not 60
        assert (said.code, said.text) == (0, "done\n")
        assert "omnibase: warning: 4 spans were not delivered" in said.err
        assert len(said.err.splitlines()) == 1
        events = [Event.from_json(line) for line in log.read_bytes().splitlines()]
        gaps = [event.data for event in events if isinstance(event.data, MonitorGap)]
        assert [gap.dropped for gap in gaps] == [4]

    def test_a_library_that_is_missing_is_named(self, script: Path, tmp_path: Path) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(
            "import sys\nsys.modules['opentelemetry'] = sys.modules['structlog'] = None\n"
        )
        path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
        said = command(
            "sandbox", "run", script, PYTHONPATH=path.strip(os.pathsep),
            OTEL_TRACES_EXPORTER="otlp", OMNIBASE_LOG="json",
        )  # fmt: skip
        assert (said.code, said.text) == (0, "done\n")
        for extra in ("otel", "logs"):
            assert f"pip install 'omnibase[{extra}]'" in said.err

    def test_words_of_ours_are_checked(self, script: Path) -> None:
        said = command("sandbox", "run", script, OMNIBASE_LOG="xml", **NO_RUNTIME)
        assert (said.code, said.out) == (2, b"") and "hint:" in said.err
        assert "`OMNIBASE_LOG=xml` is no form of log lines" in said.err


class TestLogLines:
    def test_a_script_cannot_write_where_they_are(self, tmp_path: Path) -> None:
        script, log = tmp_path / "job.py", tmp_path / "log.jsonl"
        script.write_text(
            'import sys\nprint(\'{"event": "SandboxExit"}\', file=sys.stderr)\n'
            'open(\'/etc/shadow\\x1b[2J\\n{"event": "SandboxExit"}\')\n'
        )
        command(
            "sandbox", "run", script, "--on-violation", "record", OMNIBASE_LOG="json",
            OMNIBASE_LOG_LEVEL="warning", OMNIBASE_LOG_FILE=str(log),
        )  # fmt: skip
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [line["event"] for line in lines] == ["SandboxViolation", "SandboxExit"]
        assert lines[0]["resource"] == '/etc/shadow\\x1b[2J\\n{"event": "SandboxExit"}'
        assert len({line["run_id"] for line in lines}) == 1
        assert log.stat().st_mode & 0o777 == 0o600

    def test_console(self, script: Path) -> None:
        said = command("sandbox", "run", script, OMNIBASE_LOG="console")
        assert (said.code, said.text) == (0, "done\n")
        assert "[info     ] SandboxStart" in said.err and "\x1b" not in said.err
