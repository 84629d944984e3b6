"""Granted commands run, and nothing else does: neither by path, by copy nor by the loader."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase import ExternalCommandError, ResourceLimitExceeded
from omnibase.core.events import CapabilityDenied, CommandStarted, SandboxStart
from omnibase.core.registry import Component, open_store
from omnibase.core.sandbox.commands import finding
from omnibase.core.sandbox.commands.layer import prune_layers
from omnibase.core.sandbox.monitor import executions, violations
from tests.security.harness import DEFAULT_MEMORY, OVERSHOOT, Outcome, SandboxFixture

pytestmark = [pytest.mark.capabilities, pytest.mark.threat("T-EXEC-05")]

INSTALL = "run `scripts/setup-commands.sh`, or install git and curl"


def ran(sandbox: SandboxFixture, caps: list[str], *lines: list[str], **quotas: Any) -> Outcome:
    """Runs command lines in the guest; what came of each is in the report."""
    return sandbox("run_commands", caps, args=[json.dumps(lines)], **quotas)


def runs(outcome: Outcome) -> list[Any]:
    """What came of each command line: code, output and errors, or an errno."""
    found = outcome.report["runs"]
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """The commands of these tests are on this machine."""
    assert all(finding.outlook(name) for name in ("git", "curl")), INSTALL


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    """A git repository of one commit, of another user than the script's."""
    path = Path("/var/lib/omnibase-test-repository")
    path.mkdir(mode=0o755)
    try:
        (path / "a.txt").write_text("one\n")
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        for words in (["init", "-q"], ["add", "a.txt"], [*who, "commit", "-qm", "the first"]):
            subprocess.run(["git", "-C", path, *words], check=True, timeout=60)
        yield path
    finally:
        shutil.rmtree(path)


class TestGit:
    def test_a_granted_repository_is_read(self, sandbox: SandboxFixture, repository: Path) -> None:
        caps = ["EXTERNAL_COMMAND:git", f"FILE_READ:{repository}/**"]
        here = ["-C", str(repository)]
        outcome = ran(
            sandbox, caps,
            ["git", *here, "log", "--format=%s"], ["/usr/bin/git", *here, "log", "--format=%s"],
            ["/bin/git", *here, "show", "HEAD:a.txt"], ["git", *here, "status", "--short"],
            ["git", *here, "grep", "-n", "one"],
            ["git", *here, "-c", "diff.autoRefreshIndex=false", "diff"],
            env={"GIT_OPTIONAL_LOCKS": "0"},  # else it tries to note what it found in the index
        )  # fmt: skip
        assert [(run[0], run[1]) for run in runs(outcome)] == [
            (0, "the first"), (0, "the first"), (0, "one"), (0, ""), (0, "a.txt:1:one"), (0, ""),
        ]  # fmt: skip
        outcome.assert_clean()
        assert outcome.reported(CommandStarted) == [
            CommandStarted(command="git", count=1), CommandStarted(command="git", count=6),
        ]  # fmt: skip
        (start,) = outcome.reported(SandboxStart)
        assert dict(start.commands) == {"git": os.path.realpath("/usr/bin/git")}
        digest = subprocess.run(
            ["sha256sum", os.path.realpath("/usr/bin/git")],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.split()[0]  # fmt: skip
        assert dict(start.commands_sha256) == {"git": digest}

    def test_it_reaches_what_the_script_does_and_no_more(
        self, sandbox: SandboxFixture, repository: Path
    ) -> None:
        caps = ["EXTERNAL_COMMAND:git"]
        outcome = ran(sandbox, caps, ["git", "-C", str(repository), "log"])
        assert runs(outcome)[0][0] != 0
        assert "the first" not in outcome.stdout

        caps.append(f"FILE_READ:{repository}/**")
        outcome = ran(
            sandbox, caps,
            ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t", "commit",
             "--allow-empty", "-qm", "second"],
            ["git", "diff", "--no-index", "/etc/shadow", "/dev/null"],
            ["git", "ls-remote", "git://203.0.113.7/x"],
        )  # fmt: skip
        assert all(run[0] != 0 for run in runs(outcome))
        outcome.assert_raised()
        names = {(v.capability or "").partition(":")[0] for v in outcome.violations}
        assert names == {"FILE_READ", "FILE_WRITE", "NETWORK_CONNECT"}
        outcome.assert_violation("FILE_READ:/etc/shadow", operation="open")
        found = outcome.assert_violation("NETWORK_CONNECT:203.0.113.7:9418", operation="connect")
        assert found.process_name == "git"

        outcome = ran(
            sandbox, [caps[0], f"FILE_WRITE:{repository}/**"],
            ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t", "commit",
             "--allow-empty", "-qm", "second"],
        )  # fmt: skip
        outcome.assert_clean()
        log = subprocess.run(
            ["git", "-c", f"safe.directory={repository}", "-C", repository, "log", "--format=%s"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert log.stdout.split("\n")[0] == "second"


def test_several_and_one_with_many_libraries(sandbox: SandboxFixture) -> None:
    caps = [f"EXTERNAL_COMMAND:{name}" for name in ("ls", "tar", "curl", "sort")]
    assert len(finding.libraries_of(finding.find("curl"))) > 10
    outcome = ran(
        sandbox, caps, ["ls", "-la", "/commands/bin"], ["tar", "--version"], ["curl", "--version"],
        ["sort", "/dev/null"], ["ls", "-d", "/nowhere"],
    )  # fmt: skip
    assert [run[0] for run in runs(outcome)] == [0, 0, 0, 0, 2]
    outcome.assert_clean()


def test_a_command_has_the_networks_grants(sandbox: SandboxFixture) -> None:
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        port = server.server_address[1]
        line = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"]
        caps = ["EXTERNAL_COMMAND:curl", f"NETWORK_CONNECT:127.0.0.1:{port}"]
        outcome = ran(sandbox, caps, [*line, f"http://127.0.0.1:{port}/none"])
        assert runs(outcome)[0][:2] == [0, "404"]
        outcome.assert_clean()

    outcome = ran(sandbox, caps, [*line, "http://203.0.113.7/"], [*line, "http://example.com/"])
    assert all(run[0] != 0 for run in runs(outcome))
    found = outcome.assert_violation("NETWORK_CONNECT:203.0.113.7:80", operation="connect")
    assert found.process_name == "curl"
    outcome.assert_violation("NETWORK_CONNECT:example.com:*", evidence="broker")


def test_a_command_that_is_static(
    sandbox: SandboxFixture, area: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = bytes.fromhex("bf07000000b83c0000000f05")  # exits with 7
    base, start = 0x400000, 64 + 56
    size = start + len(code)
    program = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    program += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code
    (area / "seven").write_bytes(program)
    (area / "seven").chmod(0o755)
    monkeypatch.setattr(finding, "SEARCH_PATH", (str(area),))

    outcome = ran(sandbox, ["EXTERNAL_COMMAND:seven"], ["seven"], [f"{area}/seven"])

    assert [run[0] for run in runs(outcome)] == [7, 7]
    outcome.assert_clean()
    (area / "seven").unlink()
    assert len(prune_layers(state_dir)) == 1  # of a program that is no more


@pytest.mark.threat("T-EXEC-04")
class TestDenied:
    def test_a_command_that_was_not_granted(self, sandbox: SandboxFixture) -> None:
        lines = [["id"], ["/usr/bin/id"], ["sh", "-c", "id"], ["no-such-command"]]
        outcome = ran(sandbox, ["EXTERNAL_COMMAND:ls"], *lines)
        assert set(runs(outcome)) == {"ENOENT"}
        error = outcome.assert_raised()
        for name in ("id", "sh", "no-such-command"):
            outcome.assert_violation(f"EXTERNAL_COMMAND:{name}", operation="execve")
        assert outcome.reported(CommandStarted) == []
        assert error.details["commands"] == {
            "EXTERNAL_COMMAND:id": os.path.realpath("/usr/bin/id"),
            "EXTERNAL_COMMAND:sh": os.path.realpath("/usr/bin/sh"),
            "EXTERNAL_COMMAND:no-such-command": None,
        }
        assert error.hint == "if it should be allowed, grant `EXTERNAL_COMMAND:id`"

        granted = ["EXTERNAL_COMMAND:id", "EXTERNAL_COMMAND:sh"]
        outcome = ran(sandbox, granted, ["id", "-u"], ["/usr/bin/id", "-u"], ["sh", "-c", "id -u"])
        assert [(run[0], run[1]) for run in runs(outcome)] == [(0, "65534")] * 3
        outcome.assert_clean()

    def test_a_command_that_no_grant_could_bring(self, sandbox: SandboxFixture) -> None:
        outcome = ran(sandbox, [], ["no-such-command"])
        assert outcome.assert_raised().hint == (
            "`EXTERNAL_COMMAND:no-such-command` cannot be granted: this machine has no such command"
        )

    def test_a_granted_file_hides_the_command_there(self, sandbox: SandboxFixture) -> None:
        path = os.path.realpath("/usr/bin/true")
        caps = ["EXTERNAL_COMMAND:true", f"FILE_READ:{path}"]
        outcome = ran(sandbox, caps, ["true"], [path])
        assert runs(outcome) == [[0, "", ""], "EACCES"]
        assert outcome.assert_raised().hint == (
            "`EXTERNAL_COMMAND:true` is granted: start it by its name, where no granted file "
            "hides it"
        )

    def test_every_way_around(self, sandbox: SandboxFixture, area: Path) -> None:
        for name in ("read", "write"):
            (area / name).mkdir(mode=0o755)
        shutil.copy(os.path.realpath("/bin/true"), area / "read" / "tool")
        outcome = sandbox(
            "execute_around",
            ["EXTERNAL_COMMAND:ls", f"FILE_READ:{area}/read/**", f"FILE_WRITE:{area}/write/**"],
            args=[f"{area}/read", f"{area}/write"],
            on_violation="record",
        )
        report = outcome.report
        for way in ("by its path", "where the host has it", "around", "by a link",
                    "by a descriptor"):  # fmt: skip
            assert report.pop(way) == 0, way
        for way in [way for way in report if way.startswith("the loader")]:
            assert report.pop(way) == 126, way
        assert set(report.values()) <= {"EACCES", "ENOENT", "EROFS"}, report
        for name in ("id", "copied", "copied-link", "tool", "script", "libc.so.6", "exe",
                     "ld-linux-x86-64.so.2"):  # fmt: skip
            outcome.assert_violation(f"EXTERNAL_COMMAND:{name}", operation="execve")
        assert [
            (v.capability, v.count) for v in outcome.violations if v.resource == "/commands/loader"
        ] == [(None, 4)]
        # None was executed but what was granted, by the kernel's own word.
        assert not [v for v in outcome.violations if v.errno == 0 and v.capability is not None]
        assert outcome.reported(CommandStarted)[-1] == CommandStarted(command="ls", count=5)

    def test_no_place_to_write_is_one_to_execute_from(
        self, sandbox: SandboxFixture, area: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMNIBASE_REGISTRY", str(area / "registry"))
        with contextlib.closing(open_store(area / "registry")) as registry:
            registry.add(Component.new(name="report", version="1.0.0", owner="ann"))
        (area / "out").mkdir(0o755)
        caps = ["EXTERNAL_COMMAND:ls", f"FILE_WRITE:{area}/out/**", "ARTIFACT_WRITE:x",
                "REGISTRY_WRITE:x"]  # fmt: skip
        outcome = sandbox("writable_places", caps, on_violation="record")
        assert outcome.report["writable"] == []
        assert set(outcome.report["open"]) <= {"/", "/commands", "/dev", "/dev/pts"}

    def test_code_preloaded_into_a_command_reaches_no_more(
        self, sandbox: SandboxFixture, area: Path
    ) -> None:
        outcome = sandbox("preload", ["EXTERNAL_COMMAND:ls"], on_violation="record")
        # It runs, as it might by ctypes in Python itself.
        assert outcome.report == {"code": 0, "out": "in\n/\n", "err": ""}
        shadow = outcome.assert_violation("FILE_READ:/etc/shadow", operation="open")
        evil = outcome.assert_violation("EXTERNAL_COMMAND:evil", operation="execve")
        assert (shadow.process_name, evil.process_name) == ("ls", "ls")
        assert (shadow.errno_name, evil.errno_name) == ("EACCES", "EACCES")


class TestLimits:
    """What a command uses is the run's, and it ends with the run."""

    @pytest.mark.threat("T-EXEC-11")
    def test_memory(self, sandbox: SandboxFixture) -> None:
        # tail keeps what it is to print in memory.
        line = ["sh", "-c", "head -c 400000000 /dev/zero | tail -c 300000000 | wc -c"]
        caps = [f"EXTERNAL_COMMAND:{name}" for name in ("sh", "head", "tail", "wc")]
        outcome = ran(sandbox, caps, line)
        assert isinstance(outcome.error, ResourceLimitExceeded)
        assert outcome.error.kind == "memory"
        assert outcome.finished.usage.peak_memory_bytes <= DEFAULT_MEMORY + OVERSHOOT

    @pytest.mark.threat("T-EXEC-12")
    def test_processes(self, sandbox: SandboxFixture) -> None:
        line = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 2 & done; wait"]
        caps = ["EXTERNAL_COMMAND:sh", "EXTERNAL_COMMAND:sleep", "MEMORY:200MiB"]
        outcome = ran(sandbox, caps, line, pids=8)
        assert "fork" in runs(outcome)[0][2]
        assert "pids" in outcome.finished.limits

    @pytest.mark.threat("T-EXEC-21")
    def test_what_outlives_the_script_ends_with_it(self, sandbox: SandboxFixture) -> None:
        outcome = sandbox.source(
            b"import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)\n",
            ["EXTERNAL_COMMAND:sleep"],
        )
        outcome.assert_clean()
        assert outcome.finished.usage.wall_seconds < 30
        assert outcome.reported(CommandStarted) == [CommandStarted(command="sleep", count=1)]

    def test_a_program_takes_the_place_of_one_with_threads(self, sandbox: SandboxFixture) -> None:
        """Their ends are no calls that seccomp ended."""
        outcome = sandbox.source(
            b"import os, threading, time\n"
            b"def go():\n    os.execv('/commands/bin/ls', ['ls', '-d', '/'])\n"
            b"for beside in (False, True):\n"
            b"    if os.fork() == 0:\n"
            b"        for _ in range(3):\n"
            b"            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
            b"        time.sleep(0.2)\n"
            b"        threading.Thread(target=go).start() if beside else go()\n"
            b"        time.sleep(60)\n"
            b"    os.wait()\n",
            ["EXTERNAL_COMMAND:ls"],
        )
        outcome.assert_clean()
        assert outcome.stdout == "/\n/\n"


@pytest.mark.threat("T-EXEC-17")
def test_what_the_trace_cannot_carry_is_no_clean_run(sandbox: SandboxFixture) -> None:
    """A command whose arguments are not UTF-8 runs, and is not told apart from any other."""
    source = b"import subprocess\nsubprocess.run([b'ls', b'/\\xff'])\n"
    outcome = sandbox.source(source, ["EXTERNAL_COMMAND:ls"])
    outcome.assert_raised()
    assert [(v.operation, v.errno) for v in outcome.violations] == [("execve", 0)]


def test_what_is_executed_and_was_not_granted_ends_the_run(
    sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a construction fail: here the judge alone knows of no grant."""
    monkeypatch.setattr(violations, "Executions", lambda _commands: executions.Executions())
    outcome = sandbox.source(
        b"import subprocess, time\n"
        b"subprocess.run(['ls', '-d', '/'], capture_output=True)\n"
        b"time.sleep(60)\nprint('went on')\n",
        ["EXTERNAL_COMMAND:ls"],
        on_violation="record",
    )
    found = outcome.assert_violation("EXTERNAL_COMMAND:ls", operation="execve")
    assert (found.resource, found.errno) == ("/commands/bin/ls", 0)
    assert found.reason is not None
    assert outcome.stdout == ""
    assert outcome.finished.usage.wall_seconds < 50


class TestSetUp:
    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("no-such-command", "this machine has no `no-such-command`"),
            ("ldd", "is a script"),
            ("su", "is set-user-id"),
        ],
    )
    def test_what_cannot_be_brought_in(self, sandbox: SandboxFixture, name: str, why: str) -> None:
        outcome = sandbox.source(b"print('ran')\n", [f"EXTERNAL_COMMAND:{name}"])
        assert isinstance(outcome.error, ExternalCommandError)
        assert why in outcome.error.message
        assert outcome.error.details["capability"] == f"EXTERNAL_COMMAND:{name}"
        (denied,) = outcome.reported(CapabilityDenied)
        assert (denied.capability, denied.reason) == (
            f"EXTERNAL_COMMAND:{name}", outcome.error.message,
        )  # fmt: skip
        assert outcome.reported(SandboxStart) == []
