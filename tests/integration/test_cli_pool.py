"""``omnibase pool`` and ``--pool``, as typed: the daemon, its clients, and how each can end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.sandbox.image import ensure_image
from omnibase.core.sandbox.state import state_dir
from tests.helpers.audit import events
from tests.helpers.cli import NO_RUNTIME, Said, eventually, omnibase, run_ids, started
from tests.helpers.wheels import make_index, make_wheel

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Daemon:
    """One in a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.audit = state / "log"
        self.variables = {"OMNIBASE_STATE_DIR": str(state), "OMNIBASE_AUDIT": str(self.audit)}

    def say(self, *words: object, **more: Any) -> Said:
        return omnibase(*words, **self.variables, **more)

    def start(self, *words: object) -> Daemon:
        said = self.say("pool", "start", "--size", 1, *words)
        assert said.code == 0, said.err
        return self

    def status(self) -> dict[str, Any]:
        said = self.say("pool", "status", "--json")
        assert said.code == 0, said.err
        return dict(json.loads(said.out))

    def ready(self) -> None:
        assert eventually(lambda: self.status()["pool"]["ready"] == 1)

    def run(self, script: Path, *words: object, **more: Any) -> Said:
        return self.say("sandbox", "run", script, "--pool", *words, **more)

    def background(self, *words: object) -> Any:
        return started(*words, env={**os.environ, **self.variables})

    def gone(self) -> bool:
        return not run_ids(self.state) and not (self.state / "pool" / "socket").exists()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    ensure_image(state_dir())
    with tempfile.TemporaryDirectory(prefix="obp-") as name:
        (Path(name) / "images").symlink_to(state_dir() / "images")
        daemon = Daemon(Path(name))
        yield daemon
        daemon.say("pool", "stop")
        assert eventually(daemon.gone)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(source: str) -> Path:
        path = tmp_path / "job.py"
        path.write_text(source)
        return path

    return write


Script = Callable[[str], Path]
SLEEP = "print('on', flush=True)\nimport time; time.sleep(600)"


def test_a_life(daemon: Daemon, script: Script) -> None:
    path = script("print(6 * 7)")
    nobody = daemon.run(path)
    assert (nobody.code, nobody.out) == (125, b"")
    assert "hint: start it: `omnibase pool start`" in nobody.err
    said = daemon.say("pool", "start", "--size", 1, "--preload", "json,re")
    assert (said.code, said.err) == (0, "")
    assert said.text.startswith("the pool is ready: process ")
    again = daemon.say("pool", "start", "--size", 1, "--preload", "json,re")
    assert (again.code, again.err) == (0, "")
    assert again.text.startswith("a pool was running already, and is ready: process ")
    other = daemon.say("pool", "start", "--size", 3, "--preload", "json,re")
    assert other.code == 2
    assert "is set otherwise: `size` is 1" in other.err
    said = daemon.run(path)
    assert (said.code, said.out, said.err) == (0, b"42\n", "")
    status = daemon.status()
    assert status["pool"]["warm_runs"] == 1
    assert status["settings"]["preload"] == ["json", "re"]
    assert status["uptime_seconds"] > 0
    text = daemon.say("pool", "status").text
    assert "runs       1 warm, 0 cold\n" in text
    assert daemon.say("pool", "drain").code == 0
    assert daemon.gone()
    assert daemon.say("pool", "status").code == 125


def test_a_run_is_the_same_with_and_without(daemon: Daemon, script: Script) -> None:
    daemon.start()
    with tempfile.TemporaryDirectory(dir="/srv", prefix="ob-pool-") as area:
        Path(area, "in").write_text("in")
        path = script(
            "import os, sys\n"
            f"print(open('{area}/in').read(), sys.argv[1:], sys.stdin.read(), os.environ['MODE'])\n"
            "print(open('/run/secrets/KEY').read())\n"
            "open('/artifacts/out/made.txt', 'w').write('made')\n"
            "open('/artifacts/out/other.txt', 'w').write('other')\n"
            "print('e', file=sys.stderr)\n"
            f"open('{area}/not')\n"
        )
        words = ["--allow", f"FILE_READ:{area}/in", "--allow", "SECRET_ACCESS:KEY", "--allow",
                 "ARTIFACT_WRITE:made.txt", "--stdin", "-", "--env", "MODE=x", "--json", "--", "a",
                 "\udcff"]  # fmt: skip
        variables = {"OMNIBASE_SECRET_KEY": "hunter2hunter2", "TRACEPARENT": TRACE}
        found = [
            json.loads(daemon.say("sandbox", "run", path, *more, *words, stdin=b"s", **variables)
                       .out)
            for more in ([], ["--pool"])
        ]  # fmt: skip
    cold, warm = found
    assert (cold["warm"], warm["warm"]) == (False, True), warm["cold_reason"]
    assert warm["stdout"] == f"in ['a', '\\udcff'] s x\n***KEY***\n"  # noqa: F541
    for one in found:
        del one["usage"], one["warm"], one["cold_reason"], one["run_id"]
        for violation in (*one["violations"], *one["error"]["details"]["violations"]):
            del violation["first_seen"], violation["last_seen"], violation["pid"]
        for artifact in one["artifacts"]:
            del artifact["version"], artifact["created_at"]
    assert json.dumps(warm).replace(area, "") == json.dumps(cold).replace(area, "")
    assert [artifact["name"] for artifact in warm["artifacts"]] == ["made.txt"]
    # All is on record, once and by the client, as of a run without the pool.
    kinds = [event.name for event in events(daemon.audit)]
    half = len(kinds) // 2
    assert kinds[:half] == kinds[half:]
    assert {"SandboxStart", "SecretRead", "ArtifactStored", "SandboxViolation"} <= set(kinds)
    traces = {event.traceparent.split("-")[1] for event in events(daemon.audit)}  # type: ignore[union-attr]
    assert traces == {TRACE.split("-")[1]}
    starts = [event.data for event in events(daemon.audit) if event.name == "SandboxStart"]
    assert [start.start for start in starts] == ["cold", "warm"]  # type: ignore[attr-defined]
    assert daemon.say("audit", "verify", "--audit", daemon.audit).code == 0


def test_what_does_not_fit_runs_cold_and_says_why(daemon: Daemon, script: Script) -> None:
    daemon.start()
    said = daemon.run(script("print(1)"), "--scratch", "8MiB", "--json")
    found = json.loads(said.out)
    assert (found["stdout"], found["warm"]) == ("1\n", False)
    assert "scratch" in found["cold_reason"]
    assert list(daemon.status()["pool"]["cold_reasons"]) == [found["cold_reason"]]


def test_packages_of_the_pool(daemon: Daemon, script: Script, tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path / "files", name, files={f"{name}.py": source})
        for name, source in (("alpha", b"V = 1"), ("beta", b"V = 2"), ("broken", b"1 / 0"))
    ]
    index = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "",
             "PIP_INDEX_URL": make_index(tmp_path, *wheels)}  # fmt: skip
    for name in ("alpha", "beta", "broken"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
    words = ("pool", "start", "--size", 1, "--preload", "json,alpha", "--idle-memory", "60MB")
    with contextlib.chdir(tmp_path):
        said = daemon.say(*words, "--packages", "alpha.txt", **index)
    assert (said.code, said.err) == (0, ""), said.err
    again = daemon.say(*words, "--packages", tmp_path / "alpha.txt", **index)
    assert (again.code, again.text[:8]) == (0, "a pool w"), again.err
    other = daemon.say(*words, "--packages", tmp_path / "beta.txt", **index)
    assert other.code == 2
    assert "is set otherwise: `layer` is" in other.err
    status = daemon.status()
    layer = status["settings"]["layer"]
    assert status["packages"] == ["alpha==1.0"]
    assert f"packages   alpha==1.0 (layer {layer[:12]})\n" in daemon.say("pool", "status").text
    # Whoever runs something there has them, without a word: no index is needed.
    uses = "import sys\nprint('alpha' in sys.modules)\nimport alpha; print(alpha.V)"
    path = script(uses)
    found = json.loads(daemon.run(path, "--json").out)
    assert (found["stdout"], found["warm"], found["layer"]) == ("True\n1\n", True, layer), found
    names = [event.name for event in events(daemon.audit)]
    assert names[-3:] == ["LayerAttached", "SandboxStart", "SandboxExit"]
    assert {"PackagesResolved", "LayerBuilt"} < set(names)
    daemon.ready()
    words = ("--packages", tmp_path / "alpha.txt", "--json")
    found = json.loads(daemon.run(path, *words, **index).out)
    assert (found["stdout"], found["warm"], found["layer"]) == ("True\n1\n", True, layer)
    words = ("--packages", tmp_path / "beta.txt", "--json")
    found = json.loads(daemon.run(script("import beta; print(beta.V)"), *words, **index).out)
    assert (found["stdout"], found["warm"]) == ("2\n", False)
    assert found["cold_reason"] == "it comes with other packages than the pool"
    daemon.ready()
    path = script(uses)
    said = omnibase("registry", "add", "--registry", tmp_path / "registry", "--name", "job",
                    "--version", "1.0.0", "--owner", "me", "--script", path)  # fmt: skip
    assert said.code == 0, said.err
    said = daemon.say("run", "job", "--registry", tmp_path / "registry", "--pool", "--json")
    found = json.loads(said.out)
    assert (found["stdout"], found["warm"], found["layer"]) == ("True\n1\n", True, layer)
    # A daemon that was killed offers nothing, and the next one what it has.
    os.kill(daemon.status()["pid"], signal.SIGKILL)
    assert eventually(lambda: daemon.run(path).code == 125)
    assert "no pool is running" in daemon.run(path).err
    broken = daemon.say("pool", "start", "--size", 1, "--packages", tmp_path / "broken.txt",
                        "--preload", "broken", **index)  # fmt: skip
    assert broken.code == 125
    assert "`broken` cannot be imported: ZeroDivisionError" in broken.err
    assert "hint: leave the module out of `preload`" in broken.err
    assert "hint: leave the module" in daemon.say("pool", "status").text
    assert daemon.say("pool", "stop").code == 0
    daemon.start()
    assert daemon.run(path).code == 1  # no module named alpha
    assert "packages   none\n" in daemon.say("pool", "status").text


def test_a_component(daemon: Daemon, script: Script, tmp_path: Path) -> None:
    daemon.start()
    registry = tmp_path / "registry"
    policy = tmp_path / "p.cedar"
    path = script("print('a component')")
    said = omnibase("registry", "add", "--registry", registry, "--name", "job", "--version",
                    "1.0.0", "--owner", "me", "--script", path)  # fmt: skip
    assert said.code == 0, said.err
    del policy
    said = daemon.say("run", "job", "--registry", registry, "--pool", "--json")
    found = json.loads(said.out)
    assert (found["stdout"], found["warm"], found["component"]["reference"]) == (
        "a component\n", True, "job@1.0.0",
    )  # fmt: skip
    said = daemon.say("run", "job", "--registry", registry, "--pool", "--unsandboxed")
    assert said.code == 2
    assert "cannot be given together" in said.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_run_in_the_daemon(
    daemon: Daemon, script: Script, number: int, code: int
) -> None:
    daemon.start()
    with daemon.background("sandbox", "run", script(SLEEP), "--pool") as client:
        assert client.stdout.readline() == b"on\n"
        client.send_signal(number)
        assert client.wait(20) == code
    assert daemon.status()["clients_running"] == 0  # before the client was gone
    daemon.ready()
    assert [event.name for event in events(daemon.audit)][-1] == "SandboxExit"


def test_a_client_that_is_killed(daemon: Daemon, script: Script) -> None:
    daemon.start()
    with daemon.background("sandbox", "run", script(SLEEP), "--pool") as client:
        assert client.stdout.readline() == b"on\n"
        client.kill()
        client.wait(20)
    assert eventually(lambda: daemon.status()["clients_running"] == 0)
    daemon.ready()
    assert daemon.run(script("print(1)")).out == b"1\n"
    names = [event.name for event in events(daemon.audit)]
    assert "RunRecovered" in names  # its end is on record, by who came next


def test_a_daemon_that_is_killed(daemon: Daemon, script: Script) -> None:
    daemon.start()
    pid = daemon.status()["pid"]
    with daemon.background("sandbox", "run", script(SLEEP), "--pool") as client:
        assert client.stdout.readline() == b"on\n"
        os.kill(pid, signal.SIGKILL)
        assert client.wait(20) == 125
        assert b"the pool's daemon went away" in client.stderr.read()
    assert (daemon.state / "pool" / "socket").exists()
    left = set(run_ids(daemon.state))
    assert left
    assert daemon.say("pool", "status").code == 125
    daemon.start()
    assert not left & set(run_ids(daemon.state))
    assert daemon.run(script("print(1)")).out == b"1\n"
    assert [event.name for event in events(daemon.audit)][2:] == ["SandboxStart", "SandboxExit"]


def test_stopping_ends_runs_and_draining_waits(daemon: Daemon, script: Script) -> None:
    flags = ("pool", "start", "--size", "1", "--foreground")
    with daemon.background(*flags) as server:
        assert server.stderr.readline() == b"omnibase: the pool is there\n"
        daemon.ready()
        path = script("print('on', flush=True)\nimport time; time.sleep(2); print('off')")
        with daemon.background("sandbox", "run", path, "--pool") as client:
            assert client.stdout.readline() == b"on\n"
            server.send_signal(signal.SIGTERM)  # drains
            refused = daemon.run(path)
            assert refused.code == 125
            assert client.stdout.read() == b"off\n"
            assert client.wait(20) == 0
        assert server.wait(20) == 0
    assert daemon.gone()
    daemon.start()
    with daemon.background("sandbox", "run", script(SLEEP), "--pool") as client:
        assert client.stdout.readline() == b"on\n"
        began = time.monotonic()
        assert daemon.say("pool", "drain", "--timeout", 0.5).code == 124
        assert daemon.say("pool", "stop").code == 0
        assert time.monotonic() - began < 20
        assert client.wait(20) == 125
    assert daemon.gone()


@pytest.mark.parametrize(
    "words",
    [
        ("--size", "0"), ("--size", "many"), ("--size", "1025"), ("--preload", "a b"),
        ("--idle-seconds", "-1"), ("--idle-seconds", "x"), ("--memory", "lots"),
        ("--scratch", "1"), ("--idle-memory", "1MB"), ("--packages", "/no/such/file"),
        ("--size", "1", "--size", "2"),
    ],
)  # fmt: skip
def test_flags_that_are_wrong(words: tuple[str, ...]) -> None:
    said = omnibase("pool", "start", *words, **NO_RUNTIME)
    assert (said.code, said.out) == (2, b""), said.err
    assert "hint: " in said.err


def test_a_daemon_that_cannot_start(daemon: Daemon) -> None:
    said = daemon.say("pool", "start", **NO_RUNTIME)
    assert said.code == 125
    assert "the pool's daemon did not start: `RUNSC=/nonexistent/runsc`" in said.err
    assert daemon.gone()
    assert daemon.say("pool", "drain", "--timeout", "x").code == 2
