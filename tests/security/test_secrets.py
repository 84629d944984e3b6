"""Secrets on a real sandbox: who gets one, where it is, where it is not, and what is said of it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import CapabilityError, EventBus, ExecutionContext, RunResult, SecretAccessError
from omnibase.core import events
from omnibase.core.secrets import Secret
from omnibase.core.secrets.scrub import forms
from tests.security.harness import SCRIPTS, Outcome, observed
from tests.security.leaks import processes_of

pytestmark = pytest.mark.secrets

VALUE = "Zq7/k+t0ken=Yw"  # at most 15 bytes: the name of a process holds it
GRANT = "SECRET_ACCESS:TOKEN"
STORE = {"TOKEN": VALUE, "OTHER": "another-value-99"}


def run(source: bytes | str, *caps: str, secrets: Any = None, **options: Any) -> Outcome:
    code = source.encode() if isinstance(source, str) else source
    quotas = {n: options.pop(n) for n in ("on_violation", "wall_seconds") if n in options}

    def body(bus: EventBus) -> RunResult:
        return omnibase.run(
            code,
            capabilities=caps,
            secrets=STORE if secrets is None else secrets,
            context=ExecutionContext(**quotas),
            bus=bus,
            **options,
        )

    return observed(body)


def script(name: str) -> bytes:
    return (SCRIPTS / f"{name}.py").read_bytes()


def assert_unsaid(text: str | bytes, value: str = VALUE) -> None:
    """Fails if a form of the value is in what was said."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    assert data
    assert [form for form in forms(value.encode()) if form in data] == []


def said(outcome: Outcome) -> list[str]:
    """Everything that a run leaves its caller, as text."""
    kept = [event.to_json() for event in outcome.events] + [repr(outcome.events)]
    if outcome.result is not None:
        kept += [json.dumps(outcome.result.to_dict()), repr(outcome.result)]
    if outcome.error is not None:
        kept += [json.dumps(outcome.error.to_dict()), repr(outcome.error), str(outcome.error)]
        kept += [repr(vars(outcome.error))]
    return kept


@pytest.mark.threat("T-EXEC-09")
class TestGrants:
    def test_an_ungranted_secret_is_not_there(self) -> None:
        outcome = run("open('/run/secrets/TOKEN')")

        error = outcome.assert_raised()
        violation = outcome.assert_violation(GRANT, operation="open")
        assert (violation.resource, violation.errno_name) == ("/run/secrets/TOKEN", "ENOENT")
        assert error.hint == f"if it should be allowed, grant `{GRANT}`"
        assert outcome.reported(events.SecretRead) == []
        assert f"{GRANT} is not granted" in outcome.finished.stderr.decode()

    def test_the_granted_twin_reads_it(self) -> None:
        outcome = run("print(len(open('/run/secrets/TOKEN').read()))", GRANT)

        outcome.assert_clean()
        assert outcome.stdout == f"{len(VALUE)}\n"
        (read,) = outcome.reported(events.SecretRead)
        assert (read.secret, read.operation, read.pid) == ("TOKEN", "open", 2)
        granted = outcome.reported(events.CapabilityGranted)
        assert [(g.capability, "tmpfs" in g.enforcement) for g in granted] == [(GRANT, True)]

    def test_a_grant_is_for_one_secret(self) -> None:
        outcome = run(
            "import os\nprint(os.listdir('/run/secrets'))\n"
            "open('/run/secrets/TOKEN')\nopen('/run/secrets/OTHER')",
            GRANT,
        )

        assert outcome.stdout == "['TOKEN']\n"
        outcome.assert_violation("SECRET_ACCESS:OTHER")
        assert [v.capability for v in outcome.violations] == ["SECRET_ACCESS:OTHER"]

    @pytest.mark.threat("T-EXEC-16")
    def test_nothing_of_a_run_is_in_the_next(self) -> None:
        run("open('/run/secrets/TOKEN').read()", GRANT).assert_clean()
        run("import os\nassert os.listdir('/run/secrets') == []").assert_clean()

    def test_what_is_not_read_is_not_reported(self) -> None:
        outcome = run("import os, json\nos.listdir('/run/secrets')", GRANT, "SECRET_ACCESS:OTHER")

        outcome.assert_clean()
        assert outcome.reported(events.SecretRead) == []

    def test_reading_often_is_reported_once(self) -> None:
        outcome = run(
            "import os\nfor _ in range(300):\n    open('/run/secrets/TOKEN').close()\n"
            "if os.fork() == 0:\n    open('/run/secrets/TOKEN').close()\nelse:\n    os.wait()\n",
            GRANT, "SECRET_ACCESS:OTHER",
        )  # fmt: skip

        outcome.assert_clean()
        assert [r.secret for r in outcome.reported(events.SecretRead)] == ["TOKEN"]

    def test_values_come_through_to_the_byte(self) -> None:
        big = bytes(range(256)) * 256
        outcome = run(
            "import hashlib\nfor n in 'ABC':\n"
            "    print(hashlib.sha256(open(f'/run/secrets/{n}', 'rb').read()).hexdigest())",
            *(f"SECRET_ACCESS:{name}" for name in "ABC"),
            secrets={"A": big, "B": b"\0\0\n\xff\xfe end\n", "C": big[::-1]},
        )

        outcome.assert_clean()
        from hashlib import sha256

        values = (big, b"\0\0\n\xff\xfe end\n", big[::-1])
        assert outcome.stdout.split() == [sha256(value).hexdigest() for value in values]

    def test_it_cannot_be_written_to_nor_added_to(self) -> None:
        outcome = run(
            "import os\n"
            "for path, mode in (('TOKEN', 'w'), ('TOKEN', 'r+'), ('NEW', 'w')):\n"
            "    try:\n        open('/run/secrets/' + path, mode)\n"
            "    except OSError as error:\n        print(error.errno)\n"
            "try:\n    os.unlink('/run/secrets/TOKEN')\n"
            "except OSError as error:\n    print(error.errno)\n"
            "print(len(open('/run/secrets/TOKEN').read()))",
            GRANT, on_violation="record",
        )  # fmt: skip

        *refusals, length = map(int, outcome.stdout.split())
        assert set(refusals) <= {13, 30}
        assert len(refusals) == 4
        assert length == len(VALUE)
        assert {v.capability for v in outcome.violations} == {None}
        assert {v.operation for v in outcome.violations} == {"open", "unlink"}

    def test_a_missing_secret_keeps_the_run_from_starting(self, state_dir: Path) -> None:
        outcome = run("print('ran')", GRANT, "SECRET_ACCESS:ABSENT")

        assert isinstance(outcome.error, SecretAccessError)
        assert "`ABSENT` is not there" in outcome.error.message
        assert outcome.error.details["capability"] == "SECRET_ACCESS:ABSENT"
        assert "ABSENT" in str(outcome.error.hint)
        assert outcome.result is None
        assert [event.name for event in outcome.events] == ["CapabilityDenied", "RunRefused"]
        for text in said(outcome):
            assert_unsaid(text)

    def test_a_secret_for_a_host_alone_is_refused(self) -> None:
        outcome = run("print('ran')", f"{GRANT}@api.example.com")

        assert isinstance(outcome.error, CapabilityError)
        assert "TLS" in outcome.error.message
        assert outcome.result is None

    @pytest.mark.threat("T-ORCH-12")
    def test_the_store_is_out_of_reach_of_file_grants(self, area: Path) -> None:
        directory = area / "kept"
        directory.mkdir(0o700)
        for name in ("TOKEN", "OTHER"):
            (directory / name).write_text(STORE[name])
            (directory / name).chmod(0o600)
        (area / "data.txt").write_text("data")
        (area / "data.txt").chmod(0o644)
        store = f"dir:{directory}"

        direct = run("print('ran')", f"FILE_READ:{directory}/OTHER", secrets=store)
        assert isinstance(direct.error, CapabilityError)
        assert "which no grant may" in direct.error.message

        written = run("print('ran')", f"FILE_WRITE:{area}/**", secrets=store)
        assert isinstance(written.error, CapabilityError)
        assert f"contains `{directory}`" in written.error.message

        around = run(
            f"print(open('{area}/data.txt').read(), len(open('/run/secrets/TOKEN').read()))\n"
            f"import os\nprint(os.listdir('{directory}'))\nopen('{directory}/OTHER')",
            GRANT, f"FILE_READ:{area}/**", secrets=store,
        )  # fmt: skip
        assert around.stdout == f"data {len(VALUE)}\n[]\n"
        around.assert_violation(f"FILE_READ:{directory}/OTHER")

    @pytest.mark.threat("T-ORCH-12")
    def test_the_hosts_own_secrets_are_no_file_grant(self) -> None:
        outcome = run("print('ran')", "FILE_READ:/run/secrets/TOKEN")
        assert isinstance(outcome.error, CapabilityError)


@pytest.mark.threat("T-EXEC-17")
class TestHidden:
    """However a script gets to what it was granted, its reading is on record."""

    @pytest.mark.parametrize(
        ("source", "operation"),
        [
            (
                "import os\nos.symlink('/run/secrets', '/tmp/l')\nv = open('/tmp/l/TOKEN').read()",
                "hidden",
            ),
            (
                "import os\nfd = os.open('/run/secrets', os.O_PATH)\n"
                "v = open(f'/proc/self/fd/{fd}/TOKEN').read()",
                "hidden",
            ),
            (
                "import os\nos.dup2(os.open('/run/secrets', os.O_PATH), 0)\n"
                "v = open('/dev/stdin/TOKEN').read()",
                "hidden",
            ),
            (
                "import os\nfd = os.open('/run/secrets', os.O_PATH)\n"
                "fd = os.open(f'/dev/fd/{fd}/TOKEN', os.O_PATH)\n"
                "v = open(f'/proc/thread-self/fd/{fd}').read()",
                "hidden",
            ),
            (
                "import ctypes\nctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0)\n"
                "v = open('/run/secrets/TOKEN').read()",
                "hidden",
            ),
            (
                "import os\nfd = os.open('/run/secrets', os.O_PATH)\n"
                "v = os.read(os.open('TOKEN', os.O_RDONLY, dir_fd=fd), 99)",
                "open",
            ),
            ("import os\nos.chdir('/run/secrets')\nv = open('./../secrets/TOKEN').read()", "open"),
            ("v = open('/proc/self/root/run/secrets/TOKEN').read()", "open"),
        ],
    )
    def test_every_way_to_it_is_reported(self, source: str, operation: str) -> None:
        outcome = run(
            f"{source}\nprint(len(v))", GRANT, "SECRET_ACCESS:OTHER", on_violation="record"
        )

        assert outcome.stdout == f"{len(VALUE)}\n", outcome.finished.stderr
        (read,) = outcome.reported(events.SecretRead)
        assert (read.secret, read.operation) == ("TOKEN", operation)

    def test_a_path_that_changes_under_the_traces_eyes(self) -> None:
        """The trace reads the path from the script's memory again, once the call is done."""
        path, other = b"/run/secrets/TOKEN", b"/tmp/not-a-secret!"
        outcome = run(
            "import ctypes, mmap, os\n"
            "libc, shared = ctypes.CDLL(None), mmap.mmap(-1, 4096)\n"
            "buffer = (ctypes.c_char * 4096).from_buffer(shared)\n"
            "child = os.fork()\n"
            "while child == 0:\n"
            f"    shared[:18] = {path!r}\n    shared[:18] = {other!r}\n"
            "while (fd := libc.open(buffer, 0)) < 0:\n    pass\n"
            "print(len(os.read(fd, 99)))\nos.kill(child, 9)\n",
            GRANT, "SECRET_ACCESS:OTHER", on_violation="record",
        )  # fmt: skip

        assert outcome.stdout == f"{len(VALUE)}\n", outcome.finished.stderr
        (read,) = outcome.reported(events.SecretRead)
        assert read.secret == "TOKEN"
        assert read.operation in ("open", "hidden")

    def test_the_script_goes_on_when_all_is_told(self) -> None:
        outcome = run(
            "import time\nopen('/run/secrets/TOKEN').close()\ntime.sleep(1)\nprint('end')", GRANT
        )

        outcome.assert_clean()
        assert outcome.stdout == "end\n"

    def test_a_daemon_reads_after_the_script(self) -> None:
        code = (
            "import os, time\nif os.fork() == 0:\n    os.close(1)\n    os.close(2)\n"
            "    os.dup2(os.open('/run/secrets', os.O_PATH), 0)\n"
            "    while True:\n        open('/dev/stdin/TOKEN').close()\n"
        )
        outcome = run(code, GRANT, "SECRET_ACCESS:OTHER")

        outcome.assert_clean()
        assert {r.secret for r in outcome.reported(events.SecretRead)} <= {"TOKEN"}

    def test_processes_that_hop_do_not_outlive_the_script(self) -> None:
        """One that is just being forked is missed by the signal that ends all."""
        outcome = run(
            "import os, time\nif os.fork() == 0:\n    os.fork()\n    os.fork()\n"
            "    while True:\n        if os.fork(): os._exit(0)\n"
            "time.sleep(0.3)\n",
            GRANT, "MEMORY:200MiB",
        )  # fmt: skip

        outcome.assert_clean()
        assert outcome.finished.usage.wall_seconds < 20

    def test_what_was_not_told_when_it_was_ended_counts_as_read(self) -> None:
        outcome = run(
            "import time\nopen('/run/secrets/TOKEN').close()\ntime.sleep(60)",
            GRANT, "SECRET_ACCESS:OTHER", wall_seconds=3.0,
        )  # fmt: skip

        told = {r.secret: r.operation for r in outcome.reported(events.SecretRead)}
        assert told == {"TOKEN": "open", "OTHER": "withheld"}


@pytest.mark.threat("T-EXEC-10")
class TestLeaks:
    @pytest.mark.parametrize("times", [1, 40, 4_000])
    def test_inside_it_is_in_its_file_and_nowhere_else(self, times: int) -> None:
        path = "/run/secrets/TOKEN"
        value = VALUE * times
        outcome = run(
            script("hunt_secret"), GRANT, args=[path, VALUE[:7], VALUE[7:]],
            on_violation="record", env={"MODE": "x"}, secrets={"TOKEN": value},
        )  # fmt: skip

        report = outcome.report
        assert report["in its file"], "the hunter finds nothing at all"
        assert report["memory after"], "the hunter finds nothing in memory"
        assert report["files read"] > 30
        assert report["memory read"] > 1 << 20
        assert (report["environment"], report["argv"]) == (False, [])
        assert (report["files"], report["memory"]) == ([], [])
        assert report["listed"] == ["TOKEN"]
        assert report["status"] == ["0o100400", 65534, 65534, 65534, len(value)]
        assert report["mounts"] == ["tmpfs"]

    def test_on_the_host_it_is_nowhere(self, state_dir: Path) -> None:
        chunks: list[tuple[str, bytes]] = []
        looked: list[str] = []

        def look(stream: str, chunk: bytes) -> None:
            chunks.append((stream, chunk))
            if b"ready" in chunk:
                looked.extend(self.hunt(state_dir))

        outcome = run(script("tell_secret"), GRANT, on_output=look)

        assert any(name.endswith("config.json") for name in looked)
        assert any(name.endswith("trace.json") for name in looked)
        assert sum(name.startswith("/proc/") for name in looked) > 3
        self.hunt(state_dir)
        for stream in ("stdout", "stderr"):
            passed = b"".join(chunk for name, chunk in chunks if name == stream)
            assert passed == getattr(outcome.finished, stream)
        for text in said(outcome):
            assert_unsaid(text)

    @staticmethod
    def hunt(state: Path) -> list[str]:
        """Reads every file of the state directory, and what processes tell of themselves."""
        looked: list[str] = []
        for top, _, names in os.walk(state):
            if "/images/" in f"{top}/":
                continue
            for path in (Path(top, name) for name in names):
                if path.is_file() and not path.is_symlink():
                    looked.append(str(path))
                    assert VALUE.encode() not in path.read_bytes(), path
        for entry in filter(str.isdigit, os.listdir("/proc")):
            for name in ("cmdline", "environ"):
                try:
                    data = Path(f"/proc/{entry}/{name}").read_bytes()
                except OSError:
                    continue
                looked.append(f"/proc/{entry}/{name}")
                assert VALUE.encode() not in data, (entry, name)
        for pid in processes_of(state):
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
            # One byte: the kernel then dumps neither into a file nor into a pipe.
            assert core[4:6] == ["1", "1"]
        return looked

    def test_what_was_said_is_scrubbed(self) -> None:
        outcome = run(script("tell_secret"), GRANT)

        lines = dict(line.partition(" ")[::2] for line in outcome.stdout.splitlines() if line)
        mark = "***TOKEN***"
        assert lines["plain"] == mark
        assert lines["repr"] == f"'{mark}' b'{mark}'"
        assert lines["hex"] == f"{mark} {mark}"
        assert lines["url"] == f"https://example.com/?key={mark}"
        assert mark in lines["basic"]
        assert mark in outcome.stdout.splitlines()  # letter by letter
        stderr = outcome.finished.stderr.decode()
        assert f"error with {mark}\n" in stderr
        assert f"ValueError: cannot use {mark}\n" in stderr
        told = {violation.capability for violation in outcome.violations}
        assert {f"FILE_READ:/data/{mark}", f"FILE_WRITE:/srv/{mark}"} <= told
        assert mark in {violation.process_name for violation in outcome.violations}
        assert str(outcome.assert_raised().hint).count("***") == 0

    def test_killed_in_the_middle_it_is_not_begun(self) -> None:
        outcome = run(
            "import time\nv = open('/run/secrets/TOKEN').read()\n"
            "print(v[:-1], end='', flush=True)\ntime.sleep(60)",
            GRANT, wall_seconds=3.0,
        )  # fmt: skip

        assert outcome.finished.stdout == b"***TOKEN***"

    def test_the_output_tells_nothing_of_what_was_not_granted(self) -> None:
        """Else a script's guesses would be answered by what is left of them, or how fast."""
        outcome = run(f"print({STORE['OTHER']!r})", GRANT)
        assert outcome.stdout == f"{STORE['OTHER']}\n"

    def test_a_path_made_of_a_value_is_not_told(self) -> None:
        value = "Zq7//k+t0ken/./Yw/"
        code = (
            "import os\nv = open('/run/secrets/TOKEN').read()\n"
            "try: open('/data/' + v)\nexcept OSError: pass\n"
            "try: os.execv('/data/' + v.rstrip('/'), ['x'])\nexcept OSError: pass\n"
        )
        outcome = run(code, GRANT, secrets={"TOKEN": value}, on_violation="record")
        outcome.assert_violation("FILE_READ:/data/***TOKEN***")
        outcome.assert_violation("EXTERNAL_COMMAND:***TOKEN***")
        assert [text for text in said(outcome) if "t0ken" in text or "Yw" in text] == []

    def test_scripts_without_secrets_are_not_scrubbed(self) -> None:
        outcome = run(f"print('{VALUE}')")
        assert outcome.stdout == f"{VALUE}\n"

    def test_asking_twice_gives_no_hint_of_the_value_in_the_request(self) -> None:
        secret = Secret(name="TOKEN", value=VALUE.encode())
        plan = omnibase.plan("print(1)", capabilities=[GRANT], secrets={"TOKEN": VALUE})
        assert plan.request.secrets == ()
        assert plan.problems == {}
        assert_unsaid(repr(plan) + repr(secret))


@pytest.fixture
def variable() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNIBASE_SECRET_TOKEN", VALUE)
        yield VALUE


@pytest.mark.threat("T-EXEC-10")
@pytest.mark.parametrize("shown", [6, 13])
def test_an_exception_that_its_bounds_cut_within_a_value(shown: int) -> None:
    outcome = run(
        f"x = 'x' * {4096 - shown}\nraise ValueError(x + open('/run/secrets/TOKEN').read())",
        GRANT,
    )
    error = outcome.finished.error
    assert error is not None
    assert error.message == "x" * (4096 - shown) + "***TOKEN***"
    assert VALUE[:shown] not in error.traceback


@pytest.mark.threat("T-ORCH-12")
def test_by_default_secrets_come_from_the_environment(variable: str) -> None:
    code = "import os\nprint(len(open('/run/secrets/TOKEN').read()), dict(os.environ))"
    outcome = observed(lambda bus: omnibase.run(code, capabilities=[GRANT], bus=bus))
    outcome.assert_clean()
    assert outcome.stdout.startswith(f"{len(variable)} ")
    assert "OMNIBASE" not in outcome.stdout


@pytest.mark.threat("T-EXEC-10")
def test_output_that_a_decoder_would_put_together_is_scrubbed_whatever_the_chunks() -> None:
    code = (
        "import base64, sys, time\nv = open('/run/secrets/TOKEN', 'rb').read()\n"
        "text = base64.b64encode(b'x' + v + b'y') + b' ' + v\n"
        "for at in range(0, len(text), 5):\n"
        "    sys.stdout.buffer.write(text[at:at + 5]); sys.stdout.buffer.flush()\n"
        "    time.sleep(0.002)\n"
    )
    outcome = run(code, GRANT)
    outcome.assert_clean()
    assert outcome.stdout.count("***TOKEN***") == 2
    for text in said(outcome):
        assert_unsaid(text)
    whole = base64.b64encode(b"x" + VALUE.encode() + b"y").decode()
    assert len(outcome.stdout) <= 2 * len("***TOKEN***") + 1 + len(whole) - 4 * len(VALUE) // 3 + 2
