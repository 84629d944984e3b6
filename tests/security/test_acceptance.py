"""The acceptance lines: what a script without capabilities cannot do, and one grant's reach."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from omnibase import ResourceLimitExceeded
from omnibase.core import events
from tests.security.harness import DEFAULT_MEMORY, OVERSHOOT, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.capabilities]


@pytest.mark.threat("T-EXEC-01")
def test_no_capabilities_no_passwd(sandbox: SandboxFixture) -> None:
    outcome = sandbox("acceptance")

    assert outcome.report == {"passwd": "PermissionError"}
    violation = outcome.assert_violation("FILE_READ:/etc/passwd", operation="open")
    assert violation.errno_name == "EACCES"
    assert violation.pid > 1
    assert violation.count == 1
    error = outcome.assert_raised()
    assert "FILE_READ:/etc/passwd" in error.message
    assert "FILE_READ:/etc/passwd" in (error.hint or "")


@pytest.mark.threat("T-EXEC-01")
def test_not_one_byte_of_the_hosts_passwd(sandbox: SandboxFixture) -> None:
    outcome = sandbox("acceptance")

    for line in Path("/etc/passwd").read_text().splitlines():
        if not line.startswith("nobody:"):
            assert line not in outcome.stdout


@pytest.mark.threat("T-EXEC-01")
def test_granted_passwd_is_the_hosts(sandbox: SandboxFixture) -> None:
    outcome = sandbox("acceptance", ["FILE_READ:/etc/passwd"])

    outcome.assert_clean()
    assert outcome.report["passwd"] == Path("/etc/passwd").read_text()


@pytest.mark.threat("T-EXEC-06")
def test_no_outbound_tcp(sandbox: SandboxFixture, host_address: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as local,
        socket.create_server((host_address, 0)) as other,
    ):
        addresses = [f"{host}:{port}" for host, port in (local.getsockname(), other.getsockname())]
        # The listeners do answer: from the host itself, a connection gets through.
        for server in (local, other):
            socket.create_connection(server.getsockname()[:2], timeout=5).close()
            server.accept()[0].close()

        outcome = sandbox("acceptance", args=addresses)

        for server in (local, other):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
    for address in addresses:
        assert outcome.report[address] == ("ConnectionRefusedError" if "127." in address else
                                           "OSError")  # fmt: skip
        outcome.assert_violation(f"NETWORK_CONNECT:{address}", operation="connect")
    outcome.assert_raised()


@pytest.mark.threat("T-EXEC-11")
@pytest.mark.parametrize("megabytes", [60, 200])
def test_no_more_than_50_megabytes(sandbox: SandboxFixture, megabytes: int) -> None:
    outcome = sandbox("use_memory", args=[str(megabytes)])

    assert isinstance(outcome.error, ResourceLimitExceeded)
    assert outcome.error.kind == "memory"
    assert outcome.error.details["limit"] == DEFAULT_MEMORY
    assert outcome.finished.usage.peak_memory_bytes <= DEFAULT_MEMORY + OVERSHOOT
    assert outcome.stdout == ""
    assert [limit.kind for limit in outcome.reported(events.ResourceLimitExceeded)] == ["memory"]


@pytest.mark.threat("T-EXEC-11")
def test_granted_memory_is_there(sandbox: SandboxFixture) -> None:
    outcome = sandbox("use_memory", ["MEMORY:128MiB"], args=["60"])

    outcome.assert_clean()
    assert outcome.stdout == "60000000\n"
    assert outcome.finished.usage.peak_memory_bytes > 60_000_000


@pytest.mark.threat("T-EXEC-01", "T-ORCH-13")
def test_one_granted_file_and_not_its_sibling(sandbox: SandboxFixture, data: Path) -> None:
    allowed, other = f"{data}/allowed.txt", f"{data}/other.txt"

    outcome = sandbox("read_files", [f"FILE_READ:{allowed}"], args=[allowed, other])

    assert outcome.report[allowed] == "allowed bytes"
    assert outcome.report[other] in ("ENOENT", "EACCES")
    assert "other bytes" not in outcome.stdout
    assert outcome.report[f"listing of {data}"] in (["allowed.txt"], "EACCES")
    outcome.assert_violation(f"FILE_READ:{other}", operation="open")
    outcome.assert_raised()


@pytest.mark.threat("T-ORCH-13")
def test_the_same_script_with_both_granted(sandbox: SandboxFixture, data: Path) -> None:
    paths = [f"{data}/allowed.txt", f"{data}/other.txt"]

    outcome = sandbox("read_files", [f"FILE_READ:{data}/**"], args=paths)

    outcome.assert_clean()
    assert outcome.report[paths[1]] == "other bytes"


@pytest.mark.threat("T-EXEC-17")
def test_raise_at_the_end_is_the_default(sandbox: SandboxFixture) -> None:
    outcome = sandbox("one_denial", args=["3"])

    outcome.assert_raised()
    assert outcome.stdout == "denied\n" + "still running\n" * 3
    assert outcome.finished.exit_code == 0


@pytest.mark.threat("T-EXEC-17")
def test_kill_ends_the_run_at_the_first(sandbox: SandboxFixture) -> None:
    outcome = sandbox("one_denial", args=["200"], on_violation="kill")

    outcome.assert_violation("FILE_READ:/etc/passwd")
    outcome.assert_raised()
    assert outcome.stdout.count("still running") < 200
    assert outcome.finished.signal == 9
    assert outcome.finished.usage.wall_seconds < 9  # 200 lines take 10 s


@pytest.mark.threat("T-EXEC-17")
def test_record_returns_the_result(sandbox: SandboxFixture) -> None:
    outcome = sandbox("one_denial", args=["1"], on_violation="record")

    assert outcome.error is None
    outcome.assert_violation("FILE_READ:/etc/passwd")
    assert not outcome.finished.ok


@pytest.mark.threat("T-ORCH-07")
def test_order_of_events(sandbox: SandboxFixture) -> None:
    outcome = sandbox("acceptance", ["MEMORY:64MiB"])

    assert [event.name for event in outcome.events] == [
        "CapabilityGranted",
        "SandboxStart",
        "SandboxViolation",
        "SandboxExit",
    ]
    assert {event.runid for event in outcome.events} == {outcome.finished.run_id}
    assert outcome.reported(events.SandboxExit)[0].outcome == "violation"


@pytest.mark.threat("T-EXEC-17")
def test_traceback_names_the_missing_capability(sandbox: SandboxFixture) -> None:
    outcome = sandbox("uncaught_denial")

    stderr = outcome.finished.stderr.decode()
    assert outcome.finished.exit_code == 1
    assert "PermissionError" in stderr
    assert "FILE_READ:/etc/passwd is not granted" in stderr
    outcome.assert_violation("FILE_READ:/etc/passwd")
