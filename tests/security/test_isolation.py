"""The guest tells nothing of the host, of the caller, or of another guest."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from omnibase import CapabilityError
from tests.security.harness import Outcome, SandboxFixture

pytestmark = pytest.mark.sandbox


@pytest.mark.threat("T-EXEC-14")
def test_the_guest_tells_nothing_of_the_host(
    sandbox: SandboxFixture, state_dir: Path, canary: str, area: Path
) -> None:
    (area / "file").write_text("x")
    leaked = os.open(area / "file", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        outcome = sandbox("look_around", [f"FILE_READ:{area}/file"], on_violation="record")
    finally:
        os.close(leaked)

    report = outcome.report
    # Whatever names this machine, this checkout or this process's own world.
    for secret in (canary, str(state_dir), os.uname().release, str(Path.cwd())):
        assert secret not in outcome.stdout, secret
    environment = report["environment"]
    assert environment.pop("LANG") in ("C", "C.UTF-8")
    assert environment.pop("LOCPATH", "/opt/omnibase/").startswith("/opt/omnibase/")
    assert environment == {
        "HOME": "/tmp",
        "LOGNAME": "nobody",
        "PATH": "/opt/omnibase/bin",
        "TMPDIR": "/tmp",
        "TZ": "UTC",
        "USER": "nobody",
    }
    assert report["descriptors"] == [0, 1, 2]
    assert report["hostname"] == "sandbox"
    assert report["uname"][1] == "sandbox"
    assert report["interfaces"] == ["lo"]
    assert report["cpus"] == report["affinity"] == 1
    assert set(report["ids"]) == {65534}
    assert report["pid"] == 2
    assert report["core"] == 0
    assert int(report["capabilities"], 16) == 0
    assert int(report["no new privileges"]) == 1
    assert report["argv"] == ["/run/script/script.py"]
    assert report["path"][0] == "/run/script"
    assert all(path.startswith(("/opt/omnibase/", "/run/script")) for path in report["path"])
    assert report["scratch"] == []
    assert report["grants"] in ([], "closed")
    assert report["guest"] in ([], "closed")
    assert report["files"]["/proc/net/tcp"].count("\n") <= 1
    assert {v.capability for v in outcome.violations} <= {"FILE_READ:/grants", "FILE_READ:/guest"}


@pytest.mark.threat("T-EXEC-14")
def test_only_the_given_environment(sandbox: SandboxFixture, canary: str) -> None:
    outcome = sandbox("look_around", env={"GIVEN": "value"}, on_violation="record", cpus=2.0)

    assert outcome.report["environment"]["GIVEN"] == "value"
    assert canary not in outcome.stdout
    assert outcome.report["cpus"] == 2


@pytest.mark.threat("T-EXEC-16")
def test_two_sandboxes_share_nothing(sandbox: SandboxFixture) -> None:
    outcomes: dict[str, Outcome] = {}

    def run(me: str, other: str) -> None:
        outcomes[me] = sandbox("meet", args=[me, other], on_violation="record", wall_seconds=25.0)

    threads = [threading.Thread(target=run, args=pair) for pair in (("1", "2"), ("2", "1"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for me, outcome in outcomes.items():
        assert outcome.stdout.startswith("ready\n")
        assert outcome.report == {"found": [], "shared memory": -1, "processes": [1, 2]}, me
    assert len({outcome.finished.run_id for outcome in outcomes.values()}) == 2


@pytest.mark.threat("T-EXEC-16")
def test_nothing_of_a_run_is_in_the_next(sandbox: SandboxFixture) -> None:
    sandbox.source(b"open('/tmp/left', 'w').close(); open('/dev/shm/left', 'w').close()\n")

    outcome = sandbox.source(b"import os; print(os.listdir('/tmp'), os.listdir('/dev/shm'))\n")

    assert outcome.stdout == "[] []\n"


@pytest.mark.threat("T-EXEC-18")
def test_forged_messages_reach_nobody(sandbox: SandboxFixture) -> None:
    outcome = sandbox("forge", on_violation="record")

    assert outcome.report["answered"] == []
    assert set(outcome.report["signalled"]) <= {signal.SIGCONT}  # anyone's in its own session
    assert outcome.finished.exit_code == 0
    assert outcome.assert_violation(operation="kill").count >= 63


@pytest.mark.threat("T-ORCH-05")
@pytest.mark.parametrize(
    "grant",
    [
        "FILE_READ:/data/*/deep/**",
        "FILE_READ:/proc/**",
        "FILE_WRITE:/**",
        "NETWORK_CONNECT:host.example:*",
        "NETWORK_CONNECT:localhost:80",
        "EXTERNAL_COMMAND:gi*",
        "SECRET_ACCESS:TOKEN@host.example",
        "MEMORY:1TiB",
        "DATABASE_WRITE:sqlite:/data/x.db",
    ],
)
def test_a_grant_that_cannot_be_enforced_is_refused(sandbox: SandboxFixture, grant: str) -> None:
    outcome = sandbox("look_around", [grant])

    assert isinstance(outcome.error, CapabilityError)
    assert outcome.result is None
    assert [event for event in outcome.events if event.name == "SandboxStart"] == []
