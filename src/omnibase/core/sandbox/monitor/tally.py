"""Two books that must balance: what a guest hides from the trace shows as a remainder.

Names: the Sentry drops, uncounted, a message whose strings are not UTF-8 (the
path, the working directory, the process name). So each watched call is traced
twice, once by name and once raw, without strings; a raw denial that has no
named twin is an attempt with its name withheld.

Executions: what the kernel says that it executes, and calls to execve that
succeeded, are as many.

Ends: seccomp ends a thread, and a process whose other threads live on has no
exit status to show for it. So each thread's end must be accounted for by a call
to exit or exit_group, or by a signal that ended its process, or by a thread
beside it that executes another program.
"""

from __future__ import annotations

import errno as errors
from collections import Counter
from typing import Final

from omnibase.core.sandbox.monitor.attempts import AGENT, Attempt
from omnibase.core.sandbox.monitor.wire import Message, MessageType
from omnibase.core.sandbox.syscalls import EXIT, EXIT_GROUP, NAMED

__all__ = ["Tally"]

_BOUND: Final = 4096
_PATHS: Final = frozenset(
    {errors.EACCES, errors.EPERM, errors.EROFS, errors.ENOENT, errors.ENOTDIR}
)
_REFUSED: Final = frozenset({errors.EACCES, errors.EPERM})
_TELLING: Final[dict[str, frozenset[int]]] = {
    "open": _PATHS,
    "chdir": _PATHS,
    "chroot": _PATHS,
    "connect": _PATHS | {errors.ENETUNREACH, errors.EHOSTUNREACH},
    "bind": _REFUSED | {errors.EADDRNOTAVAIL},
    "socket": _REFUSED,
    "setuid": frozenset({errors.EPERM}),
    "clone": frozenset({errors.EPERM}),
}
_NAMED_TYPES: Final = frozenset(
    {
        MessageType.OPEN, MessageType.CHDIR, MessageType.CHROOT, MessageType.EXECVE,
        MessageType.CONNECT, MessageType.BIND, MessageType.SOCKET, MessageType.CLONE,
        MessageType.SETID, MessageType.SETRESID,
    }
)  # fmt: skip
# By these a process is known to go on: after an execution, in the new program.
_RUNNING: Final = _NAMED_TYPES - {MessageType.EXECVE}


class Tally:
    """Counts named and raw messages, and ends of threads."""

    def __init__(self) -> None:
        self._surplus: Counter[tuple[int, int]] = Counter()
        self._hidden_executions = 0
        # Processes that execute another program: under which name they asked for it, and
        # whether their first thread is still to end.
        self._executing: dict[int, tuple[str, bool]] = {}
        self._exits = 0
        self._group_exits = 0
        self._unexplained: set[int] = set()
        self._ended: set[int] = set()

    def count(self, message: Message) -> None:
        """Enters one message into the books."""
        if message.type == MessageType.EXEC:
            self._hidden_executions -= 1
            self._replace(message)
        elif message.type in _RUNNING:
            self._go_on(message)
        if message.type == MessageType.SYSCALL_RAW:
            if message.sysno == EXIT:
                self._exits += 1
            elif message.sysno == EXIT_GROUP:
                self._group_exits += 1
            elif message.sysno in NAMED and self._telling(message):
                self._surplus[message.sysno, message.errno] += 1
            elif NAMED.get(message.sysno) == "execve":
                self._hidden_executions += 1
        elif message.type == MessageType.TASK_EXIT:
            self._count_end(message)
        elif message.type in _NAMED_TYPES and self._telling(message):
            self._surplus[message.sysno, message.errno] -= 1

    def attempts(self) -> list[Attempt]:
        """Returns the remainders, to be read when the trace has ended."""
        found = []
        for (sysno, error), count in sorted(self._surplus.items()):
            if count > 0:
                name = NAMED[sysno]
                found.append(
                    Attempt(
                        capability=None,
                        operation=name,
                        resource="(withheld: its name is too long or not UTF-8)",
                        errno=error,
                    )
                )
        if self._hidden_executions > 0:
            found.append(
                Attempt(
                    capability=None,
                    operation="execve",
                    resource="(withheld: an argument or a variable is not UTF-8, or too long)",
                    errno=0,
                )
            )
        for group in sorted(self._unexplained):
            found.append(
                Attempt(
                    capability=None,
                    operation="seccomp",
                    resource="a system call that no script needs, in a thread",
                    errno=0,
                    pid=group,
                )
            )
        return found

    @staticmethod
    def _telling(message: Message) -> bool:
        name = NAMED.get(message.sysno, "")
        if name == "execve":
            return message.errno != 0
        return message.errno in _TELLING.get(name, ())

    def _replace(self, message: Message) -> None:
        """A program takes another's place: all threads but the one that asked end before."""
        if len(self._executing) < _BOUND:
            beside = message.thread_id != message.group_id
            self._executing[message.group_id] = (message.process_name, beside)

    def _go_on(self, message: Message) -> None:
        """Under another name it is the new program, and the old one's threads have ended."""
        name, _ = self._executing.get(message.group_id, (message.process_name, False))
        if name != message.process_name:
            del self._executing[message.group_id]

    def _count_end(self, message: Message) -> None:
        group = message.group_id
        if group == AGENT:
            return
        if group in self._executing:
            name, first_is_to_end = self._executing[group]
            beside = message.thread_id not in (0, group)
            if beside or first_is_to_end:
                self._executing[group] = (name, first_is_to_end and beside)
                return
            del self._executing[group]
        if message.thread_id not in (0, group):
            if self._group_exits or group in self._ended:
                return  # exit_group, or the signal, ends all threads of its process
            if self._exits:
                self._exits -= 1
            elif len(self._unexplained) < _BOUND:
                self._unexplained.add(group)
            return
        if message.result & 0x7F:
            self._unexplained.discard(group)
        elif self._group_exits:
            self._group_exits -= 1
        elif self._exits:
            self._exits -= 1
            return  # the first thread left by itself; others may live on
        if len(self._ended) < _BOUND:
            self._ended.add(group)
