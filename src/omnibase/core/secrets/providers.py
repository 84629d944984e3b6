"""The stores that come with OmniBase."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Final

from omnibase.core.secrets.store import MAX_SECRET_BYTES, SecretStore, refused
from omnibase.errors import ConfigurationError, SecretAccessError

__all__ = [
    "DirectorySecrets",
    "EnvironmentSecrets",
    "KeyringSecrets",
    "MappingSecrets",
    "secret_store",
]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


def secret_store(text: str) -> SecretStore:
    """Returns the store that a text names: ``env``, ``dir:/path`` or ``keyring``.

    Raises:
        ConfigurationError: It names none.
    """
    kind, colon, rest = text.partition(":")
    if kind == "dir" and rest:
        return DirectorySecrets(rest)
    if not colon and kind == "env":
        return EnvironmentSecrets()
    if not colon and kind == "keyring":
        return KeyringSecrets()
    raise ConfigurationError(
        f"`{text[:80]}` is not a store of secrets",
        hint="choose `env`, `dir:/path` or `keyring`",
    )


class MappingSecrets:
    """Values that the caller has already; text stands for its UTF-8."""

    areas = ()

    def __init__(self, values: Mapping[str, str | bytes]) -> None:
        self._values = values

    def __repr__(self) -> str:
        return f"MappingSecrets of {sorted(self._values)}"

    def get(self, name: str) -> bytes | None:
        """See `SecretStore`."""
        value = self._values.get(name)
        return _encoded(name, value) if isinstance(value, str) else value

    def hint(self, name: str) -> str:
        """See `SecretStore`."""
        return f"add `{name}` to the mapping that is passed as `secrets`"


class EnvironmentSecrets:
    """Environment variables of this process, each with a prefix.

    The prefix keeps a grant from naming just any variable. Names are not
    translated: two of them would come to mean the same variable.
    """

    areas = ()

    def __init__(self, prefix: str = "OMNIBASE_SECRET_") -> None:
        self._prefix = prefix

    def get(self, name: str) -> bytes | None:
        """See `SecretStore`."""
        return os.environb.get(os.fsencode(self._prefix + name))

    def hint(self, name: str) -> str:
        """See `SecretStore`."""
        variable = self._prefix + name
        if name.replace("_", "").isalnum():
            return f"set the environment variable `{variable}`"
        return f"set the environment variable `{variable}`, e.g. with `env '{variable}=…' …`"


class DirectorySecrets:
    """A directory that holds a file for each secret, under its name.

    The directory and each file belong to this user or to root, and nobody else has
    any right to them; the files are regular, no links; nobody else can put another
    directory in its place.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)

    @property
    def areas(self) -> tuple[str, ...]:
        """See `SecretStore`."""
        return (self._path,)

    def get(self, name: str) -> bytes | None:
        """See `SecretStore`."""
        directory = self._open()
        try:
            # Opening a FIFO must not wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(name, flags, dir_fd=directory), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise refused(name, "is not a regular file", self.hint(name))
                if not _private(status):
                    raise refused(
                        name,
                        "is in a file that is not yours alone",
                        f"`chown {os.geteuid()} {self._path}/{name}` and "
                        f"`chmod 600 {self._path}/{name}`",
                    )
                return file.read(MAX_SECRET_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(name, f"cannot be read: {error.strerror}", self.hint(name)) from None
        finally:
            os.close(directory)

    def hint(self, name: str) -> str:
        """See `SecretStore`."""
        return f"write the value to `{self._path}/{name}`, a regular file with mode 600"

    def _open(self) -> int:
        try:
            unsafe = [above for above in self._above() if not _steady(os.lstat(above))]
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(
                f"the directory of secrets `{self._path}` cannot be read: {error.strerror}",
                hint="make it, with mode 700",
            ) from None
        if not unsafe and _private(os.fstat(fd)):
            return fd
        os.close(fd)
        hint = "keep it where nobody else can write"
        raise SecretAccessError(
            f"the directory of secrets `{self._path}` is not yours alone"
            + (f": others can write to `{unsafe[0]}`" if unsafe else ""),
            details={"directory": self._path},
            hint=hint if unsafe else f"`chown {os.geteuid()} {self._path}` and `chmod 700` it",
        )

    def _above(self) -> list[str]:
        names = self._path.split("/")
        return ["/".join(names[:count]) or "/" for count in range(len(names) - 1, 0, -1)]


class KeyringSecrets:
    """The system's keyring, through the library `keyring`: the user name is the secret's.

    Args:
        service: Under which the values are kept.
    """

    areas = ()

    def __init__(self, service: str = "omnibase") -> None:
        self._service = service

    def get(self, name: str) -> bytes | None:
        """See `SecretStore`."""
        try:
            import keyring
        except ImportError:
            raise ConfigurationError(
                "secrets from the keyring need the library `keyring`",
                hint="`pip install 'omnibase[keyring]'`",
            ) from None
        try:
            value = keyring.get_password(self._service, name)
        except Exception as error:
            # Its text is a backend's own: nobody knows what it holds.
            raise refused(
                name,
                f"cannot be read from the keyring ({type(error).__name__})",
                "see `python -m keyring diagnose`",
            ) from None
        return None if value is None else _encoded(name, value)

    def hint(self, name: str) -> str:
        """See `SecretStore`."""
        return f"`python -m keyring set {self._service} {name}`"


def _encoded(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # which has the text in it
        raise refused(name, "is not valid Unicode", "keep it as bytes") from None


def _ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _private(status: os.stat_result) -> bool:
    return _ours(status) and not status.st_mode & _OTHERS


def _steady(status: os.stat_result) -> bool:
    """Whether nobody else can replace what is in this directory."""
    return _ours(status) and (not status.st_mode & _WRITABLE or bool(status.st_mode & stat.S_ISVTX))
