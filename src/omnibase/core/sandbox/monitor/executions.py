"""What the guest's kernel has executed: granted commands, and nothing else should be. Pure.

That nothing else can be executed is construction. Should it fail all the same, an
execution that was not granted is an attempt that got through, which ends the run.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from omnibase.core.sandbox.commands.layout import BIN, LOADER
from omnibase.core.sandbox.monitor.attempts import Attempt
from omnibase.core.sandbox.monitor.wire import Message

__all__ = ["CommandStart", "Executions"]

_GOT_THROUGH: Final = "no command that is granted, and executed all the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStart:
    """A granted command was started.

    Attributes:
        command: Its name.
        count: How often, until now.
    """

    command: str
    count: int


class Executions:
    """Judges what was executed, and counts the commands among it.

    Args:
        commands: Names of those that were granted.
    """

    def __init__(self, commands: Iterable[str] = ()) -> None:
        self._granted = {f"{BIN}/{name}": name for name in commands}
        self._counts: Counter[str] = Counter()
        self.found: list[CommandStart] = []

    def executed(self, message: Message) -> Attempt | None:
        """Returns the attempt that an execution is, if it is one."""
        name = self._granted.get(message.path)
        if name is not None:
            self._counts[name] += 1
            if self._counts[name] == 1:
                self.found.append(CommandStart(command=name, count=1))
            return None
        attempt = Attempt(
            capability=f"EXTERNAL_COMMAND:{posixpath.basename(message.path)}",
            operation="execve",
            resource=message.path,
            errno=0,
            pid=message.group_id,
            process_name=message.process_name[:64],
            reason=_GOT_THROUGH,
        )
        if message.path == LOADER and self._granted:
            # As a program it exits at once, whatever it was to load.
            return replace(attempt, capability=None, reason=None)
        return attempt

    def take(self) -> list[CommandStart]:
        """Returns what is new."""
        found, self.found = self.found, []
        return found

    def finish(self) -> None:
        """The trace has ended: what was started more than once is told again, with its count."""
        self.found += [
            CommandStart(command=name, count=count)
            for name, count in sorted(self._counts.items())
            if count > 1
        ]
