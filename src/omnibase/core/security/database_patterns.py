"""Databases by their exact address: an SQLite file, or a role's database on a PostgreSQL server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from omnibase.core.security.globs import quoted
from omnibase.core.security.host_patterns import HostPattern
from omnibase.core.security.path_patterns import PathPattern
from omnibase.core.security.segments import check_printable, refusal
from omnibase.errors import CapabilityError

__all__ = ["DatabasePattern"]

T = TypeVar("T")

_SQLITE: Final = "sqlite:"
_POSTGRES: Final = "postgres://"
# A plain PostgreSQL identifier (at most 63 bytes); a role's is part of a secret's name, too.
_ROLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_FORMS: Final = "write `sqlite:/path/to/file.db` or `postgres://role@host:5432/database`"


@dataclass(frozen=True, slots=True)
class DatabasePattern:
    """One database, such as ``sqlite:/data/app.db``; there are no wildcards.

    Attributes:
        text: The canonical address; parsing it gives an equal pattern.
        path: The file of an SQLite database, an absolute path; else empty.
        role: The role that connects to a PostgreSQL server; else empty. No password
            is part of an address.
        endpoint: The server, one host and one port; else ``None``.
        database: The database on the server; else empty.
    """

    text: str
    path: str = ""
    role: str = ""
    endpoint: HostPattern | None = None
    database: str = ""

    @classmethod
    def parse(cls, text: str) -> DatabasePattern:
        """Reads an address and makes it canonical.

        Raises:
            CapabilityError: It is of another kind of database, malformed, names more
                than one, or holds a password.
        """
        check_printable(text)
        if text.startswith(_SQLITE):
            return cls._parse_sqlite(text)
        if text.startswith(_POSTGRES):
            return cls._parse_postgres(text)
        scheme = text.partition(":")[0]
        if scheme == "postgresql" or scheme.startswith("postgresql+"):
            raise refusal(text, ("is not the canonical form", f"begin it with `{_POSTGRES}`"))
        raise refusal(text, ("is no database that a sandbox can be given", _FORMS))

    @classmethod
    def _parse_sqlite(cls, text: str) -> DatabasePattern:
        path = text[len(_SQLITE) :]
        if path.startswith("//"):
            fault = "is a URL", f"write `{_SQLITE}` and the file's absolute path"
            raise refusal(text, fault)
        if "*" in path or "?" in path:
            raise refusal(text, ("has a wildcard", "name one database, and each by itself"))
        fault_of_path = PathPattern.fault(path)
        if fault_of_path is None and path == "/":
            fault_of_path = "names no file", "write the database's absolute path"
        if fault_of_path is not None:
            raise refusal(text, fault_of_path)
        return cls(text, path=path)

    @classmethod
    def _parse_postgres(cls, text: str) -> DatabasePattern:
        role, at, rest = text[len(_POSTGRES) :].partition("@")
        server, _, database = rest.partition("/")
        if not at:
            raise refusal(text, ("names no role", _FORMS))
        if ":" in role:
            raise CapabilityError(  # without what may be a password
                "a database's address holds no password",
                hint=f"write `{_POSTGRES}role@host:5432/database`; the password is a secret",
            )
        for what, name in (("role", role), ("database", database)):
            if _ROLE.fullmatch(name) is None:
                plain = "use letters, digits, `_`, `.` and `-`, a letter or `_` first"
                raise refusal(text, (f"has the {what} {quoted(name)}", plain))
        try:
            endpoint = HostPattern.parse(server)
        except CapabilityError as error:
            fault = error.message.partition("` ")[2]
            raise refusal(text, (f"has a server that {fault}", error.hint or _FORMS)) from None
        if not endpoint.is_literal:
            raise refusal(text, ("names more than one server", "write one host and one port"))
        canonical = f"{_POSTGRES}{role}@{endpoint}/{database}"
        return cls(canonical, role=role, endpoint=endpoint, database=database)

    def __str__(self) -> str:
        return self.text

    @property
    def is_literal(self) -> bool:
        """Always true: a pattern is one database."""
        return True

    def matches(self, concrete: str) -> bool:
        """Says whether an address is this one; a malformed one never is."""
        try:
            return DatabasePattern.parse(concrete) == self
        except CapabilityError:
            return False

    def contains(self, other: DatabasePattern) -> bool:
        """Says whether the other is the same."""
        return self == other

    def intersects(self, other: DatabasePattern) -> bool:
        """Says whether the other is the same."""
        return self == other

    def outside(self, other: DatabasePattern) -> str | None:
        """Returns this database's address if the other is another one."""
        return None if self == other else self.text

    def witness(self, other: DatabasePattern) -> str | None:
        """Returns the address if both are the same."""
        return self.text if self == other else None

    def intersection(self, other: DatabasePattern) -> tuple[DatabasePattern, ...]:
        """Returns what both are; empty if they differ."""
        return (self,) if self == other else ()

    @staticmethod
    def literal(concrete: str) -> str:
        """Returns the canonical address.

        Raises:
            CapabilityError: It is malformed.
        """
        return DatabasePattern.parse(concrete).text

    @staticmethod
    def finder(entries: Iterable[tuple[DatabasePattern, T]]) -> Callable[[str], T | None]:
        """Returns a function from an address to the value of the pattern that is for it."""
        by_text: dict[str, T] = {}
        for pattern, value in entries:
            by_text.setdefault(pattern.text, value)

        def find(text: str) -> T | None:
            try:
                return by_text.get(DatabasePattern.parse(text).text)
            except CapabilityError:
                return None

        return find
