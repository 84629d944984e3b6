"""The registry's database: how it is opened, and its tables."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from omnibase.core.security.patterns import quoted
from omnibase.errors import ConfigurationError, RegistryError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

__all__ = ["WRITE", "empty_database", "failed", "make_engine", "make_tables"]

CONNECT_SECONDS = 10
"""How long a database server may take to answer."""

WRITE = "omnibase_write"
"""The execution option of a connection whose next transaction writes."""


def make_engine(url: str, lock_seconds: float) -> Engine:
    """Returns the engine of a database that is supported; see `SqlStore`."""
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError as error:
        raise ConfigurationError(
            "a registry in a database needs SQLAlchemy",
            hint="install `omnibase[sql]`",
        ) from error
    try:
        parsed = sqlalchemy.make_url(url)
        dialect = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        # The URL may hold a password: it is not repeated.
        raise ConfigurationError(
            "the registry's URL is malformed", hint="write e.g. `sqlite:////var/lib/registry.db`"
        ) from None
    if dialect not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"a registry in {quoted(dialect)} is not supported",
            hint="use `sqlite` or `postgresql+psycopg`",
        )
    in_file = bool(parsed.database) and parsed.database != ":memory:"
    if dialect == "sqlite" and not in_file:
        raise ConfigurationError(
            "a registry in memory would be lost", hint="write e.g. `sqlite:////var/lib/registry.db`"
        )
    # An SQLite URI may say anything, another file for example.
    if dialect == "sqlite" and (parsed.query or str(parsed.database).startswith("file:")):
        raise ConfigurationError(
            "a registry in SQLite is named by its file alone",
            hint="write e.g. `sqlite:////var/lib/registry.db`",
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {}
    if dialect == "sqlite":
        # The working directory may change before it connects.
        file = os.path.abspath(str(parsed.database))
        parsed = parsed.set(
            database=os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))
        )
        options["connect_args"] = {"timeout": lock_seconds}
    elif "connect_timeout" not in parsed.query:
        options["connect_args"] = {"connect_timeout": CONNECT_SECONDS}
    try:
        engine = sqlalchemy.create_engine(parsed, hide_parameters=True, **options)
    except ArgumentError:  # e.g. `sqlite://db/registry.db`, which names a host
        raise ConfigurationError(
            "the registry's URL is malformed", hint="write e.g. `sqlite:////var/lib/registry.db`"
        ) from None
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationError(
            f"the driver {quoted(parsed.drivername)} is not installed",
            hint="install `omnibase[sql]`, and use `sqlite` or `postgresql+psycopg`",
        ) from error
    if dialect == "sqlite":
        sqlalchemy.event.listen(engine, "connect", partial(_set_up_sqlite, lock_seconds))
        sqlalchemy.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(lock_seconds: float, connection: Any, record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_wal(cursor, time.monotonic() + lock_seconds)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA trusted_schema=OFF")
    cursor.close()


def _use_wal(cursor: Any, deadline: float) -> None:
    """Waits for others itself: SQLite does not, where two go over to WAL at once."""
    import sqlite3

    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(0.005)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def empty_database() -> Iterator[Connection]:
    """Yields a connection to a database in memory: what a registry is before its first write."""
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def make_tables() -> dict[str, Table]:
    """Returns the tables by name."""
    from sqlalchemy import (
        BigInteger,
        Column,
        Index,
        Integer,
        LargeBinary,
        MetaData,
        String,
        Table,
        Text,
    )

    metadata = MetaData()
    uuid = String(36)
    components = Table(
        "omnibase_components",
        metadata,
        Column("uuid", uuid, primary_key=True),
        Column("name", String(64), nullable=False),
        Column("version", String(128), nullable=False),
        Column("owner", Text, nullable=False),
        Column("lifecycle", String(16), nullable=False),
        Column("revision", Integer, nullable=False),
        # The only column that is believed, and only with the log; the others are
        # for people's queries.
        Column("record", LargeBinary, nullable=False),
    )
    Index("omnibase_components_name", components.c.name)
    return {
        "components": components,
        "names": Table(
            "omnibase_names",
            metadata,
            Column("name", String(64), primary_key=True),
            Column("version", String(128), primary_key=True),
            Column("uuid", uuid, nullable=False),
        ),
        "policies": Table(
            "omnibase_policies",
            metadata,
            Column("uuid", uuid, primary_key=True),
            Column("document", LargeBinary, nullable=False),
        ),
        "scripts": Table(
            "omnibase_scripts",
            metadata,
            Column("entrypoint", String(200), primary_key=True),
            Column("uuid", uuid, nullable=False, index=True),
            Column("content", LargeBinary, nullable=False),
        ),
        "history": Table(
            "omnibase_history",
            metadata,
            Column("uuid", uuid, primary_key=True),
            Column("revision", Integer, primary_key=True),
            Column("component", LargeBinary, nullable=False),
            Column("policy", LargeBinary),
            Column("script", LargeBinary),
        ),
        "log": Table(
            "omnibase_log",
            metadata,
            Column("sequence", BigInteger, primary_key=True, autoincrement=False),
            Column("line", LargeBinary, nullable=False),
        ),
    }


def failed(error: Exception) -> RegistryError:
    """Returns the error for a database that fails."""
    cause = str(getattr(error, "orig", None) or type(error).__name__)
    first = (cause.splitlines() or [""])[0]
    busy = "locked" in first or "lock timeout" in first
    return RegistryError(
        f"the registry's database cannot be used: {quoted(first)}",
        details={"reason": "busy" if busy else "unavailable"},
        hint="another process is writing; try again" if busy else "check the database",
    )
