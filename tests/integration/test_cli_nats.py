"""Runs from the command line that publish to a real server, and what waits when there is none."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.events import SinkLag
from omnibase.core.sandbox import image
from omnibase.core.sandbox.state import state_dir
from tests.helpers import nats_server
from tests.helpers.audit import events
from tests.helpers.cli import NO_RUNTIME, Said, eventually, omnibase

_NAMES = ["SandboxStart", "SandboxViolation", "SandboxExit"]


@pytest.fixture(scope="module")
def server() -> Iterator[nats_server.Server]:
    with nats_server.running() as running:
        yield running


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text("try:\n    open('/etc/shadow')\nexcept OSError:\n    print('no')\n")
    return path


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of its own, on a short path, that shares the images."""
    image.ensure_image(state_dir())
    with tempfile.TemporaryDirectory(prefix="obn-", dir="/tmp") as name:
        (Path(name) / "images").symlink_to(state_dir() / "images")
        monkeypatch.setenv("OMNIBASE_STATE_DIR", name)
        yield Path(name)


def dead() -> str:
    return f"nats://user:Tr0ub4dor@127.0.0.1:{nats_server.free_port()}"


def published(server: nats_server.Server, script: Path) -> Said:
    """Runs it; where the machine is too busy for a command's patience, what is left is sent."""
    said = omnibase("sandbox", "run", script, OMNIBASE_NATS=server.url)
    if "NATS" in said.err:
        assert "wait in the outbox (the server needs longer)" in said.err
        done = omnibase("audit", "outbox", "--deliver", OMNIBASE_NATS=server.url)
        assert done.code == 0, done.text
    return said


class TestARun:
    def test_is_published_and_says_nothing_of_it(
        self, server: nats_server.Server, state: Path, script: Path
    ) -> None:
        server.purge()
        said = published(server, script)
        assert said.code == 121, said.err
        found = server.events()
        assert [each.name for each in found] == _NAMES
        assert found == [each for each in events(state / "audit") if each.name in _NAMES]
        assert list((state / "outbox").glob("*.spool")) == []

    def test_in_an_outage_says_so_and_the_next_delivers_it(
        self, server: nats_server.Server, state: Path, script: Path
    ) -> None:
        server.purge()
        for count in (3, 6):
            said = omnibase("sandbox", "run", script, OMNIBASE_NATS=dead())
            assert said.code == 121, said.err
            (warning,) = [line for line in said.err.splitlines() if "NATS" in line]
            assert f"{count} events for NATS wait in the outbox" in warning
            assert "connection refused" in warning
            assert "omnibase audit outbox --deliver" in warning
            assert "Tr0ub4dor" not in said.err
        assert server.messages() == []
        published(server, script)
        assert [each.name for each in server.events()] == _NAMES * 3
        log = [each for each in events(state / "audit") if isinstance(each.data, SinkLag)]
        states = [each.data.to_dict()["state"] for each in log]
        # The third, on a machine that is busy, says that it lags, too.
        assert states in (["lagging"] * 2 + ["caught-up"], ["lagging"] * 3)
        assert "Tr0ub4dor" not in "".join(each.to_json() for each in log)

    def test_waits_no_longer_for_a_server_that_says_nothing(
        self, state: Path, script: Path
    ) -> None:
        begin = time.monotonic()
        omnibase("sandbox", "run", script)
        alone = time.monotonic() - begin
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
            begin = time.monotonic()
            said = omnibase("sandbox", "run", script, OMNIBASE_NATS=url)
            # Two seconds at the end, and what a busy machine takes besides.
            assert time.monotonic() - begin < alone + 6
        assert said.code == 121
        assert "3 events for NATS wait" in said.err

    def test_with_a_full_outbox_says_how_much_was_not_kept(
        self, server: nats_server.Server, state: Path, script: Path
    ) -> None:
        server.purge()
        small = {"OMNIBASE_NATS_OUTBOX_BYTES": "100"}
        said = omnibase("sandbox", "run", script, OMNIBASE_NATS=dead(), **small)
        assert said.code == 121
        assert "3 events could not be kept for NATS" in said.err
        found = json.loads(omnibase("audit", "outbox", "--json").out)
        assert (found["events"], found["lost"]) == (0, 3)
        published(server, script)
        gap = next(each for each in server.events() if each.name == "MonitorGap")
        assert gap.data.to_dict()["dropped"] == 3

    @pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
    def test_does_not_reach_the_outbox(self, tmp_path: Path, state: Path, kind: str) -> None:
        outbox, script = tmp_path / "area" / "outbox", tmp_path / "job.py"
        outbox.mkdir(parents=True, mode=0o700)
        (outbox / "beside").write_text("x")
        (outbox.parent / "beside").write_text("x")
        place = {"OMNIBASE_NATS": dead(), "OMNIBASE_NATS_OUTBOX": str(outbox)}
        script.write_text(f"print(open({str(outbox / 'beside')!r}).read())\n")
        said = omnibase("sandbox", "run", script, "--allow", f"{kind}:{outbox}/**", **place)
        assert said.code in (2, 120), said.err
        assert str(outbox) in said.err
        # The twin: what is beside it may be granted, and in the tree the outbox is empty.
        script.write_text(
            f"import os\nprint(open({str(outbox.parent / 'beside')!r}).read())\n"
            f"print(os.listdir({str(outbox)!r}))\n"
        )
        tree = f"FILE_READ:{outbox.parent}/**"
        said = omnibase("sandbox", "run", script, "--allow", tree, **place)
        assert said.code == 0, said.err
        assert said.text.split() == ["x", "[]"]

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("OMNIBASE_NATS", "http://user:Tr0ub4dor@x", "is no NATS server's address"),
            ("OMNIBASE_NATS_SUBJECT", "a.*", "is no subject"),
            ("OMNIBASE_NATS_OUTBOX_BYTES", "many", "is no number of bytes"),
            ("OMNIBASE_NATS_OUTBOX", "/proc/none", "cannot be used"),
            ("OMNIBASE_NATS_PASSWORD_FILE", "/nonexistent", "cannot be read"),
        ],
    )
    def test_does_not_start_if_a_variable_is_wrong(
        self, state: Path, script: Path, name: str, value: str, message: str
    ) -> None:
        variables = {"OMNIBASE_NATS": dead(), **NO_RUNTIME, name: value}
        said = omnibase("sandbox", "run", script, **variables)
        assert said.code == 2, said.err
        assert message in said.err
        assert "hint:" in said.err
        assert "Tr0ub4dor" not in said.err


class TestTheOutbox:
    def test_is_shown_and_delivered_by_hand(
        self, server: nats_server.Server, state: Path, script: Path
    ) -> None:
        server.purge()
        empty = omnibase("audit", "outbox")
        assert empty.code == 0
        assert "0 events" in empty.text
        assert not (state / "outbox").exists()
        omnibase("sandbox", "run", script, OMNIBASE_NATS=dead())
        shown = omnibase("audit", "outbox")
        assert shown.code == 0
        assert "3 events" in shown.text
        assert "the oldest of 20" in shown.text
        failed = omnibase("audit", "outbox", "--deliver", OMNIBASE_NATS=dead())
        assert failed.code == 1
        assert "connection refused" in failed.text
        assert "Tr0ub4dor" not in failed.text + failed.err
        done = omnibase("audit", "outbox", "--deliver", "--json", OMNIBASE_NATS=server.url)
        assert done.code == 0, done.text
        found = json.loads(done.out)
        assert (found["delivered"], found["events"], found["problem"]) == (3, 0, None)
        assert [each.name for each in server.events()] == _NAMES

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--outbox", ""], "is empty"),
            (["--deliver"], "no NATS server is named"),
            (["--deliver", "--timeout", "soon"], "is no wait"),
            (["--timeout", "5"], "is no wait"),
            (["--outbox", "/dev/null"], "cannot be used"),
        ],
    )
    def test_wrong_flags_are_errors(self, state: Path, arguments: list[str], message: str) -> None:
        said = omnibase("audit", "outbox", *arguments, OMNIBASE_NATS="")
        assert said.code == 2, said.err
        assert message in said.err
        assert "hint:" in said.err

    def test_that_others_may_write_is_refused(self, tmp_path: Path, state: Path) -> None:
        place = tmp_path / "open"
        place.mkdir()
        place.chmod(0o777)
        said = omnibase("audit", "outbox", "--outbox", place)
        assert said.code == 2
        assert "others may write there" in said.err


class TestDoctor:
    def test_says_what_answers(
        self, server: nats_server.Server, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from omnibase.cli.doctor import _nats

        monkeypatch.delenv("OMNIBASE_NATS", raising=False)
        assert _nats() == []
        monkeypatch.setenv(
            "OMNIBASE_NATS", f"{server.url},nats://127.0.0.1:{nats_server.free_port()}"
        )
        answers, silent = _nats()
        assert (answers.status, silent.status) == ("ok", "warning")
        assert "stream `OMNIBASE`" in answers.detail
        assert "connection refused" in silent.detail
        assert silent.fix
        monkeypatch.setenv("OMNIBASE_NATS", server.url)
        monkeypatch.setenv("OMNIBASE_NATS_SUBJECT", "elsewhere")
        (missing,) = _nats()
        assert missing.status == "warning"
        assert "no stream takes `elsewhere.*`" in missing.detail


class TestThePythonApi:
    def test_publishes_what_a_bus_carries(
        self, server: nats_server.Server, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import omnibase as api
        from omnibase import publishing

        server.purge()
        monkeypatch.setenv("OMNIBASE_NATS", server.url)
        bus = api.EventBus()
        for _ in range(2):
            api.run(b"print(1)", bus=bus)
        sink = publishing.attach(bus)
        assert sink is not None
        assert eventually(lambda: sink.delivered == 4), sink.problem
        assert bus.close()
        assert [each.name for each in server.events()] == ["SandboxStart", "SandboxExit"] * 2

    def test_a_bus_that_is_dropped_takes_its_thread_along(
        self, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from omnibase import publishing
        from omnibase.core.events import EventBus

        monkeypatch.setenv("OMNIBASE_NATS", dead())

        def delivering() -> int:
            return [thread.name for thread in threading.enumerate()].count("omnibase-outbox")

        before = delivering()
        buses = [EventBus() for _ in range(3)]
        for bus in buses:
            assert publishing.attach(bus) is publishing.attach(bus)
        assert delivering() == before + 3
        del bus
        buses.clear()
        # Again and again: it does nothing while another thread collects.
        assert eventually(lambda: gc.collect() >= 0 and delivering() <= before)

    def test_has_the_sink(self, server: nats_server.Server, tmp_path: Path) -> None:
        import omnibase as api

        server.purge()
        bus = api.EventBus()
        sink = api.JetStreamSink(server.url, tmp_path / "outbox")
        bus.subscribe(sink)
        api.run(b"print(1)", bus=bus)
        assert sink.flush(60), sink.problem
        assert bus.close()
        assert [each.name for each in server.events()] == ["SandboxStart", "SandboxExit"]


def test_a_process_without_nats_loads_nothing_of_it() -> None:
    code = (
        "import sys, omnibase, omnibase.api\n"
        "omnibase.EventBus, omnibase.JsonlSink\n"
        "loaded = [name for name in sys.modules if 'nats' in name or 'outbox' in name]\n"
        "assert not loaded, loaded\n"
    )
    environment = {**os.environ, "OMNIBASE_NATS": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
