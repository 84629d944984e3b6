"""The index: where the events of a log are, by what is asked for. The log is the truth.

An SQLite file in the log's directory. It grows with the log, is compared with it
before it is used, and can be removed at any time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from omnibase.core.audit.chain import parse
from omnibase.core.audit.segments import open_segment, segment_name
from omnibase.core.audit.unended import END, STARTS
from omnibase.core.audit.verification import lines, snapshot
from omnibase.errors import ConfigurationError

__all__ = ["DECISIONS", "MAX_LIMIT", "Found", "Index", "Query", "decision_of", "microseconds"]

DECISIONS: Final = ("granted", "denied", "violation")
MAX_LIMIT: Final = 10_000
_FILE: Final = "index.sqlite"
_VERSION: Final = 2
_BATCH: Final = 50_000
_MAX_NAMES: Final = 500
_SCHEMA: Final = f"""
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE event (
  seq INTEGER PRIMARY KEY, segment INTEGER NOT NULL, start INTEGER NOT NULL,
  length INTEGER NOT NULL, time INTEGER NOT NULL, type INTEGER NOT NULL,
  run INTEGER NOT NULL, component INTEGER, decision INTEGER NOT NULL
);
CREATE INDEX by_time ON event (time);
CREATE INDEX by_type ON event (type, time);
CREATE INDEX by_run ON event (run, time);
CREATE INDEX by_component ON event (component, type, time) WHERE component IS NOT NULL;
CREATE INDEX by_decision ON event (decision, time) WHERE decision > 0;
CREATE TABLE capability (
  name INTEGER, time INTEGER, seq INTEGER, PRIMARY KEY (name, time, seq)
) WITHOUT ROWID;
CREATE TABLE unended (run INTEGER PRIMARY KEY);
CREATE TABLE segment (number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, hash TEXT NOT NULL);
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for; what is ``None`` does not matter.

    Attributes:
        component: A component's UUID.
        type: An event's short name, or its CloudEvents type.
        capability: ``TYPE:resource``, or a beginning of it and ``*``.
        since: Microseconds since 1970, included.
        until: Likewise, not included.
        decision: One of `DECISIONS`.
        run: A run's id, or its beginning and ``*``.
        limit: How many at most, of the latest.
    """

    component: str | None = None
    type: str | None = None
    capability: str | None = None
    since: int | None = None
    until: int | None = None
    decision: str | None = None
    run: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Found:
    """One event.

    Attributes:
        seq: Number of its record.
        event: The event, as JSON data.
    """

    seq: int
    event: dict[str, Any]


class Index:
    """An index that is up to date with its log; closes at the end of a ``with`` block.

    Raises:
        ConfigurationError: There is no log, or the index does not fit it.
        OSError: A file cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        snapshot(directory)  # refuses what is no log before it makes a file there
        path = directory / _FILE
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        with _damage():
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._update()
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def rebuild(cls, directory: Path) -> Index:
        """Removes what there is, and reads the whole log."""
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory / f"{_FILE}{suffix}")
        return cls(directory)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._db.close()

    @property
    def rows(self) -> int:
        """How many events are in the index."""
        return int(self._db.execute("SELECT count(*) FROM event").fetchone()[0])

    def find(self, query: Query) -> list[Found]:
        """Returns the latest events that fit, the oldest first."""
        with _damage():
            sql, values = self._select(query)
            rows = [] if sql is None else self._db.execute(sql, values).fetchall()
        return self._fetch(reversed(rows))

    def stats(self) -> dict[str, Any]:
        """Counts what there is."""
        with _damage():
            types = self._db.execute(
                "SELECT name.text, count(*) FROM event JOIN name ON name.id = type "
                "GROUP BY type ORDER BY 2 DESC"
            ).fetchall()
            decisions = self._db.execute(
                "SELECT decision, count(*) FROM event WHERE decision > 0 GROUP BY decision"
            ).fetchall()
            first, last = self._db.execute("SELECT min(time), max(time) FROM event").fetchone()
            runs = self._db.execute("SELECT count(DISTINCT run) FROM event").fetchone()[0]
            components = self._db.execute(
                "SELECT count(DISTINCT component) FROM event WHERE component IS NOT NULL"
            ).fetchone()[0]
            unended = self._db.execute("SELECT count(*) FROM unended").fetchone()[0]
            size = self._db.execute("SELECT count(*), sum(bytes) FROM segment").fetchone()
        return {
            "events": self.rows,
            "runs": runs,
            "unended": unended,
            "components": components,
            "first_microseconds": first,
            "last_microseconds": last,
            "types": dict(types),
            "decisions": {DECISIONS[number - 1]: count for number, count in decisions},
            "segments": size[0],
            "bytes": size[1] or 0,
        }

    def _select(self, query: Query) -> tuple[str | None, list[Any]]:
        where: list[str] = []
        values: list[Any] = []
        table, when, order = "event", "event.time", "event.seq"
        for column, text in (
            ("type", query.type), ("component", query.component), ("run", query.run),
            ("capability", query.capability),
        ):  # fmt: skip
            if text is None:
                continue
            ids = self._names(text)
            if not ids:
                return None, []
            if column == "capability":
                # In its order, so that the latest are found without reading all.
                table = "capability CROSS JOIN event ON event.seq = capability.seq"
                where.append(f"capability.name IN ({','.join('?' * len(ids))})")
                when, order = "capability.time", "capability.seq"
            else:
                where.append(f"event.{column} IN ({','.join('?' * len(ids))})")
            values += ids
        if query.decision is not None:
            where.append("event.decision = ? AND event.decision > 0")
            values.append(DECISIONS.index(query.decision) + 1)
        for sign, moment in ((">=", query.since), ("<", query.until)):
            if moment is not None:
                where.append(f"{when} {sign} ?")
                values.append(moment)
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        values.append(min(query.limit, MAX_LIMIT))
        return (
            "SELECT DISTINCT event.seq, event.segment, event.start, event.length"  # noqa: S608
            f" FROM {table}{condition} ORDER BY {when} DESC, {order} DESC LIMIT ?"
        ), values

    def _names(self, text: str) -> list[int]:
        if not text.endswith("*"):
            rows = self._db.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchall()
            rows = (
                rows
                or self._db.execute(
                    "SELECT id FROM name WHERE text = ?", (text.rpartition(".")[2],)
                ).fetchall()
            )
        else:
            start = text[:-1]
            rows = self._db.execute(
                "SELECT id FROM name WHERE text >= ? AND text < ? LIMIT ?",
                (start, start + "\U0010ffff", _MAX_NAMES + 1),
            ).fetchall()
            if len(rows) > _MAX_NAMES:
                raise ConfigurationError(
                    f"`{text}` fits more than {_MAX_NAMES} names", hint="say more of it"
                )
        return [row[0] for row in rows]

    def names_from(self, start: str, limit: int) -> list[str]:
        """Returns the run ids that begin with a text."""
        return [
            row[0] for row in self._db.execute(
                "SELECT DISTINCT text FROM name WHERE text >= ? AND text < ? AND EXISTS "
                "(SELECT 1 FROM event WHERE run = name.id) LIMIT ?",
                (start, start + "\U0010ffff", limit),
            )
        ]  # fmt: skip

    def unended(self, limit: int) -> list[str]:
        """Returns runs that have a start and no end, the latest first."""
        rows = self._db.execute(
            "SELECT text FROM unended JOIN name ON name.id = run ORDER BY run DESC LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def _fetch(self, rows: Any) -> list[Found]:
        files: dict[int, int] = {}
        found = []
        try:
            for seq, segment, start, length in rows:
                if segment not in files:
                    files[segment] = open_segment(self._directory / segment_name(segment))
                record = parse(os.pread(files[segment], length, start))
                if record is None or record.head.seq != seq or record.kind != "event":
                    raise _unfit(f"record {seq} is not where it was")
                found.append(Found(seq, record.fields()))
        finally:
            for fd in files.values():
                os.close(fd)
        return found

    def _update(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise _unfit("another version wrote it")
        self._db.execute("BEGIN IMMEDIATE")
        if not self._db.execute("PRAGMA user_version").fetchone()[0]:
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
        known = {n: (b, h) for n, b, h in self._db.execute("SELECT * FROM segment")}
        filler = _Filler(self._db)
        for segment, size in snapshot(self._directory):
            start, digest = known.pop(segment.number, (0, ""))
            if start == size:
                fitting = self._fits(segment.path, start, digest)
            else:
                fitting = start < size and (not start or self._fits(segment.path, start, digest))
            if not fitting:
                raise _unfit(f"segment {segment.number} is not what it was")
            if start < size:
                self._read(filler, segment.number, segment.path, start, size)
        self._db.execute("COMMIT")

    def _fits(self, path: Path, end: int, digest: str) -> bool:
        fd = open_segment(path)
        try:
            tail = os.pread(fd, 67, max(0, end - 67))
        finally:
            os.close(fd)
        return tail == f'{digest}"}}\n'.encode()

    def _read(self, filler: _Filler, number: int, path: Path, start: int, size: int) -> None:
        fd = open_segment(path)
        end, digest = start, ""
        try:
            for offset, line in lines(fd, start, size):
                record = parse(line.removesuffix(b"\n")) if line.endswith(b"\n") else None
                if record is None:
                    continue
                end, digest = offset + len(line), record.head.hash
                if record.kind == "event":
                    filler.add(record.head.seq, number, offset, len(line) - 1, record.fields())
        finally:
            os.close(fd)
        filler.write()
        if end > start:
            self._db.execute(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?)", (number, end, digest)
            )


class _Filler:
    """Collects rows, and writes many at a time."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[str, int] = {}
        self._events: list[tuple[Any, ...]] = []
        self._capabilities: list[tuple[int, int, int]] = []
        self._open: dict[int, bool] = {}

    def add(self, seq: int, segment: int, start: int, length: int, event: dict[str, Any]) -> None:
        data = event.get("data")
        data = data if isinstance(data, dict) else {}
        name, moment = str(event.get("eventname")), microseconds(event.get("time"))
        component, run = event.get("componentid"), self._id(str(event.get("runid")))
        if name in STARTS or name == END:
            self._open[run] = name != END
        self._events.append((
            seq, segment, start, length, moment, self._id(name), run,
            None if component is None else self._id(str(component)), decision_of(name, data),
        ))  # fmt: skip
        for text in _capabilities(data):
            self._capabilities.append((self._id(text), moment, seq))
        if len(self._events) >= _BATCH:
            self.write()

    def write(self) -> None:
        self._db.executemany("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?)", self._events)
        self._db.executemany("INSERT OR IGNORE INTO capability VALUES (?,?,?)", self._capabilities)
        runs = self._open.items()
        added, ended = ([(run,) for run, is_open in runs if is_open is wanted]
                        for wanted in (True, False))  # fmt: skip
        self._db.executemany("INSERT OR IGNORE INTO unended VALUES (?)", added)
        self._db.executemany("DELETE FROM unended WHERE run = ?", ended)
        self._events, self._capabilities, self._open = [], [], {}
        if len(self._ids) > 200_000:
            self._ids = {}

    def _id(self, text: str) -> int:
        found = self._ids.get(text)
        if found is None:
            row = self._db.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
            found = row[0] if row else self._db.execute(
                "INSERT INTO name (text) VALUES (?)", (text,)
            ).lastrowid  # fmt: skip
            self._ids[text] = int(found or 0)
        return int(found or 0)


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


def _unfit(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the audit log's index does not fit the log: {reason}",
        hint="verify the log with `omnibase audit verify`, then `omnibase audit index rebuild`",
    )


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _unfit(str(error)) from None
