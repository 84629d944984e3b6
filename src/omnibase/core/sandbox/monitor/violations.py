"""What is a violation: a pure decision over trace messages.

The rule that tells an attempt from a probe: a failed open is an attempt unless
its path lies in the guest's own world (interpreter, scratch, ``/proc``, …) and
merely does not exist, or is one that the runtime itself looks for. Host paths
do not exist in the guest, so whether a path exists on the host plays no part;
but for ``/tmp`` and ``/dev``, which guest and host both have: there, a missing
file that the host has is an attempt.
"""

from __future__ import annotations

import errno as errors
import os
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.egress.layout import Layout
from omnibase.core.sandbox.monitor.attempts import (
    AGENT,
    UNTOLD_PATH,
    Attempt,
    Evidence,
    Granted,
    Violation,
    attempt_of,
)
from omnibase.core.sandbox.monitor.databases import DatabaseFiles
from omnibase.core.sandbox.monitor.executions import Executions
from omnibase.core.sandbox.monitor.network import NetworkJudge
from omnibase.core.sandbox.monitor.paths import (
    BELOW_FD,
    SCRATCH,
    above_in_scratch,
    absolute,
    in_jail,
    is_search,
    normal,
    socket_address,
)
from omnibase.core.sandbox.monitor.reads import SecretReads, capability_of
from omnibase.core.sandbox.monitor.tally import Tally
from omnibase.core.sandbox.monitor.wire import Message, MessageType
from omnibase.core.sandbox.spec import Mask, WatchRules
from omnibase.core.sandbox.syscalls import (
    FILE_CHANGES,
    FORKS,
    NATIVE,
    PRIVILEGE,
    SENDS,
    SIGSYS,
)

__all__ = ["Attempt", "Evidence", "Granted", "Judge", "Violation"]

_DENIED: Final = frozenset({errors.EACCES, errors.EPERM, errors.EROFS})
_ABSENT: Final = frozenset({errors.ENOENT, errors.ENOTDIR})
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CREAT_SYSNO: Final = 85
_LOOKUP: Final = "/.lookup/"

_SYMLINKS: Final = frozenset({88, 266})

# libuuid keeps its clock there, and does without.
_WRITE_PROBES: Final = frozenset({"/var/lib/libuuid/clock.txt"})
# Commands that stock modules look for and do without: `platform`, `ctypes.util`, `uuid`;
# and matplotlib, for fonts.
_COMMAND_PROBES: Final = frozenset(
    {
        ("uname", "-p"),
        ("fc-list", "--help"),
        ("/sbin/ldconfig", "-p"),
        ("/usr/sbin/ldconfig", "-p"),
        ("ld", "-t"),
    }
)


class Judge:
    """Decides message by message; it keeps only what a later message may need."""

    def __init__(
        self,
        rules: WatchRules,
        granted: tuple[Granted, ...] = (),
        masks: tuple[Mask, ...] = (),
        on_host: Callable[[str], bool] = lambda _path: False,
        covered: Mapping[str, bool] | None = None,
        resolve: Callable[[str], str] = str,
        secrets: tuple[str, ...] = (),
        network: Layout | None = None,
        commands: tuple[str, ...] = (),
        databases: tuple[str, ...] = (),
    ) -> None:
        self._rules = rules
        self.network = NetworkJudge(rules.nameserver, network or Layout())
        self._databases = DatabaseFiles(databases)
        self._on_host = on_host
        self._resolve = resolve
        self._granted = granted
        # Directories that the agent made in scratch for a grant's sake: the script
        # cannot create anything there, so what it misses there is the host's.
        self._guarded = tuple(
            sorted({f"{above}/" for grant in granted for above in above_in_scratch(grant.path)})
        )
        self._masks = masks
        # Masks in trees that may be written are covered; a cover goes when the host
        # puts something else in its place. ``path → is directory``.
        self._covered = dict(covered or {})
        self._killed: set[int] = set()
        self._links_made = False
        self._tally = Tally()
        self.reads = SecretReads(secrets)
        self.executions = Executions(commands)
        self.pids_refused = False

    def take_over(self, other: Judge) -> None:
        """Goes on with the books of a judge who had no run to judge."""
        self._tally = other._tally

    def judge(self, message: Message) -> Attempt | None:
        """Returns the attempt that a message shows, if it shows one."""
        self._tally.count(message)
        if message.group_id == AGENT:
            self.reads.told(message.path)
            return None
        decide = _DECIDERS.get(message.type)
        return None if decide is None else decide(self, message)

    def recount(self, message: Message) -> None:
        """Counts a message whose answer is known."""
        self._tally.count(message)

    def pending(self) -> list[Attempt]:
        """Returns what is known only at the end.

        Besides `NetworkJudge.pending`, calls whose message was lost to a name
        that is not UTF-8, and threads that seccomp ended.
        """
        return self._tally.attempts() + self.network.pending()

    @staticmethod
    def stateless(message: Message) -> bool:
        """Whether equal messages always get equal answers, so that one can be remembered."""
        if message.type == MessageType.SYSCALL_RAW:
            return message.sysno not in _SYMLINKS
        return (
            message.type in (MessageType.OPEN, MessageType.EXECVE, MessageType.CHDIR)
            and not message.path.startswith(_LOOKUP)
            # What a missing file in a place to write means changes with the first link.
            and (
                message.errno == 0
                or message.type == MessageType.EXECVE
                or not absolute(message).startswith(SCRATCH)
            )
        )

    def _open(self, message: Message) -> Attempt | None:
        if message.errno == 0:
            if self.reads.waiting:
                self.reads.opened(message, absolute(message))
            return self._got_through(message) if self._covered else None
        if not message.path:
            return None
        path = absolute(message)
        if path.startswith(_LOOKUP):
            self.network.named(message.group_id, path[len(_LOOKUP) :])
            return None
        writing = bool(message.flags & _WRITING) or message.sysno == _CREAT_SYSNO
        return self._path_attempt(message, path, writing)

    def _chdir(self, message: Message) -> Attempt | None:
        if message.errno == 0 and self._covered:
            return self._got_through(message)
        if message.errno == 0 or not message.path:
            return None
        return self._path_attempt(message, absolute(message), False)

    def _got_through(self, message: Message) -> Attempt | None:
        """A successful open of what a mask covers; the cover itself is an empty directory."""
        path = absolute(message)
        if not any(grant.tree and grant.holds(path) for grant in self._granted):
            return None
        for seen in dict.fromkeys((path, self._resolve(path))):
            mask = _covering(self._masks, seen)
            if mask is None or mask.path not in self._covered:
                continue
            if seen != mask.path or not self._covered[mask.path]:
                writing = message.flags & _WRITING or message.sysno == _CREAT_SYSNO
                kind = "FILE_WRITE" if writing else "FILE_READ"
                attempt = attempt_of(message, f"{kind}:{path}", _NAMES[message.type], path)
                return replace(attempt, reason=f"{mask.reason}; the host replaced its cover")
        return None

    def _path_attempt(self, message: Message, path: str, writing: bool) -> Attempt | None:
        number = message.errno
        if number not in _DENIED and number not in _ABSENT:
            return None
        kind = "FILE_WRITE" if writing else "FILE_READ"
        attempt = attempt_of(message, capability_of(kind, path), _NAMES[message.type], path)
        mask = _covering(self._masks, path)
        if mask is not None:
            return replace(attempt, reason=mask.reason)
        for grant in self._granted:
            if grant.holds(path) and (grant.writable or not writing):
                # A link in the granted tree may lead below a mask.
                mask = _covering(self._masks, self._resolve(path)) if self._masks else None
                if mask is not None:
                    return replace(attempt, reason=mask.reason)
                linked = self._links_made and grant.writable and number in _DENIED
                return attempt if linked else None
        if writing and (kept := self._databases.attempt(message, path, attempt)) is not attempt:
            return kept
        if path.startswith(SCRATCH) and not path.startswith(self._guarded):
            # The script's own files; but a refusal may come from behind a link of its
            # making, and a file granted for reading may lie there too.
            granted = any(grant.holds(path) for grant in self._granted)
            if granted or (self._links_made and number in _DENIED):
                return attempt
            return attempt if number in _ABSENT and self._on_host(path) else None
        guarded = path.startswith(self._guarded)
        if number in _ABSENT and not guarded and f"{path}/".startswith(self._rules.owned):
            shared = path.startswith("/dev/") and self._on_host(path)
            return attempt if shared or BELOW_FD.match(path) else None
        if path in (_WRITE_PROBES if writing else self._rules.probes):
            return None
        if not writing and is_search(path):
            return None
        return attempt

    def _exec(self, message: Message) -> Attempt | None:
        return self.executions.executed(replace(message, path=in_jail(message.path)))

    def _execve(self, message: Message) -> Attempt | None:
        if message.errno == 0:
            return None  # what the kernel executes, it tells itself
        path = absolute(message) if message.path or message.fd_path else "(a descriptor)"
        command = posixpath.basename(path) or path
        searched = path == f"{self._rules.command_directory}/{command}"
        asked = (command if searched else path, *message.argv[1:2])
        if asked in _COMMAND_PROBES:
            return None
        return attempt_of(message, f"EXTERNAL_COMMAND:{command}", "execve", path)

    def _connect(self, message: Message) -> Attempt | None:
        family, host, port = socket_address(message.address)
        if family == "unix":
            return self._unix(message, host, "connect")
        return self.network.connect(message, host, port) if family == "inet" and host else None

    def _bind(self, message: Message) -> Attempt | None:
        family, host, port = socket_address(message.address)
        if family == "unix":
            return self._unix(message, host, "bind")
        return self.network.bind(message, host, port) if family == "inet" else None

    def _unix(self, message: Message, name: str, operation: str) -> Attempt | None:
        if not name or message.errno not in _DENIED | _ABSENT:
            return None  # unnamed, or in the guest's own abstract name space
        path = normal(posixpath.join("/", in_jail(message.cwd), name))
        if path.startswith(self._rules.owned) or path in self._rules.probes:
            return None
        return attempt_of(message, f"FILE_WRITE:{path}", operation, path)

    def _socket(self, message: Message) -> Attempt | None:
        if message.errno not in (errors.EPERM, errors.EACCES):
            return None
        return attempt_of(
            message, None, "socket", f"family {message.flags}, type {message.kind & 15}"
        )

    def _clone(self, message: Message) -> Attempt | None:
        if message.errno == errors.EAGAIN:
            self.pids_refused = True
        if message.errno != errors.EPERM:
            return None
        return attempt_of(message, None, "clone", f"flags {message.flags:#x}")

    def _chroot(self, message: Message) -> Attempt | None:
        return attempt_of(message, None, "chroot", message.path) if message.errno else None

    def _setid(self, message: Message) -> Attempt | None:
        if message.errno != errors.EPERM:
            return None
        return attempt_of(message, None, "setuid", "another user or group")

    def _raw(self, message: Message) -> Attempt | None:
        number, error = message.sysno, message.errno
        if error == 0:
            if number in _SYMLINKS:
                self._links_made = True
            return None
        if number in FORKS:
            self.pids_refused |= error == errors.EAGAIN
            return None
        if number in NATIVE:
            return attempt_of(message, None, NATIVE[number], NATIVE[number])
        if number in FILE_CHANGES and error in _DENIED:
            return attempt_of(message, None, FILE_CHANGES[number], UNTOLD_PATH)
        if number in PRIVILEGE and error == errors.EPERM:
            return attempt_of(
                message, None, PRIVILEGE[number], "another user's rights or processes"
            )
        if number in SENDS and error in (
            errors.ENETUNREACH, errors.EHOSTUNREACH, errors.EACCES, errors.EPERM,
        ):  # fmt: skip
            return attempt_of(message, None, SENDS[number], "an address outside the sandbox")
        return None

    def _task_exit(self, message: Message) -> Attempt | None:
        if message.result & 0x7F != SIGSYS or message.group_id in self._killed:
            return None
        if len(self._killed) < 1024:
            self._killed.add(message.group_id)
        return attempt_of(message, None, "seccomp", "a system call that no script needs")


_DECIDERS: Final = {
    MessageType.OPEN: Judge._open,
    MessageType.CHDIR: Judge._chdir,
    MessageType.EXEC: Judge._exec,
    MessageType.EXECVE: Judge._execve,
    MessageType.CONNECT: Judge._connect,
    MessageType.BIND: Judge._bind,
    MessageType.SOCKET: Judge._socket,
    MessageType.CLONE: Judge._clone,
    MessageType.CHROOT: Judge._chroot,
    MessageType.SETID: Judge._setid,
    MessageType.SETRESID: Judge._setid,
    MessageType.SYSCALL_RAW: Judge._raw,
    MessageType.TASK_EXIT: Judge._task_exit,
}
_NAMES: Final = {MessageType.OPEN: "open", MessageType.CHDIR: "chdir"}


def _covering(masks: tuple[Mask, ...], path: str) -> Mask | None:
    for mask in masks:
        if path == mask.path or path.startswith(f"{mask.path}/"):
            return mask
    return None
