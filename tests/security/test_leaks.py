"""What the guest can learn of its host: all that can be read there, searched for what names it."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import pytest

from tests.security.harness import Outcome, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-14")]

# What hosts and users are called that may well stand in a guest for another reason.
_COMMON = {"sandbox", "localhost", "debian", "ubuntu", "fedora", "python", "syslog"}


def _first(path: str) -> str:
    try:
        return Path(path).read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""


def _secrets(outcome: Outcome, state: Path, address: str, canary: str) -> dict[str, str]:
    """What names this host, its users, this process and this run."""
    names = {
        "name": socket.gethostname(),
        "kernel": os.uname().release,
        "kernel's build": os.uname().version,
        "boot": _first("/proc/sys/kernel/random/boot_id"),
        "machine": _first("/etc/machine-id"),
        "address": address,
        "state directory": str(state),
        "working directory": os.getcwd(),
        "environment": canary,
        "run": outcome.finished.run_id,
        "cgroup": _first("/proc/self/cgroup").rpartition(":")[2].strip("/"),
    }
    for number, line in enumerate(Path("/etc/passwd").read_text().splitlines()):
        user, _, uid = line.split(":")[:3]
        if "-" in user or 1000 <= int(uid) < 65534:  # others are called as elsewhere
            names[f"user {number}"] = user
    for number, line in enumerate(Path("/proc/self/mountinfo").read_text().splitlines()):
        names[f"mount {number}"] = line.split()[4]
    return {what: text for what, text in names.items() if len(text) > 5 and text not in _COMMON}


def test_nothing_that_can_be_read_names_the_host(
    sandbox: SandboxFixture, state_dir: Path, host_address: str, canary: str
) -> None:
    outcome = sandbox("tell_all", ["MEMORY:128MiB"], on_violation="record")

    assert len(outcome.report) > 100, outcome.finished.stderr
    for what, text in _secrets(outcome, state_dir, host_address, canary).items():
        if what.startswith("mount ") and text.startswith(("/proc", "/sys", "/dev")):
            continue  # the guest has some of these as well
        found = re.search(rf"(?<![\w-]){re.escape(text)}(?![\w-])", outcome.stdout)
        assert found is None, (what, outcome.stdout[found.start() - 200 :][:400])
    # Asking for what belongs to others is on record; looking at its own world is not.
    outcome.assert_violation("FILE_READ:/etc/passwd")
    assert outcome.report["users"] == ["nobody"]


def test_it_knows_its_own_control_group_and_boot_alone(sandbox: SandboxFixture) -> None:
    outcome = sandbox("tell_all", ["MEMORY:128MiB"], on_violation="record")

    report = outcome.report
    assert {line.rpartition(":")[2] for line in report["/proc/self/cgroup"].splitlines()} == {"/"}
    assert report["boot"] < time.clock_gettime(time.CLOCK_BOOTTIME)
    assert report["boot"] < 60  # its own kernel's, since it was started
    mounts = {line.split()[4] for line in report["/proc/self/mountinfo"].splitlines()}
    assert {"/", "/tmp"} <= mounts <= {"/", "/proc", "/dev", "/sys", "/run", "/tmp", "/dev/pts",
                                       "/dev/shm"}  # fmt: skip
    for name in os.listdir("/proc/self/ns"):
        assert report.get(f"link ns/{name}") != os.readlink(f"/proc/self/ns/{name}")


def test_the_granted_twin_is_told(sandbox: SandboxFixture, area: Path, canary: str) -> None:
    (area / "granted.txt").write_text("the content of a granted file")

    outcome = sandbox(
        "tell_all",
        ["MEMORY:128MiB", f"FILE_READ:{area}/granted.txt"],
        args=[f"{area}/granted.txt"],
        env={"OMNIBASE_TEST_CANARY": canary},
        on_violation="record",
    )

    assert outcome.report[f"{area}/granted.txt"] == "the content of a granted file"
    assert outcome.report["environment"]["OMNIBASE_TEST_CANARY"] == canary
