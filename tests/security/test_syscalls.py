"""System calls that a script never needs: each refused, each reported."""

from __future__ import annotations

import json

import pytest

from omnibase.core.sandbox.syscalls import FILE_CHANGES, NATIVE, SECCOMP, SIGSYS
from tests.security.harness import Outcome, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-03")]

_UNPRIVILEGED = {
    "EPERM", "ENOSYS", "EACCES", "EINVAL", "EBADF", "EFAULT", "ENODEV", "EOPNOTSUPP", "ENOTSUP",
    "ESRCH",
}  # fmt: skip
# With no argument at all `unshare` asks for nothing, and gets it.
_ARGUMENTS: dict[str, list[int | str]] = {
    "unshare": [0x10000000],
    "bpf": [0, "BUFFER", 128],
    "perf_event_open": ["BUFFER", 0, -1, -1, 0],
    "io_uring_setup": [8, "BUFFER"],
    "add_key": ["user", "x", "y", 1, -3],
    "mount": ["none", "/tmp", "tmpfs", 0, 0],
    "ptrace": [16, 1],
    "adjtimex": ["BUFFER"],
}
_S_IFCHR, _S_IFBLK = 0o020666, 0o060666
_FILTERED: dict[str, list[list[int | str]]] = {
    "memfd_create": [[319, "x", 0]],
    "process_vm_readv": [[310, "SELF", 0, 0, 0, 0, 0]],
    "process_vm_writev": [[311, "SELF", 0, 0, 0, 0, 0]],
    "keyctl": [[250, 0, -3, 1]],
    "mknod": [[133, "/tmp/c", _S_IFCHR, 0x103], [133, "/tmp/b", _S_IFBLK, 0x800],
              [133, "/tmp/s", 0o104755, 0]],
    "mknodat": [[259, -100, "/tmp/c", _S_IFCHR, 0x103], [259, -100, "/tmp/b", _S_IFBLK, 0x800],
                [259, -100, "/tmp/s", 0o102755, 0]],
    "chmod": [[90, "/tmp", 0o4755], [90, "/tmp", 0o2755]],
    "fchmod": [[91, 0, 0o4755], [91, 0, 0o2755]],
    "fchmodat": [[268, -100, "/tmp", 0o4755], [268, -100, "/tmp", 0o2755]],
    "creat": [[85, "/tmp/x", 0o4755], [85, "/tmp/x", 0o2755]],
    "mkdir": [[83, "/tmp/x", 0o4755], [83, "/tmp/x", 0o2755]],
    "mkdirat": [[258, -100, "/tmp/x", 0o4755], [258, -100, "/tmp/x", 0o2755]],
    "open": [[2, "/tmp/x", 0o101, 0o4755], [2, "/tmp/x", 0o101, 0o2755],
             [2, "/tmp", 0o20200001, 0o4755]],
    "openat": [[257, -100, "/tmp/x", 0o101, 0o4755], [257, -100, "/tmp/x", 0o101, 0o2755],
               [257, -100, "/tmp", 0o20200001, 0o2755]],
    "clone": [[56, 0x00020000 | 17, 0, 0, 0, 0]],
    "unshare": [[272, 0x02000000]],
    "openat2": [[437, -100, "/etc/passwd", "BUFFER", 24]],
    "pidfd_getfd": [[438, 3, 0, 0]],
}  # fmt: skip

# read(2) of standard input and the like wait for ever, or end or stop the process or its group.
_WAITING = {0, 7, 15, 22, 23, 34, 35, 45, 47, 60, 61, 62, 130, 200, 219, 230, 231, 232, 247, 270,
            271, 281, 293}  # fmt: skip
_NOTHING_ASKED = {272}  # unshare of nothing

# Each on a file or a directory of guest root's, which the script can see and not change.
_CHANGES: dict[str, list[int | str]] = {
    "truncate": ["/etc/hosts", 0],
    "rename": ["/etc/hosts", "/etc/other"],
    "mkdir": ["/etc/made", 0o755],
    "rmdir": ["/opt/omnibase"],
    "link": ["/etc/hosts", "/etc/other"],
    "unlink": ["/etc/hosts"],
    "symlink": ["/tmp", "/etc/link"],
    "chmod": ["/etc/hosts", 0o777],
    "fchmod": ["FILE", 0o777],
    "chown": ["/etc/hosts", 65534, 65534],
    "fchown": ["FILE", 65534, 65534],
    "lchown": ["/etc/hosts", 65534, 65534],
    "utime": ["/etc/hosts", "BUFFER"],
    "mknod": ["/etc/fifo", 0o010644, 0],
    "setxattr": ["/etc/hosts", "user.x", "x", 1, 0],
    "lsetxattr": ["/etc/hosts", "user.x", "x", 1, 0],
    "fsetxattr": ["FILE", "user.x", "x", 1, 0],
    "removexattr": ["/etc/hosts", "user.x"],
    "lremovexattr": ["/etc/hosts", "user.x"],
    "fremovexattr": ["FILE", "user.x"],
    "utimes": ["/etc/hosts", "BUFFER"],
    "mkdirat": [-100, "/etc/made", 0o755],
    "mknodat": [-100, "/etc/fifo", 0o010644, 0],
    "fchownat": [-100, "/etc/hosts", 65534, 65534, 0],
    "futimesat": [-100, "/etc/hosts", "BUFFER"],
    "unlinkat": [-100, "/etc/hosts", 0],
    "renameat": [-100, "/etc/hosts", -100, "/etc/other"],
    "linkat": [-100, "/etc/hosts", -100, "/etc/other", 0],
    "symlinkat": ["/tmp", -100, "/etc/link"],
    "fchmodat": [-100, "/etc/hosts", 0o777],
    "utimensat": [-100, "/etc/hosts", "BUFFER", 0],
    "renameat2": [-100, "/etc/hosts", -100, "/etc/other", 0],
}


def _matrix(sandbox: SandboxFixture, calls: dict[str, list[int | str]]) -> Outcome:
    return sandbox(
        "syscall_matrix",
        ["MEMORY:128MiB"],
        args=[json.dumps(calls)],
        on_violation="record",
        wall_seconds=120.0,
    )


def test_every_native_call_is_refused_and_reported(sandbox: SandboxFixture) -> None:
    calls = {
        name: [number, *_ARGUMENTS.get(name, [0, 0, 0, 0, 0, 0])] for number, name in NATIVE.items()
    }

    outcome = _matrix(sandbox, calls)

    assert outcome.report.keys() == set(NATIVE.values())
    assert set(outcome.report.values()) <= _UNPRIVILEGED, outcome.report
    for name in NATIVE.values():
        violation = outcome.assert_violation(operation=name)
        assert violation.errno_name in (outcome.report[name], "ENOTSUP")
        assert violation.capability is None


def test_every_filtered_call_ends_its_thread_and_is_reported(sandbox: SandboxFixture) -> None:
    deadly = {name for rule in SECCOMP if rule.errno is None for name in rule.names}
    assert deadly == _FILTERED.keys()
    for group in (sorted(deadly)[::2], sorted(deadly)[1::2]):
        calls = {f"{name} {i}": call for name in group for i, call in enumerate(_FILTERED[name])}

        outcome = _matrix(sandbox, calls)

        assert set(outcome.report.values()) == {f"signal {SIGSYS}"}, outcome.report
        violation = outcome.assert_violation(operation="seccomp")
        assert violation.count == len(calls)


def test_every_change_of_a_file_of_others_is_refused_and_reported(
    sandbox: SandboxFixture,
) -> None:
    assert _CHANGES.keys() == set(FILE_CHANGES.values())
    calls = {name: [number, *_CHANGES[name]] for number, name in FILE_CHANGES.items()}

    outcome = _matrix(sandbox, calls)

    assert set(outcome.report.values()) <= {"EACCES", "EPERM", "EROFS"}, outcome.report
    for name in FILE_CHANGES.values():
        violation = outcome.assert_violation(operation=name)
        assert violation.errno_name == outcome.report[name], name


def test_the_whole_table_raw(sandbox: SandboxFixture) -> None:
    """Whatever a call is, made with nothing: it harms its own process, if anybody."""
    calls: dict[str, list[int | str]] = {
        str(number): [number, 0, 0, 0, 0, 0, 0] for number in range(470) if number not in _WAITING
    }

    outcome = _matrix(sandbox, calls)

    succeeded = {int(number) for number, how in outcome.report.items() if how == "succeeded"}
    refused = set(NATIVE) | {n for rule in SECCOMP if not rule.args for n in rule.numbers}
    assert succeeded & refused <= _NOTHING_ASKED, sorted(succeeded & refused)
    assert len(outcome.report) == len(calls)
    assert outcome.finished.exit_code == 0
    outcome.assert_violation(operation="mount")
    outcome.assert_violation(operation="seccomp")


def test_what_the_filter_leaves_alone(sandbox: SandboxFixture) -> None:
    """The filter judges arguments: the same calls without them are everyday ones."""
    calls: dict[str, list[int | str]] = {
        "mkdir": [83, "/tmp/d", 0o1777],
        "chmod": [90, "/tmp/d", 0o777],
        "fifo": [133, "/tmp/f", 0o010644, 0],
        "creat": [85, "/tmp/x", 0o755],
        "open, mode without creation": [2, "/tmp/x", 0, 0o6777],
        "openat": [257, -100, "/tmp/y", 0o102, 0o644],
        "high half of the mode": [90, "/tmp/d", 1 << 35 | 0o700],
    }

    outcome = _matrix(sandbox, calls)

    assert set(outcome.report.values()) == {"succeeded"}, outcome.report
    outcome.assert_clean()


def test_identity_and_other_processes(sandbox: SandboxFixture) -> None:
    calls: dict[str, list[int | str]] = {
        "setuid": [105, 0],
        "setgid": [106, 0],
        "setresuid": [117, 0, 0, 0],
        "setresgid": [119, 0, 0, 0],
        "setgroups": [116, 1, "BUFFER"],
        "chroot": [161, "/tmp"],
        "kill of PID 1": [62, 1, 9],
        "signal 0 to PID 1": [62, 1, 0],
        "stop of PID 1": [62, 1, 19],
        "tgkill of PID 1": [234, 1, 1, 9],
        "prlimit of PID 1": [302, 1, 7, 0, "BUFFER"],
    }

    outcome = _matrix(sandbox, calls)

    assert set(outcome.report.values()) == {"EPERM"}, outcome.report
    for operation, count in (("setuid", 4), ("kill", 3), ("tgkill", 1), ("setgroups", 1)):
        found = [v for v in outcome.violations if v.operation == operation]
        assert sum(violation.count for violation in found) == count, operation
        outcome.assert_violation(operation=operation)
    outcome.assert_violation(operation="chroot")


def test_no_namespaces(sandbox: SandboxFixture) -> None:
    outcome = sandbox("namespaces", ["MEMORY:128MiB"], on_violation="record")

    refused = {"EPERM", "EINVAL", "ENOSYS", f"signal {SIGSYS}"}
    assert set(outcome.report.values()) <= refused, outcome.report
    for operation in ("unshare", "clone", "setns", "seccomp"):
        outcome.assert_violation(operation=operation)


@pytest.mark.threat("T-EXEC-17")
@pytest.mark.parametrize("way", ["blocked", "ignored", "handled", "thread", "child"])
def test_the_filter_cannot_be_swallowed(sandbox: SandboxFixture, way: str) -> None:
    outcome = sandbox("swallow_seccomp", args=[way], on_violation="record", wall_seconds=10.0)

    assert "returned" not in outcome.stdout
    outcome.assert_violation(operation="seccomp")
