"""The registry in a database: SQLite or PostgreSQL, through SQLAlchemy.

The same records, byte for byte, and the same log as the file store keeps: a row is
believed no more than a file is. Writes are serialised by one lock, since each is a
link of one chain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from omnibase.core.registry.chain import LINE_BYTES
from omnibase.core.registry.chained import ChainedStore
from omnibase.core.registry.checks import MAX_COMPONENT_BYTES, is_uuid
from omnibase.core.registry.sql_schema import (
    WRITE,
    empty_database,
    failed,
    make_engine,
    make_tables,
)
from omnibase.core.registry.sqlite_guard import check_directory, check_file, create_file
from omnibase.core.registry.store import (
    MAX_POLICY_BYTES,
    MAX_SCRIPT_BYTES,
    Finding,
    FindingCode,
    Tampered,
    Validator,
)
from omnibase.core.registry.view import (
    LOG_FILE,
    Change,
    Kind,
    Strays,
    Transaction,
    View,
    component_file,
    past_file,
    policy_file,
    version_file,
)
from omnibase.core.security.patterns import quoted
from omnibase.errors import RegistryError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table
    from sqlalchemy.sql.elements import ColumnElement

__all__ = ["SqlStore"]

_LOCK_KEY = 0x6F6D6E69_62617365
"""PostgreSQL's advisory lock of the registry: ``omnibase`` in ASCII."""
_LIMITS: dict[Kind, int] = {
    "component": MAX_COMPONENT_BYTES,
    "policy": MAX_POLICY_BYTES,
    "script": MAX_SCRIPT_BYTES,
}


class SqlStore(ChainedStore):
    """A `RegistryStore` in a database.

    Args:
        url: ``sqlite:////absolute/path.db`` or ``postgresql+psycopg://…``.
        validate: Called with each policy before it is written and after it is read.
        lock_seconds: How long a write waits for the others.

    Raises:
        ConfigurationError: The database is not supported, or SQLAlchemy or the
            database's driver is not installed.
        RegistryError: The database cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        validate: Validator | None = None,
        lock_seconds: float = 30.0,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        options: dict[str, Any] = {"clock": clock} if clock else {}
        super().__init__(validate=validate, **options)
        self._lock_seconds = lock_seconds
        self._engine = make_engine(url, lock_seconds)
        self._tables = make_tables()
        self._made = False
        try:
            self._is_made()
        except RegistryError:
            self._engine.dispose()
            raise

    @property
    def _file(self) -> str | None:
        return self._engine.url.database if self._engine.dialect.name == "sqlite" else None

    @property
    def directory(self) -> str | None:
        """See `RegistryStore.directory`."""
        return None if self._file is None else os.path.dirname(os.path.realpath(self._file))

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        postgres = self._engine.dialect.name == "postgresql"
        if self._file is not None:
            self._check_file(self._file, make=write)
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(**{WRITE: write})
                if postgres and not write:
                    # One snapshot for all that a view reads.
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    if postgres and write:
                        milliseconds = int(self._lock_seconds * 1000)
                        connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
                        lock = text("SELECT pg_advisory_xact_lock(:key)")
                        connection.execute(lock, {"key": _LOCK_KEY})
                    yield connection
        except SQLAlchemyError as error:
            raise failed(error) from error

    def _is_made(self) -> bool:
        """Says whether the registry exists; whoever only reads does not make it."""
        from sqlalchemy import inspect

        file = self._file
        # A directory that is not there is a slip of the pen, and fails below.
        new = (
            file is not None
            and not os.path.lexists(file)
            and os.path.isdir(os.path.dirname(file) or ".")
        )
        if not self._made and not new:
            with self._transaction(write=False) as connection:
                have = set(inspect(connection).get_table_names())
                if file is not None:
                    _check_schema(connection)
            self._made = any(table.name in have for table in self._tables.values())
        return self._made

    def _check_file(self, file: str, *, make: bool) -> None:
        new = make and not os.path.lexists(file)
        try:
            if new:
                check_directory(file)
                create_file(file)
            check_file(file)
        except Tampered as error:
            if not new:
                raise error.error() from None
            raise RegistryError(
                f"`{os.path.dirname(file)}` is no place for a registry: {error.finding.message}",
                details={"reason": "invalid"},
                hint="keep it in a directory that its owner alone may write",
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RegistryError(
                f"the registry's database cannot be used: {quoted(reason)}",
                details={"reason": "unavailable"},
                hint="check its directory",
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[View]:
        if self._is_made():
            with self._transaction(write=False) as connection:
                yield _SqlView(connection, self._tables)
            return
        with empty_database() as connection:
            self._tables["log"].metadata.create_all(connection)
            yield _SqlView(connection, self._tables)

    _settled = _reading

    @contextmanager
    def _writing(self) -> Iterator[Transaction]:
        with self._transaction(write=True) as connection:
            if not self._made:
                self._tables["log"].metadata.create_all(connection)
            yield _SqlView(connection, self._tables)
        self._made = True


def _check_schema(connection: Connection) -> None:
    """Refuses what acts by itself: a view may never end, a trigger changes what is written."""
    from sqlalchemy import text

    query = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') LIMIT 1"
    name = connection.execute(text(query)).scalar()
    if name is not None:
        message = f"the database has a view or trigger {quoted(str(name))}"
        raise Tampered(LOG_FILE, FindingCode.EXTRA, message).error()


class _SqlView:
    """One transaction's view of the registry."""

    def __init__(self, connection: Connection, tables: dict[str, Table]) -> None:
        self._connection = connection
        self._tables = tables

    def _bytes(
        self, column: ColumnElement[Any], where: ColumnElement[bool], limit: int, file: str
    ) -> bytes | None:
        from sqlalchemy import case, func, select

        size = func.length(column)
        query = select(size, case((size <= limit, column))).where(where)
        row = self._connection.execute(query).first()
        if row is None or row[0] is None:
            return None
        if row[0] > limit:
            raise Tampered(file, FindingCode.TOO_LARGE, f"it is larger than {limit} bytes")
        if not isinstance(row[1], bytes):
            # SQLite keeps a text in a column of bytes, if somebody puts it there.
            raise Tampered(file, FindingCode.CHANGED, "it does not hold bytes")
        return row[1]

    def record(self, uuid: UUID) -> bytes | None:
        columns = self._tables["components"].c
        where = columns.uuid == str(uuid)
        return self._bytes(columns.record, where, MAX_COMPONENT_BYTES, component_file(uuid))

    def policy(self, uuid: UUID) -> bytes | None:
        columns = self._tables["policies"].c
        where = columns.uuid == str(uuid)
        return self._bytes(columns.document, where, MAX_POLICY_BYTES, policy_file(uuid))

    def script(self, entrypoint: str) -> bytes | None:
        columns = self._tables["scripts"].c
        where = columns.entrypoint == entrypoint
        return self._bytes(columns.content, where, MAX_SCRIPT_BYTES, entrypoint)

    def past(self, uuid: UUID, revision: int, kind: Kind) -> bytes | None:
        columns = self._tables["history"].c
        where = (columns.uuid == str(uuid)) & (columns.revision == revision)
        return self._bytes(columns[kind], where, _LIMITS[kind], past_file(uuid, revision, kind))

    def has_past(self, uuid: UUID, revision: int) -> bool:
        from sqlalchemy import select

        columns = self._tables["history"].c
        query = select(columns.revision).where(
            columns.uuid == str(uuid), columns.revision == revision
        )
        return self._connection.execute(query).first() is not None

    def line(self, sequence: int) -> bytes | None:
        columns = self._tables["log"].c
        return self._bytes(columns.line, columns.sequence == sequence, LINE_BYTES, LOG_FILE)

    def length(self) -> int:
        from sqlalchemy import func, select

        columns = self._tables["log"].c
        last = self._connection.execute(select(func.max(columns.sequence))).scalar()
        if last is None and self.uuids():
            raise Tampered(LOG_FILE, FindingCode.MISSING, "it is missing or empty")
        return last or 0

    def lines(self) -> Iterator[bytes]:
        from sqlalchemy import case, func, literal, select

        columns = self._tables["log"].c
        short = func.length(columns.line) <= LINE_BYTES
        query = select(case((short, columns.line), else_=literal(b""))).order_by(columns.sequence)
        for (line,) in self._connection.execute(query):
            yield line if isinstance(line, bytes) else b""

    def uuids(self) -> list[UUID]:
        from sqlalchemy import select

        found = self._connection.execute(select(self._tables["components"].c.uuid)).scalars()
        return [UUID(text) for text in found if is_uuid(text)]

    def versions(self, name: str) -> list[str]:
        from sqlalchemy import select

        columns = self._tables["names"].c
        query = select(columns.version).where(columns.name == name)
        return [str(text) for text in self._connection.execute(query).scalars()]

    def holder(self, name: str, precedence: str) -> UUID | None:
        from sqlalchemy import select

        columns = self._tables["names"].c
        query = select(columns.uuid).where(columns.name == name, columns.version == precedence)
        text = self._connection.execute(query).scalar()
        if text is None:
            return None
        if not is_uuid(text):
            file = version_file(name, precedence)
            raise Tampered(file, FindingCode.CHANGED, "it does not hold a uuid")
        return UUID(text)

    def files(self, uuid: UUID) -> set[str]:
        from sqlalchemy import select

        past, scripts = self._tables["history"].c, self._tables["scripts"].c
        query = select(past.revision, past.policy.is_not(None), past.script.is_not(None)).where(
            past.uuid == str(uuid)
        )
        found = set()
        for revision, policy, script in self._connection.execute(query):
            found.add(past_file(uuid, revision, "component"))
            if policy:
                found.add(past_file(uuid, revision, "policy"))
            if script:
                found.add(past_file(uuid, revision, "script"))
        mine = select(scripts.entrypoint).where(scripts.uuid == str(uuid))
        return found | {str(name) for name in self._connection.execute(mine).scalars()}

    def strays(self, expected: Strays) -> Iterator[Finding]:
        from sqlalchemy import select

        tables = self._tables
        for name, form, known in (
            ("components", "components/{}.json", expected.uuids),
            ("policies", "policies/{}.cedar.json", expected.policies),
            ("scripts", "scripts/{}", expected.scripts),
            ("history", "history/{}", expected.uuids),
        ):
            wanted = {str(uuid) for uuid in known}
            query = select(tables[name].c.uuid).distinct()
            for text in self._connection.execute(query).scalars():
                if text not in wanted:
                    yield _extra(form.format(text))
        names = tables["names"].c
        for name, version in self._connection.execute(select(names.name, names.version)):
            if (name, version) not in expected.versions:
                yield _extra(version_file(name, version))

    def apply(self, change: Change) -> None:
        """Makes a change, all of it when the transaction is committed."""
        from sqlalchemy import delete, insert, update

        tables, run = self._tables, self._connection.execute
        component = change.component
        uuid = str(component.uuid)
        shown = {
            "name": component.name,
            "version": str(component.version),
            "owner": component.owner,
            "lifecycle": component.lifecycle.value,
            "revision": component.revision_number,
            "record": change.record,
        }
        components, names = tables["components"], tables["names"]
        if component.revision_number == 1:
            run(insert(components).values(uuid=uuid, **shown))
        else:
            run(update(components).where(components.c.uuid == uuid).values(**shown))
        run(
            insert(tables["history"]).values(
                uuid=uuid, revision=component.revision_number, component=change.record,
                policy=change.policy, script=change.script,
            )
        )  # fmt: skip
        precedence = component.version.precedence
        if self.holder(component.name, precedence) is None:
            run(insert(names).values(name=component.name, version=precedence, uuid=uuid))
        if change.policy is not None:
            policies = tables["policies"]
            run(delete(policies).where(policies.c.uuid == uuid))
            run(insert(policies).values(uuid=uuid, document=change.policy))
        if change.script is not None:
            scripts = tables["scripts"]
            run(delete(scripts).where(scripts.c.uuid == uuid))
            content = {"uuid": uuid, "entrypoint": component.entrypoint, "content": change.script}
            run(insert(scripts).values(**content))
        line = {"sequence": change.line.sequence, "line": change.line.encode()}
        run(insert(tables["log"]).values(**line))


def _extra(file: str) -> Finding:
    return Finding(file=file, code=FindingCode.EXTRA, message="nothing refers to it")
