"""Kill -9 of each part of a run, at random moments."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase.core.audit import AuditLog
from omnibase.core.events import Event, RunRecovered, SandboxExit
from omnibase.core.sandbox.egress import session
from omnibase.core.sandbox.egress.broker import Broker
from tests.helpers import faults
from tests.helpers.cli import COMMAND, heed_signals
from tests.helpers.egress import echo, server

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-ORCH-10", "T-ORCH-11")]

_EMBEDDED = """
import sys, omnibase
omnibase.run(open(sys.argv[1], "rb").read(), on_output=lambda stream, chunk: (
    sys.stdout.buffer.write(chunk), sys.stdout.flush()))
"""
_POOL = """
import sys, omnibase
with omnibase.Pool(2) as pool:
    pool.wait_ready(1)
    print("ready", flush=True)
    while True:
        pool.run(open(sys.argv[1], "rb").read())
"""
_NETWORK = b"""
import socket
for number in range(6):
    with socket.create_connection(("127.0.0.1", PORT), timeout=5) as client:
        client.sendall(b"line %d\\n" % number)
        answer = client.recv(100)
        if not answer:
            raise ConnectionError("the other end has closed")  # as a broken peer may look
        print(answer.decode(), end="", flush=True)
print("done")
"""


@pytest.mark.parametrize("part", ["sentry", "gofer", "runsc"])
def test_a_part_of_the_sandbox(state: Path, log: Path, part: str) -> None:
    moments, struck = faults.dice(part), 0
    began = time.monotonic()
    faults.Outcome(log).assert_right()
    usual = time.monotonic() - began
    for _ in range(faults.often(6, 67)):
        with faults.Fault(moments.uniform(0, usual), faults.kill(part)) as fault:
            outcome = faults.Outcome(log)
        outcome.assert_either()
        struck += fault.struck
        assert os.listdir(state / "runs") == []
        assert faults.notes(state) == []
        if outcome.error is not None and outcome.error.result is not None:
            # What was seen until then is not lost, and not made up.
            assert faults.OUTPUT.startswith(outcome.error.result.stdout.decode())
    assert struck
    for told in faults.settled(log, state).values():
        assert not any(isinstance(event.data, RunRecovered) for event in told)


def _callers(state: Path, log: Path, script: Path) -> dict[str, Callable[[], list[str]]]:
    return {
        "cli": lambda: [*COMMAND, "sandbox", "run", str(script), "--audit", str(log)],
        "embedding": lambda: [sys.executable, "-c", _EMBEDDED, str(script)],
    }


@pytest.mark.parametrize("caller", ["cli", "embedding"])
def test_the_process_that_runs_it(state: Path, log: Path, tmp_path: Path, caller: str) -> None:
    script = tmp_path / "job.py"
    script.write_bytes(faults.SCRIPT)
    command = _callers(state, log, script)[caller]()
    moments = faults.dice(caller)

    def once(delay: float, after_output: bool) -> int:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_signals,  # noqa: PLW1509
            env={**os.environ, "OMNIBASE_AUDIT": str(log)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            out = process.stdout.readline() if after_output else b""
            try:
                rest, err = process.communicate(timeout=delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return process.returncode
        assert (process.returncode, err) == (0, b"")
        assert (out + rest).decode() == faults.OUTPUT
        return process.returncode

    began = time.monotonic()
    assert once(60, False) == 0
    usual = time.monotonic() - began
    times = faults.often(14, 200)
    # Anywhere from before its first line of code, and while the script is surely at work.
    anywhere = [(moments.uniform(0, 1.2 * usual), False) for _ in range(times // 2)]
    inside = [(moments.uniform(0, 0.1), True) for _ in range(times - len(anywhere))]
    with ThreadPoolExecutor(2) as pool:
        codes = Counter(pool.map(lambda moment: once(*moment), anywhere + inside))
    assert set(codes) <= {0, -signal.SIGKILL}
    assert codes[-signal.SIGKILL] > times // 5
    told = faults.settled(log, state)
    ends = [run[-1].data for run in told.values()]
    assert all(isinstance(end, SandboxExit) for end in ends), ends
    recovered = [run for run in told.values() if isinstance(run[-2].data, RunRecovered)]
    assert recovered  # else no moment was in the middle of a run
    assert all(run[-1].data.outcome == "aborted" for run in recovered)  # type: ignore[attr-defined]


def test_the_sockets_of_the_broker(state: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brokers: list[Broker] = []

    class Watched(Broker):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            brokers.append(self)

    monkeypatch.setattr(session, "Broker", Watched)
    moments = faults.dice("broker")

    def break_something(run: str) -> bool:
        broker, choice = brokers[-1], random.Random(run)
        peers = [stream.peer for stream in [*broker._relay._streams.values()]]
        ends = [broker._channel._host, *(peer for peer in peers if peer is not None)]
        with contextlib.suppress(OSError):  # closed by now
            choice.choice(ends).shutdown(socket.SHUT_RDWR)
            return True
        return False

    with server(echo) as port:
        source = _NETWORK.replace(b"PORT", str(port).encode())
        options = {"capabilities": [f"NETWORK_CONNECT:127.0.0.1:{port}"]}
        began = time.monotonic()
        faults.Outcome(log, source, **options).assert_right()
        usual = time.monotonic() - began
        struck = 0
        for _ in range(faults.often(6, 50)):
            with faults.Fault(moments.uniform(0, usual), break_something) as fault:
                outcome = faults.Outcome(log, source, **options)
            struck += fault.struck
            if outcome.error is None and outcome.result is not None and outcome.result.exit_code:
                # A connection that breaks is the script's to handle: it was told so.
                assert b"Error" in outcome.result.stderr
            else:
                outcome.assert_either()
            assert os.listdir(state / "runs") == []
        assert struck
    faults.settled(log, state)


def test_a_channel_that_breaks_is_no_exit_of_the_script(
    state: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels: list[socket.socket] = []
    start = Broker.start

    def noting(self: Broker) -> None:
        channels.append(self._channel._host)
        start(self)

    monkeypatch.setattr(Broker, "start", noting)
    with server(echo) as port:
        source = _NETWORK.replace(b"PORT", str(port).encode())
        outcome = faults.Outcome(
            log, source, capabilities=[f"NETWORK_CONNECT:127.0.0.1:{port}"],
            on_output=lambda *_: channels and channels.pop().shutdown(socket.SHUT_RDWR),
        )  # fmt: skip
    error = outcome.assert_typed(omnibase.SandboxError)
    assert error.result is not None
    assert error.result.stdout.startswith(b"line 0\n")
    faults.settled(log, state)


def test_a_broker_that_breaks(state: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its thread dies of, the run ends as the sandbox's failure, and says of what."""
    turns, turn = [0], Broker._turn

    def breaks(self: Broker) -> None:
        turn(self)
        turns[0] += 1
        if turns[0] == 4:
            raise OSError(errno.EIO, "broken for a test")

    monkeypatch.setattr(Broker, "_turn", breaks)
    with server(echo) as port:
        source = _NETWORK.replace(b"PORT", str(port).encode())
        outcome = faults.Outcome(log, source, capabilities=[f"NETWORK_CONNECT:127.0.0.1:{port}"])
    error = outcome.assert_typed(omnibase.SandboxError)
    assert "broker of the run's network failed: OSError: [Errno 5] broken" in error.message
    assert outcome.names()[-1] == "SandboxExit"
    faults.settled(log, state)


def test_all_at_once(state: Path, log: Path) -> None:
    """Four runs at a time, each with a part that dies; none is another's trouble."""
    moments = faults.dice("all")
    plan = [
        (moments.choice(["sentry", "gofer", "runsc", "none"]), moments.uniform(0, 0.8))
        for _ in range(faults.often(8, 200))
    ]

    def once(what: tuple[str, float]) -> tuple[str, bool]:
        with faults.Fault(what[1], faults.kill(what[0])) as fault:
            outcome = faults.Outcome(log, context=omnibase.ExecutionContext(wall_seconds=60))
        if fault.struck or what[0] != "none":
            outcome.assert_either()
        else:
            outcome.assert_right()
        return what[0], outcome.error is None

    with ThreadPoolExecutor(4) as pool:
        print(Counter(pool.map(once, plan)))
    faults.settled(log, state)


def test_the_process_of_a_pool(state: Path, log: Path, tmp_path: Path) -> None:
    """Sandboxes that waited for a script go with it, and the run that was on gets its end."""
    script = tmp_path / "job.py"
    script.write_bytes(faults.SCRIPT)
    moments = faults.dice("pool")
    recovered: list[list[Event]] = []
    for number in range(faults.often(20, 30)):
        if recovered and number >= faults.often(2, 30):
            break  # a kill between two runs, which nothing has to be told of, is no kill in one
        with subprocess.Popen(
            [sys.executable, "-c", _POOL, str(script)], stdout=subprocess.PIPE,
            preexec_fn=heed_signals,  # noqa: PLW1509
            env={**os.environ, "OMNIBASE_AUDIT": str(log)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0.1, 1))
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        told = faults.settled(log, state)
        recovered = [run for run in told.values() if isinstance(run[-2].data, RunRecovered)]
    assert 0 < len(recovered) <= number + 1


def test_what_waits_in_a_pool(state: Path, log: Path) -> None:
    """Whichever sandbox of a pool dies, and whenever: a run is right, or a typed error."""
    moments, bus = faults.dice("member"), omnibase.EventBus()
    bus.subscribe(AuditLog(log, fsync="never"))
    with omnibase.Pool(2, bus=bus) as pool:
        assert pool.wait_ready(2)
        for _ in range(faults.often(6, 60)):
            run = moments.choice(sorted(os.listdir(state / "runs")) or ["none"])
            delay = moments.uniform(0, 0.3)
            killer = threading.Timer(delay, faults.kill(moments.choice(["sentry", "gofer"])), [run])
            killer.start()
            try:
                result = pool.run(faults.SCRIPT)
                assert (result.exit_code, result.stdout.decode()) == (0, faults.OUTPUT)
            except omnibase.SandboxError as error:
                assert error.hint
            killer.join()
    bus.close()
    assert os.listdir(state / "runs") == []
    faults.settled(log, state)
