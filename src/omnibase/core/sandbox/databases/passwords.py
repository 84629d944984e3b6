"""The passwords of granted roles, as the file that every PostgreSQL client can read. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from omnibase.core.sandbox.spec import ServerGrant
from omnibase.core.secrets import Secret
from omnibase.core.secrets.store import refused

__all__ = ["password_file"]


def password_file(
    name: str, servers: Iterable[ServerGrant], secrets: Iterable[Secret]
) -> tuple[Secret, ...]:
    """Returns libpq's password file, as one more secret; none if there are no servers.

    A line is ``host:port:database:role:password``, with ``\\`` in front of each ``:``
    and ``\\`` (PostgreSQL's manual, 32.16 "The Password File").

    Args:
        name: What the file is called.
        servers: Who connects where.
        secrets: Those of the run, the roles' passwords among them.

    Raises:
        SecretAccessError: A password holds a line break or a NUL, which the file cannot.
    """
    values = {secret.name: secret.value for secret in secrets}
    lines, hidden = [], []
    for server in servers:
        password = values[server.secret].rstrip(b"\r\n")
        if any(byte in password for byte in (b"\n", b"\r", b"\0")):
            raise refused(
                server.secret, "holds a line break or a NUL", "a password is one line of text"
            )
        host = server.host.strip("[]")
        plain = (host, str(server.port), server.database, server.role)
        fields = [*(field.encode() for field in plain), password]
        lines.append(b":".join(map(_escaped, fields)) + b"\n")
        hidden.append(Secret(name=server.secret, value=_escaped(password)))
    return (Secret(name=name, value=b"".join(lines), hidden=tuple(hidden)),) if lines else ()


def _escaped(field: bytes) -> bytes:
    return field.replace(b"\\", b"\\\\").replace(b":", b"\\:")
