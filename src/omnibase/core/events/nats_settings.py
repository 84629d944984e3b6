"""How to reach a NATS server: an address, a subject, and credentials nobody gets to see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

__all__ = ["SUBJECT", "NatsSettings"]

SUBJECT: Final = "omnibase.events"
_PORT: Final = 4222
_MAX_SECRET_BYTES: Final = 64 << 10
# https://docs.nats.io/nats-concepts/subjects: tokens without wildcards, spaces, dots.
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+", re.ASCII)
_EXAMPLE: Final = "name it like `nats://127.0.0.1:4222`, or `tls://nats.example.com:4222`"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """Where and as whom to publish. Its text shows no secret.

    Attributes:
        servers: Each ``nats://host:port`` or ``tls://host:port``; tried in turn.
        subject: Events go to ``SUBJECT.EventName``.
        user: Name of the user.
        password: Of the user.
        token: Instead of both.
        ca: PEM file of the authorities that may vouch for the server; by default
            those of the system.
        certificate: PEM file of the client's own certificate.
        key: PEM file of its key.
    """

    servers: tuple[str, ...]
    subject: str = SUBJECT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, url: str, *, name: str = "the address", **more: str | None) -> NatsSettings:
        """Reads one address, or several with commas between them.

        Args:
            url: ``nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]``, or ``tls://…``.
            name: What it is called in an error.
            more: The other attributes.

        Raises:
            ConfigurationError: It is malformed. The error shows no password.
        """
        servers, given = [], {key: value for key, value in more.items() if value is not None}
        for part in url.split(","):
            server, credentials = _server(part.strip(), name)
            servers.append(server)
            given = {**credentials, **given}
        settings = cls(servers=tuple(servers), **given)
        settings._check(name)
        return settings

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> NatsSettings | None:
        """Reads ``OMNIBASE_NATS`` and its kin; ``None`` if it is not set, or ``off``.

        Raises:
            ConfigurationError: A variable is malformed, or a file cannot be read.
        """

        def value(name: str) -> str | None:
            return variables.get(f"OMNIBASE_NATS_{name}") or None

        url = variables.get("OMNIBASE_NATS", "")
        if url in ("", "off"):
            return None
        return cls.of(
            url,
            name="OMNIBASE_NATS",
            subject=value("SUBJECT"),
            user=value("USER"),
            password=_secret(value("PASSWORD_FILE"), "OMNIBASE_NATS_PASSWORD_FILE"),
            token=_secret(value("TOKEN_FILE"), "OMNIBASE_NATS_TOKEN_FILE"),
            ca=value("CA"),
            certificate=value("CERT"),
            key=value("KEY"),
        )

    @property
    def places(self) -> str:
        """The servers, for a person: ``host:port``, with commas between them."""
        return ", ".join(place(server) for server in self.servers)

    def redact(self, text: str) -> str:
        """Returns text without the password and the token."""
        for secret in (self.password, self.token):
            if secret:
                text = text.replace(secret, "***")
        return text

    def tls(self) -> ssl.SSLContext | None:
        """Returns how the connection is to be secured; ``None`` if it is not.

        Raises:
            ConfigurationError: A file cannot be used.
        """
        if not self.servers[0].startswith("tls://"):
            return None
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the certificates for NATS cannot be used: {error}",
                hint="check the PEM files of OMNIBASE_NATS_CA, OMNIBASE_NATS_CERT and "
                "OMNIBASE_NATS_KEY",
            ) from None
        return context

    def _check(self, name: str) -> None:
        if not _SUBJECT.fullmatch(self.subject):
            raise ConfigurationError(
                f"`{ascii(self.subject)[1:-1][:80]}` is no subject to publish below",
                hint=f"name words with dots between them, e.g. `{SUBJECT}`",
            )
        if len({server.partition(":")[0] for server in self.servers}) > 1:
            raise ConfigurationError(
                f"{name}: some servers with TLS and some without", hint="write `tls://` for all"
            )
        if self.password is not None and self.user is None:
            raise ConfigurationError(
                f"{name}: a password without a user", hint="set OMNIBASE_NATS_USER, too"
            )
        if self.token is not None and self.user is not None:
            raise ConfigurationError(
                f"{name}: a token and a user are two ways to log in", hint="name one of them"
            )
        if self.key is not None and self.certificate is None:
            raise ConfigurationError(
                f"{name}: a key without its certificate", hint="set OMNIBASE_NATS_CERT, too"
            )
        if (self.ca or self.certificate) and not self.servers[0].startswith("tls://"):
            raise ConfigurationError(
                f"{name}: certificates are for `tls://`, and this is not",
                hint="write `tls://` instead of `nats://`",
            )


def place(server: str) -> str:
    """Returns a server's ``host:port``."""
    return server.partition("://")[2]


def _server(text: str, name: str) -> tuple[str, dict[str, str]]:
    """Returns one server without credentials, and those."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or _PORT
    except ValueError:
        raise _malformed(text, name) from None
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in ("nats", "tls") or not plain or not _HOST.fullmatch(host):
        raise _malformed(text, name)
    host = f"[{host}]" if ":" in host else host
    credentials = {}
    if parts.username is not None:
        if parts.password is None:
            credentials["token"] = unquote(parts.username)
        else:
            credentials = {"user": unquote(parts.username), "password": unquote(parts.password)}
    return f"{parts.scheme}://{host}:{port}", credentials


def _malformed(text: str, name: str) -> ConfigurationError:
    # What is before the last `@` may be a password, however malformed the rest is.
    shown = ascii(text.rpartition("@")[2])[1:-1][:80]
    return ConfigurationError(f"{name}: `{shown}` is no NATS server's address", hint=_EXAMPLE)


def _secret(path: str | None, name: str) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            found = file.read(_MAX_SECRET_BYTES + 1)
        text = found.decode("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: `{path}` cannot be read: {getattr(error, 'strerror', None) or 'not text'}",
            hint="name a file that holds the secret and nothing else",
        ) from None
    if not text or len(found) > _MAX_SECRET_BYTES:
        raise ConfigurationError(
            f"{name}: `{path}` holds no secret, or too much for one",
            hint="name a file that holds the secret and nothing else",
        )
    return text
