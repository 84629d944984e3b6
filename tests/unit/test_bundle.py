"""The OCI bundle: what runsc is told, the job of the agent, and the filter of the script."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from typing import Any

import pytest

from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox import syscalls
from omnibase.core.sandbox.bundle import (
    boot_message,
    job_message,
    oci_config,
    to_bytes,
    trace_config,
)
from omnibase.core.sandbox.commands.layout import Command
from omnibase.core.sandbox.seccomp import compile_filter
from omnibase.core.sandbox.syscalls import SECCOMP
from omnibase.core.secrets import Secret
from tests.helpers import agent
from tests.helpers.specs import compiled

PARSE = agent.load()._parse_job


def config(*capabilities: str, grants: str | None = None, **options: Any) -> dict[str, Any]:
    return oci_config(compiled(*capabilities, **options), scratch_dir="/s", grants_dir=grants)


def mounts(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in document["mounts"]}


def test_it_is_json() -> None:
    document = config("FILE_READ:/data/**", grants="/g")
    assert json.loads(to_bytes(document)) == document


def test_nothing_of_the_hosts_environment_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIBASE_TEST_SECRET", "hunter2-hunter2")
    document = config(environment={"MINE": "1"})
    assert b"hunter2" not in to_bytes(document)
    names = {entry.partition("=")[0] for entry in document["process"]["env"]}
    assert names == {"HOME", "LANG", "LOGNAME", "MINE", "PATH", "TMPDIR", "TZ", "USER"}


def test_the_process_is_the_agent_with_little() -> None:
    process = config()["process"]
    assert process["args"] == [
        "/opt/omnibase/bin/python3.11", "-B", "-s", "-P", "/opt/omnibase/agent/init.pyc",
    ]  # fmt: skip
    assert process["noNewPrivileges"] is True
    assert process["terminal"] is False
    capabilities = process["capabilities"]
    assert set(capabilities) == {"bounding", "effective", "permitted"}
    assert not set(capabilities["bounding"]) & {
        "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_MKNOD",
        "CAP_SETPCAP", "CAP_SYS_TIME", "CAP_SYS_BOOT",
    }  # fmt: skip


def test_limits() -> None:
    # The script's first process was forked before it became nobody: it is not counted.
    limits = config(context=ExecutionContext(pids=9))["process"]["rlimits"]
    values = {limit["type"]: (limit["soft"], limit["hard"]) for limit in limits}
    assert values == {
        "RLIMIT_NOFILE": (1024, 1024), "RLIMIT_NPROC": (8, 8), "RLIMIT_CORE": (0, 0),
    }  # fmt: skip


def test_namespaces_are_new() -> None:
    namespaces = config()["linux"]["namespaces"]
    assert {entry["type"] for entry in namespaces} == {"pid", "network", "ipc", "uts", "mount"}
    assert not any("path" in entry for entry in namespaces)


def test_whatever_can_be_written_cannot_be_executed() -> None:
    for place, mount in mounts(config("FILE_READ:/data/**", grants="/g")).items():
        if place in ("/proc", "/dev"):
            continue
        assert {"nosuid", "nodev", "noexec"} <= set(mount["options"]), place


def test_scratch_is_a_tmpfs_on_disk_of_the_size_asked_for() -> None:
    document = config(context=ExecutionContext(scratch_bytes=1 << 20))
    assert mounts(document)["/tmp"]["source"] == "/s"
    options = document["annotations"]["dev.gvisor.spec.mount.scratch.options"]
    assert options.split(",")[-1] == f"size={1 << 20}"
    assert "noexec" in options.split(",")


def test_grants_are_mounted_only_if_there_are_any() -> None:
    assert "/grants" not in mounts(config())
    mount = mounts(config("FILE_READ:/data/**", grants="/g"))["/grants"]
    assert mount["source"] == "/g"
    assert "rslave" in mount["options"]
    assert not any(m["source"] == "/data" for m in config("FILE_READ:/data/**")["mounts"])


def test_the_trace_session_watches_every_table() -> None:
    session = trace_config("/run/x")["trace_session"]
    assert session["sinks"][0]["config"]["endpoint"] == "/run/x"
    names = [point["name"] for point in session["points"]]
    assert len(set(names)) == len(names)
    assert "container/start" in names
    for table in (
        syscalls.NATIVE, syscalls.FILE_CHANGES, syscalls.SENDS, syscalls.FORKS,
        syscalls.PRIVILEGE, syscalls.NAMED,
    ):  # fmt: skip
        for number in table:
            assert f"syscall/sysno/{number}/exit" in names
    json.dumps(session)


def test_a_job_is_read_back() -> None:
    spec = compiled("ARTIFACT_WRITE:*", context=ExecutionContext(cpus=1.5, artifact_count=5))
    spec = replace(spec, imports=("/venv/site",))
    script = b"print(1)\0\xff"
    message = job_message(
        spec, name="a b.py", script=script, argv=("", "ü", "\udcff", "-x"),
        mounts=[
            ("/grants/0", "/data", True, False), ("/grants/1", "/data/x", False, True),
            ("/grants/2", "/artifacts", True, False),
        ],
        masks=[("/data/secret", True), ("/data/file", False)], pinned=("/data/up",),
        secrets=(Secret(name="B", value=b"two\0two"), Secret(name="a.b", value=b"\xff" * 9)),
        commands=(Command(name="x", path="/y", sha256="", places=("/usr/bin/x", "/bin/x")),),
    )  # fmt: skip
    size = int.from_bytes(message[:4], "little")
    assert PARSE(message[4 : 4 + size]) == {
        "path": "/run/script/a b.py",
        "size": len(script),
        "cpus": 2,
        "processes": 63,
        "environment": [],
        "session": False,
        "argv": ["", "ü", "\udcff", "-x"],
        # Of all artifacts, the script has but those that are there.
        "granted": ["/data/", "/data/x", "/artifacts/out/"],
        "pinned": ["/data/up"],
        "filter": compile_filter(SECCOMP),
        "egress": [],
        "commands": ["/usr/bin/x", "/bin/x"],
        "outlets": ["/artifacts/out", "5", "67108864"],
        "imports": ["/venv/site"],
        "masks": [("/data/secret", True), ("/data/file", False)],
        "mounts": [
            ("/grants/0", "/data", True, False),
            ("/grants/1", "/data/x", False, True),
            ("/grants/2", "/artifacts", True, False),
        ],
        "secrets": [("B", 7), ("a.b", 9)],
    }
    assert message[4 + size :] == script + b"two\0two" + b"\xff" * 9


def test_a_job_with_nothing() -> None:
    message = job_message(compiled(), name="s.py", script=b"", argv=(), mounts=[])
    job = PARSE(message[4:])
    assert (job["argv"], job["granted"], job["pinned"], job["masks"], job["mounts"]) == (
        [], [], [], [], [],
    )  # fmt: skip
    assert (job["size"], job["cpus"], job["secrets"], job["outlets"]) == (0, 1, [], [])


def test_a_job_for_a_warm_sandbox_has_what_the_others_have_at_their_start() -> None:
    spec = compiled(context=ExecutionContext(pids=9), environment={"A": "1=2\n"})
    message = job_message(spec, name="s.py", script=b"x", argv=(), mounts=[], warm=True)
    size = int.from_bytes(message[:4], "little")
    job = PARSE(message[4 : 4 + size])
    assert job["environment"] == [f"{name}={value}" for name, value in spec.environment]
    assert "A=1=2\n" in job["environment"]
    assert job["session"] is False
    assert (job["processes"], job["filter"]) == (8, b"")
    assert message[4 + size :] == b"x"


def test_a_warm_sandbox_is_told_its_filter_and_its_imports() -> None:
    message = boot_message(compiled(), ("json", "email.mime"), [])
    assert int.from_bytes(message[:4], "little") == len(message) - 4
    program, *rest = message[4:].decode().split("\0")
    assert bytes.fromhex(program) == compile_filter(SECCOMP)
    assert rest == ["1", "0", "0", "json", "email.mime"]


def test_and_the_packages_that_are_there_before_a_job() -> None:
    spec = replace(compiled(), imports=("/site",))
    message = boot_message(spec, ("numpy",), [("/grants/early-0", "/site", True, False)])
    _, *rest = message[4:].decode().split("\0")
    assert rest == ["1", "2", "/grants/early-0", "/site", "1", "/site", "numpy"]


def test_a_warm_sandbox_is_started_with_what_any_job_may_need() -> None:
    cold = config("NETWORK_CONNECT:example.com:443")["process"]
    warm = oci_config(compiled(), scratch_dir="/s", grants_dir="/g", warm=True)["process"]
    assert warm["capabilities"] == cold["capabilities"]
    assert warm["args"] == [*cold["args"], "warm"]
    limits = {limit["type"]: limit["hard"] for limit in warm["rlimits"]}
    assert limits == {"RLIMIT_NOFILE": 8192, "RLIMIT_NPROC": 32767, "RLIMIT_CORE": 0}


class Filter:
    """Runs classic BPF as the kernel would: load, and, jump if equal, return."""

    def __init__(self, program: bytes) -> None:
        self.steps = list(struct.iter_unpack("<HBBI", program))

    def __call__(self, number: int, *args: int, arch: int = 0xC000003E) -> int:
        data = struct.pack("<IIQ6Q", number, arch, 0, *args, *[0] * (6 - len(args)))
        at = accumulator = 0
        while True:
            code, if_true, if_false, value = self.steps[at]
            at += 1
            if code == 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            elif code == 0x54:
                accumulator &= value
            elif code == 0x15:
                at += if_true if accumulator == value else if_false
            elif code == 0x06:
                return value
            else:
                raise AssertionError(f"unknown instruction {code:#x}")


class TestFilter:
    ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
    run = Filter(compile_filter(SECCOMP))

    def test_another_architecture_is_killed(self) -> None:
        assert self.run(0, arch=0x40000003) == self.KILL

    @pytest.mark.parametrize("number", [0, 1, 2, 9, 13, 39, 57, 59, 231, 257, 318])
    def test_everyday_calls_pass(self, number: int) -> None:
        assert self.run(number) == self.ALLOW

    def test_every_rule_decides_as_it_says(self) -> None:
        for rule in SECCOMP:
            verdict = self.KILL if rule.errno is None else self.ERRNO | rule.errno
            args = [0] * 6
            for arg in rule.args:
                args[arg.index] = arg.value
            for number in rule.numbers:
                assert self.run(number, *args) == verdict, rule
                for arg in rule.args:
                    # High halves and bits outside the mask make no difference.
                    wider = list(args)
                    wider[arg.index] |= (1 << 63) | (~arg.mask & 0xFFFFFFFF)
                    assert self.run(number, *wider) == verdict, rule

    def test_a_rule_with_conditions_lets_others_pass(self) -> None:
        assert self.run(56, 0x11) == self.ALLOW  # clone(SIGCHLD), a fork
        assert self.run(56, 0x00020000 | 0x11) != self.ALLOW  # clone(CLONE_NEWNS)
        assert self.run(133, 0, 0o010644) == self.ALLOW  # mknod of a FIFO
        assert self.run(133, 0, 0o020644) == self.KILL  # mknod of a device

    def test_an_empty_table_allows_everything_on_this_architecture(self) -> None:
        run = Filter(compile_filter(()))
        assert run(319) == self.ALLOW
        assert run(319, arch=1) == self.KILL

    def test_it_is_short_enough_for_the_kernel(self) -> None:
        assert len(compile_filter(SECCOMP)) // 8 <= 4096


def test_job_paths_are_bytes_to_the_kernel() -> None:
    name = os.fsdecode(b"\xff\xfe.py")
    message = job_message(compiled(), name=name, script=b"", argv=(), mounts=[])
    assert b"/run/script/\xff\xfe.py\0" in message
