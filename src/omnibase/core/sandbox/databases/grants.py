"""Database grants → what carries them out. Pure: it looks at no file and no server.

An SQLite database can be read: a copy of it. A PostgreSQL role can be used: a network
grant and its password. Everything else would be a promise that nobody keeps, and is
refused with the reason.
"""

from __future__ import annotations

from typing import Final

from omnibase.core.sandbox.spec import DatabaseGrant, FileGrant
from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.database_patterns import DatabasePattern
from omnibase.errors import CapabilityError

__all__ = ["MAX_DATABASES", "bounded", "copied", "enforcement", "file_of", "is_sqlite"]

MAX_DATABASES: Final = 8
"""Databases that one run may have copies of."""

_COPY: Final = "read-only mount of a consistent copy, made at the start"


def is_sqlite(grant: Capability) -> bool:
    """Whether it is for an SQLite file; else it is for a PostgreSQL role."""
    return bool(DatabasePattern.parse(grant.resource).path)


def enforcement(grant: Capability) -> str:
    """Returns how a database grant is enforced."""
    return _COPY


def copied(grant: Capability) -> DatabaseGrant:
    """Returns what gives the script an SQLite database to read.

    Raises:
        CapabilityError: The grant is for writing.
    """
    pattern = DatabasePattern.parse(grant.resource)
    if grant.type is CapabilityType.DATABASE_WRITE:
        raise CapabilityError(
            f"`{grant}` cannot be enforced: the locks that keep SQLite's writers apart do not "
            "reach across the sandbox's kernel, so two of them would corrupt the file",
            details={"capability": str(grant)},
            hint=f"grant `DATABASE_READ:{grant.resource}` and take a changed copy as an artifact; "
            "for a database that nobody else opens, grant `FILE_WRITE` of its directory",
        )
    return DatabaseGrant(path=pattern.path, capability=str(grant))


def file_of(grant: DatabaseGrant) -> FileGrant:
    """Returns the database's file, as what is out of reach is told of files."""
    return FileGrant(path=grant.path, kind="file", writable=False, capability=grant.capability)


def bounded(grants: list[DatabaseGrant]) -> tuple[DatabaseGrant, ...]:
    """Returns the grants in order of path.

    Raises:
        CapabilityError: There are more than `MAX_DATABASES`.
    """
    if len(grants) > MAX_DATABASES:
        raise CapabilityError(
            f"there are more than {MAX_DATABASES} databases, and each is copied",
            hint="grant those that the script reads",
        )
    return tuple(sorted(grants, key=lambda grant: (grant.path.count("/"), grant.path)))
