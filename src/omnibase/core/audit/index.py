"""The index: where the events of a log are, by what is asked for. The log is the truth.

An SQLite file in the log's directory. It grows with the log, is compared with it
before it is used, and can be removed at any time.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from omnibase.core.audit.chain import parse
from omnibase.core.audit.filling import COUNTED, INDEXES, RUN, TABLES, VERSION, Filler
from omnibase.core.audit.segments import open_segment, segment_name
from omnibase.core.audit.verification import lines, snapshot
from omnibase.core.events.files import lock
from omnibase.errors import ConfigurationError

__all__ = ["DECISIONS", "MAX_LIMIT", "Found", "Index", "Query"]

DECISIONS: Final = ("granted", "denied", "violation")
MAX_LIMIT: Final = 10_000
_FILE: Final = "index.sqlite"
_BUSY_SECONDS: Final = 30.0
# Names are in no order in the log: what does not fit is read again for each.
_BUILDING_KIB: Final = 256 << 10
_MAX_LISTED: Final = 500
_MAX_NAMES: Final = 20_000
# Time, number of the record, segment, place and length in it.
_Row = tuple[int, int, int, int, int]


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
        if not os.path.lexists(path):
            self._make(path)
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        with _damage():
            self._db = _connected(path)
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

    def _make(self, path: Path) -> None:
        """Fills an index aside, without a journal; it has its name once it is whole."""
        draft = path.with_name(f".{_FILE}.new")
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            lock(fd, _BUSY_SECONDS, str(draft))
            if os.path.lexists(path):
                return  # by whom we waited for
            os.ftruncate(fd, 0)
            with _damage(), contextlib.closing(_connected(draft)) as self._db:
                self._db.execute("PRAGMA journal_mode = OFF")
                self._db.execute("PRAGMA synchronous = OFF")
                self._db.execute(f"PRAGMA cache_size = -{_BUILDING_KIB}")
                self._update()
            os.fsync(fd)
            draft.rename(path)
        finally:
            os.close(fd)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._db.close()

    @property
    def rows(self) -> int:
        """How many events are in the index."""
        counted = "SELECT coalesce(sum(count), 0) FROM tally WHERE what = 'type'"
        return int(self._db.execute(counted).fetchone()[0])

    def find(self, query: Query) -> list[Found]:
        """Returns the latest events that fit, the oldest first.

        Raises:
            ConfigurationError: The index does not fit the log, or a beginning fits too
                many names.
        """
        with _damage():
            return self._fetch(reversed(self._latest(query)))

    def stats(self) -> dict[str, Any]:
        """Counts what there is."""
        with _damage():
            tally: dict[str, dict[int, int]] = {"type": {}, "decision": {}}
            for what, which, count in self._db.execute("SELECT * FROM tally"):
                tally.setdefault(what, {})[which] = count
            types = sorted(tally["type"].items(), key=lambda item: -item[1])
            names = dict(self._db.execute(
                "SELECT id, text FROM name WHERE id IN "
                "(SELECT which FROM tally WHERE what = 'type')"
            ))  # fmt: skip
            # Each by itself: of both together SQLite reads the whole index.
            first, last = self._db.execute(
                "SELECT (SELECT min(time) FROM event), (SELECT max(time) FROM event)"
            ).fetchone()
            unended = self._db.execute("SELECT count(*) FROM unended").fetchone()[0]
            size = self._db.execute("SELECT count(*), sum(bytes) FROM segment").fetchone()
        return {
            "events": self.rows,
            **{what: tally.get(what, {}).get(0, 0) for what in COUNTED.values()},
            "unended": unended,
            "first_microseconds": first,
            "last_microseconds": last,
            "types": {names[which]: count for which, count in types},
            "decisions": {
                DECISIONS[which - 1]: count for which, count in sorted(tally["decision"].items())
            },
            "segments": size[0],
            "bytes": size[1] or 0,
        }

    def _latest(self, query: Query) -> list[_Row]:
        """Returns the rows that fit, the latest first."""
        limit = min(query.limit, MAX_LIMIT)
        wanted: dict[str, list[int]] = {}
        many = ""
        for column, text in (
            ("type", query.type), ("component", query.component), ("run", query.run),
            ("capability", query.capability),
        ):  # fmt: skip
            if text is None:
                continue
            wanted[column] = self._names(text)
            if not wanted[column]:
                return []
            if len(wanted[column]) > _MAX_LISTED:
                if many:
                    raise _too_many(text)
                many = column
        if not many:
            return self._select(query, wanted, limit)
        # One name after the other, those first whose latest event is the latest, until
        # none that is left can have one that counts.
        best: list[_Row] = []
        seen: set[int] = set()
        for name, latest in self._by_latest(many, wanted[many]):
            if len(best) == limit and latest < best[0][0]:
                break
            for row in self._select(query, {**wanted, many: [name]}, limit):
                if row[1] in seen:
                    continue
                seen.add(row[1])
                if len(best) < limit:
                    heapq.heappush(best, row)
                else:
                    heapq.heappushpop(best, row)
        return sorted(best, reverse=True)

    def _by_latest(self, column: str, names: list[int]) -> list[tuple[int, int]]:
        """Returns names with the time of their latest event, the latest first."""
        last = (
            "SELECT max(time) FROM capability WHERE name = ?"
            if column == "capability"
            else f"SELECT max(time) FROM event WHERE {column} = ?"  # noqa: S608
        )
        found = ((name, self._db.execute(last, (name,)).fetchone()[0]) for name in names)
        times = [(name, latest) for name, latest in found if latest is not None]
        return sorted(times, key=lambda item: -item[1])

    def _select(self, query: Query, wanted: dict[str, list[int]], limit: int) -> list[_Row]:
        # By name: for what is asked for first, SQLite would rather look through all of
        # the latest, since it does not know how few of them fit.
        last = "time" if query.decision is None else "decision"
        asked = next((c for c in ("run", "component", "type") if c in wanted), last)
        table, source, kind = "event", f"event INDEXED BY by_{asked}", ""
        if "capability" in wanted:
            # In its order, so that the latest are found without reading all.
            table, kind = "capability", "DISTINCT "
            source = "capability CROSS JOIN event ON event.seq = capability.seq"
        where: list[str] = []
        values: list[int] = []
        for column, ids in wanted.items():
            place = {"capability": "capability.name", "run": "event.run"}.get(column)
            fits = "= ?" if len(ids) == 1 else f"IN ({','.join('?' * len(ids))})"
            where.append(f"{place or f'{table}.{column}'} {fits}")
            values += ids
        if query.decision is not None:
            where.append(f"{table}.decision = ? AND {table}.decision > 0")
            values.append(DECISIONS.index(query.decision) + 1)
        for sign, moment in ((">=", query.since), ("<", query.until)):
            if moment is not None:
                where.append(f"{table}.time {sign} ?")
                values.append(moment)
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return self._db.execute(
            f"SELECT {kind}{table}.time, event.seq, event.segment, event.start, event.length"  # noqa: S608
            f" FROM {source}{condition} ORDER BY {table}.time DESC, {table}.seq DESC LIMIT ?",
            (*values, limit),
        ).fetchall()

    def _names(self, text: str) -> list[int]:
        if text.endswith("*"):
            start = text[:-1]
            rows = self._db.execute(
                "SELECT id FROM name WHERE text >= ? AND text < ? LIMIT ?",
                (start, start + "\U0010ffff", _MAX_NAMES + 1),
            ).fetchall()
            if len(rows) > _MAX_NAMES:
                raise _too_many(text)
        else:
            same = "SELECT id FROM name WHERE text = ?"
            rows = self._db.execute(same, (text,)).fetchall()
            rows = rows or self._db.execute(same, (text.rpartition(".")[2],)).fetchall()
        return [row[0] for row in rows]

    def names_from(self, start: str, limit: int) -> list[str]:
        """Returns the run ids that begin with a text."""
        return [
            row[0] for row in self._db.execute(
                "SELECT text FROM name WHERE text >= ? AND text < ? AND uses & ? LIMIT ?",
                (start, start + "\U0010ffff", RUN, limit),
            )
        ]  # fmt: skip

    def unended(self, limit: int) -> list[str]:
        """Returns runs that have a start and no end, the latest first."""
        rows = self._db.execute(
            "SELECT text FROM unended JOIN name ON name.id = run ORDER BY run DESC LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def _fetch(self, rows: Iterable[_Row]) -> list[Found]:
        files: dict[int, int] = {}
        found = []
        try:
            for _, seq, segment, start, length in rows:
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
        if version not in (0, VERSION):
            raise _unfit("another version wrote it")
        self._db.execute("BEGIN IMMEDIATE")
        new = not self._db.execute("PRAGMA user_version").fetchone()[0]
        for statement in TABLES if new else ():
            self._db.execute(statement)
        known = {n: (b, h) for n, b, h in self._db.execute("SELECT * FROM segment")}
        filler = Filler(self._db)
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
        for statement in INDEXES if new else ():
            self._db.execute(statement)
        self._db.execute("COMMIT")

    def _fits(self, path: Path, end: int, digest: str) -> bool:
        fd = open_segment(path)
        try:
            tail = os.pread(fd, 67, max(0, end - 67))
        finally:
            os.close(fd)
        return tail == f'{digest}"}}\n'.encode()

    def _read(self, filler: Filler, number: int, path: Path, start: int, size: int) -> None:
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


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)


def _too_many(text: str) -> ConfigurationError:
    return ConfigurationError(f"`{text}` fits more than {_MAX_NAMES} names", hint="say more of it")


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
