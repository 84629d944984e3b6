"""`omnibase sandbox explain`, `capabilities` and `doctor`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from omnibase.core.audit import AuditLog
from omnibase.core.audit.open_runs import OpenRun
from omnibase.core.events import Emitter, EventBus, SandboxStart
from omnibase.core.sandbox.cgroup import Cgroup, Hierarchy
from tests.helpers.audit import events
from tests.helpers.cli import NO_RUNTIME, eventually, omnibase, run_ids, started


@pytest.fixture
def data() -> Iterator[Path]:
    path = Path("/srv") / f"ob-cli-{secrets.token_hex(4)}"
    path.mkdir()
    for name in ("a.csv", "b.csv"):
        (path / name).write_text(name)
    (path / "link").symlink_to("/etc/hostname")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text("open('/tmp/ran', 'w'); print('ran')\n")
    return path


def test_explain_shows_everything_and_runs_nothing(script: Path, data: Path) -> None:
    said = omnibase(
        "sandbox", "explain", script, "--allow", f"FILE_READ:{data}/*.csv", "--memory", "100MB",
        "--env", "MODE=fast", "--cpus", "2", "--", "x y",
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    for words in (
        "script.py, 36 bytes",
        "arguments  'x y'",
        f"FILE_READ:{data}/*.csv",
        "MEMORY:100MB",
        "memory limit of the run's cgroup",
        f"{data}/a.csv -> {data}/a.csv   (FILE_READ:{data}/*.csv)",
        f"ro file     {data}/b.csv",
        "memory     100 MB",
        "CPUs       2",
        "MODE     fast",
        "unshare",
        "memfd_create",
        "image      sha256:",
    ):
        assert words in said.text
    assert "\nran" not in said.text


def test_explain_as_json(script: Path, data: Path) -> None:
    said = omnibase("sandbox", "explain", script, "--allow", f"FILE_WRITE:{data}/**", "--json",
                    "--timeout", "7")  # fmt: skip
    plan = json.loads(said.out)
    assert said.code == 0
    assert plan["mounts"] == [
        {
            "source": str(data), "target": str(data), "mode": "rw", "kind": "directory",
            "capability": f"FILE_WRITE:{data}/**",
        }
    ]  # fmt: skip
    assert plan["quotas"]["wall_seconds"] == 7.0
    assert plan["quotas"]["memory_bytes"] == 50_000_000
    assert list(plan["grants"]) == [f"FILE_WRITE:{data}/**"]
    assert plan["problems"] == []
    assert "ptrace" in plan["syscalls"]["refused_by_kernel"]


def test_explain_prints_the_oci_configuration(script: Path) -> None:
    said = omnibase("sandbox", "explain", script, "--oci", "--env", "A=b")
    config = json.loads(said.out)
    assert said.code == 0
    assert config["process"]["noNewPrivileges"] is True
    assert "A=b" in config["process"]["env"]


def test_explain_names_every_grant_that_would_be_refused(script: Path, data: Path) -> None:
    grants = (f"FILE_READ:{data}/missing", f"FILE_READ:{data}/link", f"FILE_READ:{data}/a.csv")
    flags = [word for grant in grants for word in ("--allow", grant)]
    said = omnibase("sandbox", "explain", script, *flags)
    assert said.code == 2
    assert f"{data}/a.csv -> {data}/a.csv" in said.text
    assert f"`{data}/missing` does not exist" in said.err
    assert f"`{data}/link` is a symbolic link" in said.err
    # As the run itself would end.
    assert omnibase("sandbox", "run", script, *flags).code == 2


def test_explain_leaves_standard_input_alone(script: Path) -> None:
    assert omnibase("sandbox", "explain", script, "--stdin", "-", stdin=b"x" * 100).code == 0
    assert "script.py, 5 bytes" in omnibase("sandbox", "explain", "-", stdin=b"1 + 1").text


def test_capabilities_check_says_what_would_be_enforced(tmp_path: Path, data: Path) -> None:
    caps = tmp_path / "caps.json"
    wanted = ["MEMORY:0128MiB", f"FILE_READ:{data}/a.csv", f"FILE_READ:{data}/none",
              "DATABASE_WRITE:sqlite:/x.db", "FILE_READ:/proc/cpuinfo"]  # fmt: skip
    caps.write_text(json.dumps({"version": 1, "capabilities": wanted}))
    said = omnibase("capabilities", "check", caps, **NO_RUNTIME)
    assert (said.code, said.err) == (0, "")
    lines = said.text.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["no", "no", "ok", "now", "ok"]
    assert lines[-1] == "5 capabilities, 2 of which a run would get here and now"
    said = omnibase("capabilities", "check", caps, "--json")
    rows = {row["capability"]: row for row in json.loads(said.out)["capabilities"]}
    assert rows["MEMORY:128MiB"]["enforced"] is True
    assert rows["DATABASE_WRITE:sqlite:/x.db"]["enforced"] is False
    assert rows[f"FILE_READ:{data}/none"]["problem"] == f"`{data}/none` does not exist"
    assert rows[f"FILE_READ:{data}/none"]["enforced"] is True


def test_an_empty_capability_file_is_valid(tmp_path: Path) -> None:
    (tmp_path / "caps.json").write_text("[]")
    said = omnibase("capabilities", "check", tmp_path / "caps.json")
    assert (said.code, said.text.splitlines()[-1][:14]) == (0, "0 capabilities")


def test_capabilities_schema(tmp_path: Path) -> None:
    said = omnibase("capabilities", "schema")
    schema = json.loads(said.out)
    assert said.code == 0
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"version": 1, "capabilities": ["FILE_READ:/data/**"]}, schema)


def test_doctor_finds_this_machine_fit() -> None:
    said = omnibase("doctor", "--json")
    report = json.loads(said.out)
    checks = {check["name"]: check for check in report["checks"]}
    assert (said.code, said.err, report["ok"]) == (0, "", True)
    assert {"python", "kernel", "root", "runsc", "cgroup", "namespaces", "idmapped mounts",
            "platform systrap", "platform ptrace", "platform kvm", "state", "image",
            "smoke run", "secrets", "network grants", "commands"} == set(checks)  # fmt: skip
    assert checks["smoke run"]["status"] == "ok"
    assert os.environ["OMNIBASE_STATE_DIR"] in checks["state"]["detail"]
    for check in report["checks"]:
        assert check["status"] == "ok" or check["fix"]


def test_doctor_says_what_is_missing_and_how_to_mend_it() -> None:
    said = omnibase("doctor", **NO_RUNTIME)
    assert said.code == 1
    assert "FAIL  runsc               `RUNSC=/nonexistent/runsc` is not an executable" in said.text
    assert "fix: run `scripts/setup-runsc.sh`" in said.text
    assert "FAIL  smoke run           not tried: runsc" in said.text
    assert said.text.endswith("no sandbox can run here yet\n")


def test_doctor_names_a_state_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = omnibase("doctor", "--json", OMNIBASE_STATE_DIR=str(tmp_path / "file"))
    checks = {check["name"]: check for check in json.loads(said.out)["checks"]}
    assert said.code == 1
    assert checks["state"]["status"] == "failed"
    assert "OMNIBASE_STATE_DIR" in checks["state"]["fix"]
    said = omnibase("doctor", "--clean", OMNIBASE_STATE_DIR=str(tmp_path / "file"))
    assert said.code == 2


def test_doctor_cleans_when_there_is_nothing(state_directory: Path) -> None:
    said = omnibase("doctor", "--clean", "--json")
    removed = [path for path in json.loads(said.out)["removed"] if "/cgroup/" not in path]
    assert (said.code, removed) == (0, [])  # control groups may be anybody's on this machine
    assert run_ids(state_directory) == []


def _lost_run(state: Path, log: Path) -> str:
    """A run whose process is gone, with its start on record."""
    bus = EventBus()
    bus.subscribe(AuditLog(log))
    emitter = Emitter(bus)
    note = OpenRun(state / "open", bus, emitter)
    note.begin(emitter.runid)
    emitter.emit(
        SandboxStart(script="x", script_sha256="0" * 64, platform="p", runtime_version="r")
    )
    note.release()
    bus.close()
    return emitter.runid


def test_doctor_finds_what_nobody_sweeps(state_directory: Path, tmp_path: Path) -> None:
    """A control group without a directory, and a run that nobody ended."""
    log, run = tmp_path / "log", _lost_run(state_directory, tmp_path / "log")
    cgroup = Cgroup(Hierarchy.detect(), run)
    cgroup.create(memory_bytes=100_000_000, cpus=1, host_pids=9)
    checks = {each["name"]: each for each in json.loads(omnibase("doctor", "--json").out)["checks"]}
    for name, says in (("cgroup", "of runs whose directory is gone"), ("state", "1 ends to be")):
        assert checks[name]["status"] == "warning"
        assert says in checks[name]["detail"]
        assert "doctor --clean" in checks[name]["fix"]
    assert [event.name for event in events(log)][1:] == ["RunRecovered", "SandboxExit"]  # by a run
    assert all(os.path.exists(path) for path in cgroup.paths)

    run = _lost_run(state_directory, log)
    report = json.loads(omnibase("doctor", "--clean", "--json").out)
    assert set(cgroup.paths) <= set(report["removed"])
    assert report["recovered"] == [run]
    assert not any(os.path.exists(path) for path in cgroup.paths)
    assert [event.name for event in events(log) if event.runid == run][-1] == "SandboxExit"


def test_doctor_interrupted_leaves_no_probe(tmp_path: Path) -> None:
    """A platform that hangs (a `runsc` that sleeps) must not outlive who tried it."""
    runsc = tmp_path / "runsc"
    runsc.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && echo "runsc version release-20240729.0" && exit\n'
        "exec sleep 777\n"
    )
    runsc.chmod(0o755)
    with started("doctor", env={**os.environ, "RUNSC": str(runsc)}) as process:

        def probes() -> list[str]:
            lines = Path(f"/proc/{process.pid}/task").glob("*/children")
            return [pid for path in lines for pid in path.read_text().split()]

        assert eventually(lambda: len(probes()) >= 2)
        found = probes()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))
