"""What the trace shows of databases that the script may read: SQLite's own ways, and attempts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.monitor.attempts import Attempt
from omnibase.core.sandbox.monitor.wire import Message

__all__ = ["DatabaseFiles"]

# What SQLite keeps beside a database while it writes.
_BESIDE: Final = ("-journal", "-wal", "-shm")


class DatabaseFiles:
    """Knows the files of databases of which the script has a copy.

    Args:
        paths: The databases.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._of = {path + end: path for path in paths for end in ("", *_BESIDE)}
        self._paths = frozenset(self._of.values())

    def attempt(self, message: Message, path: str, attempt: Attempt) -> Attempt | None:
        """Returns what a refused open for writing is, if it is an attempt.

        SQLite opens for writing first, and again for reading if that is refused: by
        this the least that it needs is found out, and nothing is attempted.
        """
        database = self._of.get(path)
        if database is None:
            return attempt
        odd = message.flags & (os.O_TRUNC | os.O_APPEND | os.O_EXCL)
        if path in self._paths and message.flags & os.O_NOFOLLOW and not odd:
            return None
        return replace(attempt, capability=f"DATABASE_WRITE:sqlite:{database}")
