"""The system calls that a script never needs: how each is denied, and how it shows.

Guest seccomp is silent: what it refuses with ``ERRNO`` never reaches the trace.
So a call that the guest's kernel refuses by itself (no capability, not
implemented, a chroot against user namespaces) is left to the kernel, and its
errno is on the trace: `NATIVE`. Only what would otherwise succeed is trapped:
`TRAPPED` ends the process with ``SIGSYS``, and that exit is on the trace.

Numbers are those of Linux on x86-64 (``arch/x86/entry/syscalls/syscall_64.tbl``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "FILE_CHANGES",
    "FORKS",
    "NATIVE",
    "PRIVILEGE",
    "SENDS",
    "SIGSYS",
    "TRAPPED",
    "SeccompArg",
    "SeccompRule",
]

SIGSYS: Final = 31

NATIVE: Final[dict[int, str]] = {
    101: "ptrace", 103: "syslog", 153: "vhangup", 155: "pivot_root", 156: "_sysctl",
    159: "adjtimex", 163: "acct", 164: "settimeofday", 165: "mount", 166: "umount2",
    167: "swapon", 168: "swapoff", 169: "reboot", 170: "sethostname", 171: "setdomainname",
    172: "iopl", 173: "ioperm", 174: "create_module", 175: "init_module", 176: "delete_module",
    179: "quotactl", 180: "nfsservctl", 212: "lookup_dcookie", 227: "clock_settime",
    246: "kexec_load", 248: "add_key", 249: "request_key", 272: "unshare", 298: "perf_event_open",
    300: "fanotify_init", 304: "open_by_handle_at", 305: "clock_adjtime", 308: "setns",
    312: "kcmp", 313: "finit_module", 320: "kexec_file_load", 321: "bpf", 323: "userfaultfd",
    425: "io_uring_setup", 426: "io_uring_enter", 427: "io_uring_register", 428: "open_tree",
    429: "move_mount", 430: "fsopen", 431: "fsconfig", 432: "fsmount", 433: "fspick",
    438: "pidfd_getfd",
}  # fmt: skip
"""Refused by the guest's kernel; any failure of one is an attempt. gVisor traces up to 441."""

FILE_CHANGES: Final[dict[int, str]] = {
    76: "truncate", 82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink",
    88: "symlink", 90: "chmod", 92: "chown", 94: "lchown", 133: "mknod", 235: "utimes",
    258: "mkdirat", 259: "mknodat", 260: "fchownat", 263: "unlinkat", 264: "renameat",
    265: "linkat", 266: "symlinkat", 268: "fchmodat", 280: "utimensat", 316: "renameat2",
}  # fmt: skip
"""Change a path that the trace point does not carry; EACCES, EPERM or EROFS is an attempt."""

SENDS: Final[dict[int, str]] = {44: "sendto", 46: "sendmsg", 307: "sendmmsg"}
"""May send to an address that the trace point does not carry."""

FORKS: Final[dict[int, str]] = {57: "fork", 58: "vfork"}
PRIVILEGE: Final[dict[int, str]] = {62: "kill", 116: "setgroups", 126: "capset", 234: "tgkill"}
"""EPERM from one is an attempt on another user's rights or processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompArg:
    """A condition on one argument, as in the OCI runtime specification."""

    index: int
    value: int
    value_two: int = 0
    operator: str = "SCMP_CMP_EQ"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompRule:
    """System calls that are trapped when all conditions hold."""

    names: tuple[str, ...]
    args: tuple[SeccompArg, ...] = ()


_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000


def _device(name: str, mode_index: int) -> tuple[SeccompRule, ...]:
    return tuple(
        SeccompRule(
            names=(name,),
            args=(
                SeccompArg(
                    index=mode_index, value=_S_IFMT, value_two=kind, operator="SCMP_CMP_MASKED_EQ"
                ),
            ),
        )
        for kind in (_S_IFCHR, _S_IFBLK)
    )


TRAPPED: Final[tuple[SeccompRule, ...]] = (
    # A file in memory could be executed where every mount is noexec.
    SeccompRule(names=("memfd_create",)),
    SeccompRule(names=("process_vm_readv", "process_vm_writev")),
    SeccompRule(names=("keyctl",)),
    *_device("mknod", 1),
    *_device("mknodat", 2),
    # A handler for SIGSYS could swallow the trap and with it the record.
    SeccompRule(
        names=("rt_sigaction",),
        args=(
            SeccompArg(index=0, value=SIGSYS),
            SeccompArg(index=1, value=0, operator="SCMP_CMP_NE"),
        ),
    ),
)
