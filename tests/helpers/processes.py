"""Processes that a test has started, and those of others that it has to leave alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["Brood", "children"]


def children(pid: int | str = "self") -> set[int]:
    """Returns the children of all threads of a process; none of one that has ended."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                found |= set(
                    map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
                )
    return found


class Brood:
    """What this process has started since this was made.

    A server that serves several test files is a child of this process, too, and neither
    to be counted nor to be killed.
    """

    def __init__(self) -> None:
        self._others = children()

    def children(self) -> list[int]:
        """Returns the processes that this one is the parent of."""
        return sorted(children() - self._others)

    def descendants(self) -> list[int]:
        """Returns those, and all below them."""
        found, left = list[int](), self.children()
        while left:
            found.append(left.pop())
            left += children(found[-1])
        return found

    def signal(self, number: int, *, all_below: bool = False) -> None:
        """Sends a signal to each that is still there."""
        for pid in self.descendants() if all_below else self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
