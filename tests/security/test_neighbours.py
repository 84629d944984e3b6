"""A rogue process beside a live run, on the host: as another user, and with old messages."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase import run
from tests.helpers.datagrams import CAPTURED
from tests.security.harness import SCRIPTS, Outcome, observed

pytestmark = [pytest.mark.sandbox, pytest.mark.audit, pytest.mark.threat("T-ORCH-15")]

# It works, at least until it is told to stop by the host: a file that it was granted.
_TOKEN = "a-token-of-the-run"
_LIVES = b"""
import os, time, sys
print(open("/run/secrets/TOKEN").read() != "", flush=True)
while open(sys.argv[1]).read() != "stop":
    time.sleep(0.05)
"""


class Live:
    """A run that goes on, with a secret, a network grant and a file."""

    def __init__(self, stop: Path) -> None:
        self._stop = stop
        stop.write_text("go on")
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._body)
        self.started = threading.Event()

    def _body(self) -> None:
        try:
            self._outcome = observed(
                lambda bus: run(
                    _LIVES, args=[str(self._stop)], bus=bus, secrets={"TOKEN": _TOKEN},
                    capabilities=[f"FILE_READ:{self._stop}", "SECRET_ACCESS:TOKEN",
                                  "NETWORK_CONNECT:127.0.0.1:9"],
                    on_output=lambda *_: self.started.set(),
                )
            )  # fmt: skip
        finally:
            self.started.set()

    def __enter__(self) -> Live:
        self._thread.start()
        assert self.started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.write_text("stop")
        self._thread.join()

    @property
    def outcome(self) -> Outcome:
        assert self._outcome is not None
        return self._outcome


@pytest.fixture
def live(area: Path) -> Iterator[Live]:
    """A run that is alive for as long as the test."""
    with Live(area / "stop") as made:
        yield made


def _sockets(state: Path) -> list[Path]:
    return [path for path in (state / "runs").rglob("*") if path.is_socket()]


def test_another_user_gets_at_nothing_of_a_live_run(live: Live, state_dir: Path) -> None:
    # We, who run it, see it all: that is what there is to get at.
    assert os.listdir(state_dir / "runs")
    assert _sockets(state_dir)

    done = subprocess.run(
        [sys.executable, SCRIPTS / "rogue.py", str(state_dir), str(os.getpid())],
        capture_output=True, text=True, check=False, timeout=60, cwd="/",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.pop("processes") >= 2
    assert report.pop("sockets") >= 1
    refused = {"PermissionError", "FileNotFoundError"}
    assert {label: what for label, what in report.items() if what not in refused} == {}
    assert {"memory of the host process", "join the control group", "signal to process 1"} <= (
        report.keys()
    )
    live.__exit__()
    live.outcome.assert_clean()


@pytest.mark.threat("T-EXEC-18")
def test_a_second_sentry_is_not_listened_to(live: Live, state_dir: Path) -> None:
    """Replays a recorded trace to the run's socket, as root: there is one connection, no more."""
    recorded = list(CAPTURED.values())
    refused = 0
    for path in _sockets(state_dir):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(1)
            try:
                client.connect(str(path))
                for datagram in (b"\x08\x01", *recorded):
                    client.send(datagram)
                client.recv(64)
            except OSError:
                refused += 1

    assert refused == len(_sockets(state_dir)) > 0
    time.sleep(0.2)
    live.__exit__()
    live.outcome.assert_clean()
