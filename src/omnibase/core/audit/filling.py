"""What the index of a log holds, and how it is filled: rows, names, and counts."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from omnibase.core.audit.unended import END, STARTS

__all__ = ["COUNTED", "INDEXES", "TABLES", "VERSION", "Filler", "decision_of", "microseconds"]

VERSION: Final = 4
_BATCH: Final = 50_000
_REMEMBERED: Final = 200_000

# A name's uses, as bits: what it was counted as.
RUN, COMPONENT, TYPE, CAPABILITY = 1, 2, 4, 8
COUNTED: Final = {RUN: "runs", COMPONENT: "components"}

TABLES: Final = (
    "CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, uses INTEGER NOT NULL)",
    "CREATE TABLE event (seq INTEGER PRIMARY KEY, segment INTEGER NOT NULL, start INTEGER NOT NULL,"
    " length INTEGER NOT NULL, time INTEGER NOT NULL, type INTEGER NOT NULL, run INTEGER NOT NULL,"
    " component INTEGER, decision INTEGER NOT NULL)",
    # With what else may be asked for, so that rows that do not fit cost no look-up.
    "CREATE TABLE capability (name INTEGER, time INTEGER, seq INTEGER, type INTEGER NOT NULL,"
    " component INTEGER, decision INTEGER NOT NULL, PRIMARY KEY (name, time, seq)) WITHOUT ROWID",
    "CREATE TABLE segment (number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, hash TEXT NOT NULL)",
    "CREATE TABLE unended (run INTEGER PRIMARY KEY)",
    "CREATE TABLE tally (what TEXT, which INTEGER, count INTEGER NOT NULL,"
    " PRIMARY KEY (what, which)) WITHOUT ROWID",
    f"PRAGMA user_version = {VERSION}",
)
"""Statements that make an empty index."""

INDEXES: Final = (
    "CREATE INDEX by_time ON event (time)",
    "CREATE INDEX by_run ON event (run, time)",
    "CREATE INDEX by_component ON event (component, time, type, decision)"
    " WHERE component IS NOT NULL",
    "CREATE INDEX by_type ON event (type, time, decision)",
    "CREATE INDEX by_decision ON event (decision, time) WHERE decision > 0",
)
"""Statements for after it was first filled: sorting once is faster than growing each.

Each is in the order of time for what it is asked for, and has what else may be asked
besides, so that an event that does not fit costs no look-up.
"""


class Filler:
    """Collects rows, and writes many at a time.

    Args:
        db: The index, in a transaction.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[tuple[str, int], int] = {}
        self._events: list[tuple[Any, ...]] = []
        self._capabilities: list[tuple[Any, ...]] = []
        self._tally: Counter[tuple[str, int]] = Counter()
        self._open: dict[int, bool] = {}

    def add(self, seq: int, segment: int, start: int, length: int, event: dict[str, Any]) -> None:
        """Takes one event.

        Args:
            seq: Number of its record.
            segment: Where that is.
            start: Its place there, in bytes.
            length: Its length in bytes, without the line's end.
            event: The event, as JSON data.
        """
        data = event.get("data")
        data = data if isinstance(data, dict) else {}
        name, moment = str(event.get("eventname")), microseconds(event.get("time"))
        component = event.get("componentid")
        owner = None if component is None else self._id(str(component), COMPONENT)
        kind, decision = self._id(name, TYPE), decision_of(name, data)
        run = self._id(str(event.get("runid")), RUN)
        if name in STARTS or name == END:
            self._open[run] = name != END
        self._events.append((seq, segment, start, length, moment, kind, run, owner, decision))
        self._tally["type", kind] += 1
        if decision:
            self._tally["decision", decision] += 1
        for text in _capabilities(data):
            named = self._id(text, CAPABILITY)
            self._capabilities.append((named, moment, seq, kind, owner, decision))
        if len(self._events) >= _BATCH:
            self.write()

    def write(self) -> None:
        """Writes what was taken."""
        db = self._db
        db.executemany("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?)", self._events)
        db.executemany("INSERT OR IGNORE INTO capability VALUES (?,?,?,?,?,?)", self._capabilities)
        db.executemany(
            "INSERT INTO tally VALUES (?,?,?) "
            "ON CONFLICT (what, which) DO UPDATE SET count = count + excluded.count",
            [(what, which, count) for (what, which), count in self._tally.items()],
        )
        runs = self._open.items()
        added, ended = ([(run,) for run, is_open in runs if is_open is wanted]
                        for wanted in (True, False))  # fmt: skip
        db.executemany("INSERT OR IGNORE INTO unended VALUES (?)", added)
        db.executemany("DELETE FROM unended WHERE run = ?", ended)
        self._events, self._capabilities, self._tally, self._open = [], [], Counter(), {}
        if len(self._ids) > _REMEMBERED:
            self._ids = {}

    def _id(self, text: str, use: int) -> int:
        found = self._ids.get((text, use))
        if found is None:
            found = self._ids[text, use] = self._named(text, use)
        return found

    def _named(self, text: str, use: int) -> int:
        row = self._db.execute("SELECT id, uses FROM name WHERE text = ?", (text,)).fetchone()
        if row is None:
            number = self._db.execute("INSERT INTO name (text, uses) VALUES (?, ?)", (text, use))
            found, new = int(number.lastrowid or 0), True
        else:
            found, new = int(row[0]), not row[1] & use
            if new:
                self._db.execute("UPDATE name SET uses = uses | ? WHERE id = ?", (use, found))
        if new and use in COUNTED:
            self._tally[COUNTED[use], 0] += 1
        return found


def decision_of(name: str, data: dict[str, Any]) -> int:
    """Returns what an event says of a decision: 0 for nothing, else 1 + its place."""
    if name == "SandboxViolation":
        return 3
    if name == "CapabilityDenied" or name.endswith("Refused"):
        return 2
    if name == "PolicyDecided":
        return 2 if data.get("denied") else 1
    return 1 if name == "CapabilityGranted" else 0


def _capabilities(data: dict[str, Any]) -> Iterator[str]:
    for name in ("capability", "grants", "requested"):
        value = data.get(name)
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str):
                yield text


def microseconds(text: Any) -> int:
    """Returns an event's time as microseconds since 1970; 0 if it is none."""
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1e6)
    except ValueError:
        return 0
