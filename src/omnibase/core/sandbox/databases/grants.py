"""Database grants → what carries them out. Pure: it looks at no file and no server.

An SQLite database can be read: a copy of it. A PostgreSQL role can be used: its server,
and its password. Everything else would be a promise that nobody keeps, and is refused
with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from omnibase.core.sandbox.spec import DatabaseGrant, Mask, ServerGrant
from omnibase.core.security.capabilities import Capability, CapabilityType
from omnibase.core.security.database_patterns import DatabasePattern
from omnibase.errors import CapabilityError

__all__ = ["KINDS", "MAX_DATABASES", "PASSWORDS", "Databases"]

KINDS: Final = (CapabilityType.DATABASE_READ, CapabilityType.DATABASE_WRITE)
MAX_DATABASES: Final = 8
"""SQLite databases that one run may have copies of."""
PASSWORDS: Final = "pgpass"
"""Name of the file of passwords among the secrets, in the form that libpq reads."""


@dataclass(slots=True)
class Databases:
    """What the database grants of a run come to.

    Attributes:
        files: SQLite databases to copy.
        servers: PostgreSQL roles to use.
    """

    files: list[DatabaseGrant] = field(default_factory=list)
    servers: list[ServerGrant] = field(default_factory=list)

    def add(self, grant: Capability) -> DatabaseGrant | ServerGrant:
        """Takes a grant; returns what it comes to.

        Raises:
            CapabilityError: It cannot be enforced.
        """
        pattern = DatabasePattern.parse(grant.resource)
        reading = grant.type is CapabilityType.DATABASE_READ
        if pattern.endpoint is not None:
            if reading:
                raise _refused(
                    grant,
                    "what a role may do is the server's to decide, and there every role may "
                    "write something (large objects, temporary tables)",
                    f"grant `DATABASE_WRITE:{grant.resource}` of a role that the server lets do "
                    "no more than it should",
                )
            server = ServerGrant(
                host=pattern.endpoint.host,
                port=pattern.endpoint.low,
                role=pattern.role,
                database=pattern.database,
                capability=str(grant),
            )
            self.servers.append(server)
            return server
        if not reading:
            raise _refused(
                grant,
                "the locks that keep SQLite's writers apart do not reach across the sandbox's "
                "kernel, so two of them would corrupt the file",
                f"grant `DATABASE_READ:{grant.resource}` and take a changed copy as an artifact; "
                "for a database that nobody else opens, `FILE_WRITE` of its directory",
            )
        file = DatabaseGrant(path=pattern.path, capability=str(grant))
        self.files.append(file)
        return file

    def copied(self, masks: tuple[Mask, ...]) -> tuple[DatabaseGrant, ...]:
        """Returns the databases to copy.

        Raises:
            CapabilityError: There are more than `MAX_DATABASES`, or one lies where a
                policy shows nothing.
        """
        for grant in self.files:
            for mask in masks:
                if f"{grant.path}/".startswith(f"{mask.path}/"):
                    raise CapabilityError(
                        f"`{grant.capability}` is masked by `{mask.path}`: {mask.reason}",
                        details={"capability": grant.capability, "mask": mask.path},
                        hint="grant no directory around it, or keep the database elsewhere",
                    )
        if len(self.files) > MAX_DATABASES:
            raise CapabilityError(
                f"there are more than {MAX_DATABASES} databases, and each is copied",
                hint="grant those that the script reads",
            )
        return tuple(self.files)

    def secrets(self, granted: set[str]) -> set[str]:
        """Returns the names of the passwords that the roles need.

        Raises:
            CapabilityError: A secret is granted by the name of the file of passwords.
        """
        if self.servers and PASSWORDS in granted:
            raise CapabilityError(
                f"`SECRET_ACCESS:{PASSWORDS}` is where the passwords of databases are put",
                details={"capability": f"SECRET_ACCESS:{PASSWORDS}"},
                hint="call the secret something else",
            )
        return {server.secret for server in self.servers}


def _refused(grant: Capability, why: str, hint: str) -> CapabilityError:
    return CapabilityError(
        f"`{grant}` cannot be enforced: {why}", details={"capability": str(grant)}, hint=hint
    )
