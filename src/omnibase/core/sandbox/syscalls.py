"""The system calls that a script never needs: how each is denied, and how it shows.

Guest seccomp is silent: what it refuses with ``ERRNO`` never reaches the trace.
So a call that the guest's kernel refuses by itself (no capability, not
implemented, a chroot against user namespaces) is left to the kernel, and its
errno is on the trace: `NATIVE`. Only what would otherwise succeed is for
`SECCOMP`, which ends the thread with ``SIGSYS``: that cannot be blocked or
handled (a trap can), and the end is on the trace.

Numbers are those of Linux on x86-64 (``arch/x86/entry/syscalls/syscall_64.tbl``).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

__all__ = [
    "EXIT",
    "EXIT_GROUP",
    "FILE_CHANGES",
    "FORKS",
    "NAMED",
    "NATIVE",
    "PRIVILEGE",
    "SECCOMP",
    "SENDS",
    "SIGSYS",
    "SeccompArg",
    "SeccompRule",
]

SIGSYS: Final = 31
EXIT: Final = 60
EXIT_GROUP: Final = 231

NAMED: Final[dict[int, str]] = {
    2: "open", 41: "socket", 42: "connect", 49: "bind", 56: "clone", 59: "execve", 80: "chdir",
    85: "open", 105: "setuid", 106: "setuid", 117: "setuid", 119: "setuid", 161: "chroot",
    257: "open", 322: "execve",
}  # fmt: skip
"""Traced by name (path or address) and raw as well, so that a withheld name shows."""

NATIVE: Final[dict[int, str]] = {
    101: "ptrace", 153: "vhangup", 155: "pivot_root", 156: "_sysctl",
    159: "adjtimex", 163: "acct", 164: "settimeofday", 165: "mount", 166: "umount2",
    167: "swapon", 168: "swapoff", 169: "reboot", 170: "sethostname", 171: "setdomainname",
    172: "iopl", 173: "ioperm", 174: "create_module", 175: "init_module", 176: "delete_module",
    179: "quotactl", 180: "nfsservctl", 212: "lookup_dcookie", 227: "clock_settime",
    246: "kexec_load", 248: "add_key", 249: "request_key", 272: "unshare", 298: "perf_event_open",
    300: "fanotify_init", 304: "open_by_handle_at", 305: "clock_adjtime", 308: "setns",
    312: "kcmp", 313: "finit_module", 320: "kexec_file_load", 321: "bpf", 323: "userfaultfd",
    425: "io_uring_setup", 426: "io_uring_enter", 427: "io_uring_register", 428: "open_tree",
    429: "move_mount", 430: "fsopen", 431: "fsconfig", 432: "fsmount", 433: "fspick",
}  # fmt: skip
"""Refused by the guest's kernel; any failure of one is an attempt.

Calls newer than gVisor's table (above 441) do not exist in it and are not traced."""

FILE_CHANGES: Final[dict[int, str]] = {
    76: "truncate", 82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink",
    88: "symlink", 90: "chmod", 91: "fchmod", 92: "chown", 93: "fchown", 94: "lchown",
    132: "utime", 133: "mknod", 188: "setxattr", 189: "lsetxattr", 190: "fsetxattr",
    197: "removexattr", 198: "lremovexattr", 199: "fremovexattr", 235: "utimes",
    258: "mkdirat", 259: "mknodat", 260: "fchownat", 261: "futimesat", 263: "unlinkat",
    264: "renameat",
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
    """Holds when ``argument & mask == value``, on the low 32 bits."""

    index: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompRule:
    """System calls that are refused when all conditions hold.

    Attributes:
        names: For people.
        numbers: For the filter.
        args: All must hold.
        errno: What the call returns; ``None`` ends its thread with ``SIGSYS``.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    args: tuple[SeccompArg, ...] = ()
    errno: int | None = None


_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000
_S_ISUID, _S_ISGID, _O_CREAT, _O_TMPFILE = 0o4000, 0o2000, 0o100, 0o20000000
_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_NEWCGROUP: Final = 0x0200_0000


def _bits(index: int, bits: int) -> SeccompArg:
    return SeccompArg(index=index, mask=bits, value=bits)


def _device(name: str, number: int, mode: int) -> tuple[SeccompRule, ...]:
    return tuple(
        SeccompRule(
            names=(name,),
            numbers=(number,),
            args=(SeccompArg(index=mode, mask=_S_IFMT, value=kind),),
        )
        for kind in (_S_IFCHR, _S_IFBLK)
    )


def _set_id(name: str, number: int, mode: int, flags: int | None = None) -> tuple[SeccompRule, ...]:
    """Refuses set-user-id and set-group-id bits: a granted directory is the host's.

    The mode of an open counts only when the open creates a file.
    """
    creating = ((),) if flags is None else ((_bits(flags, _O_CREAT),), (_bits(flags, _O_TMPFILE),))
    return tuple(
        SeccompRule(names=(name,), numbers=(number,), args=(*when, _bits(mode, bit)))
        for when in creating
        for bit in (_S_ISUID, _S_ISGID)
    )


SECCOMP: Final[tuple[SeccompRule, ...]] = (
    # A file in memory could be executed where every mount is noexec.
    SeccompRule(names=("memfd_create",), numbers=(319,)),
    SeccompRule(names=("process_vm_readv", "process_vm_writev"), numbers=(310, 311)),
    SeccompRule(names=("keyctl",), numbers=(250,)),
    # gVisor has neither, and traces nothing of a call that it does not have.
    SeccompRule(names=("openat2", "pidfd_getfd"), numbers=(437, 438)),
    *_device("mknod", 133, 1),
    *_device("mknodat", 259, 2),
    *_set_id("chmod", 90, 1),
    *_set_id("fchmod", 91, 1),
    *_set_id("fchmodat", 268, 2),
    *_set_id("creat", 85, 1),
    *_set_id("mkdir", 83, 1),
    *_set_id("mkdirat", 258, 2),
    *_set_id("mknod", 133, 1),
    *_set_id("mknodat", 259, 2),
    *_set_id("open", 2, 2, flags=1),
    *_set_id("openat", 257, 3, flags=2),
    # Namespaces that an unprivileged clone(2) should not get, but gets from this gVisor.
    SeccompRule(names=("clone",), numbers=(56,), args=(_bits(0, _CLONE_NEWNS),)),
    SeccompRule(names=("unshare",), numbers=(272,), args=(_bits(0, _CLONE_NEWCGROUP),)),
    # Its flags lie in memory, where no filter can judge them; libc falls back to clone.
    SeccompRule(names=("clone3",), numbers=(435,), errno=errno.ENOSYS),
)
"""Would succeed, so the guest's seccomp filter refuses it."""
