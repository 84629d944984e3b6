"""Secrets: where values come from, and what a run may be given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from omnibase.errors import OmniBaseError, SecretAccessError

__all__ = [
    "MAX_SECRET_BYTES",
    "MIN_SECRET_BYTES",
    "Secret",
    "SecretStore",
    "fetch",
    "refused",
]

MIN_SECRET_BYTES: Final = 4
"""Shorter values are refused: taken out of the output, they would leave holes everywhere."""
MAX_SECRET_BYTES: Final = 64 << 10
_MAX_TOTAL_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A name and its value; the value is in no ``repr``.

    Attributes:
        name: As in ``SECRET_ACCESS:NAME``.
        value: The bytes of ``/run/secrets/NAME``.
        hidden: What of the value is kept out of the output, and by which name; all of
            it by default.
    """

    name: str
    value: bytes = field(repr=False)
    hidden: tuple[Secret, ...] | None = field(default=None, repr=False)


class SecretStore(Protocol):
    """Where the values of secrets are kept.

    Names are those of ``SECRET_ACCESS``: a letter or ``_``, then letters, digits,
    ``_``, ``.`` and ``-``, at most 255. Case counts. A value is asked for once for
    each run that is granted it, in the thread that runs it, and is not kept.
    """

    @property
    def areas(self) -> tuple[str, ...]:
        """Absolute host directories that no file grant may reach, since values lie there."""

    def get(self, name: str) -> bytes | None:
        """Returns a value, exactly as it is kept, or ``None`` if there is none.

        Raises:
            SecretAccessError: It cannot be read, or not safely. Neither the message
                nor the details hold anything of a value.
        """

    def hint(self, name: str) -> str:
        """Says what to do so that the store has this secret."""


def refused(name: str, reason: str, hint: str | None = None) -> SecretAccessError:
    """Returns the error that names a secret, and nothing of its value.

    Args:
        name: The secret.
        reason: What is wrong, as the rest of a sentence about it.
        hint: What to do.
    """
    return SecretAccessError(
        f"the secret `{name}` {reason}",
        details={"secret": name, "capability": f"SECRET_ACCESS:{name}"},
        hint=hint,
    )


def _asked(store: SecretStore, name: str) -> object:
    try:
        return store.get(name)
    except OmniBaseError:
        raise
    except Exception as error:
        # A store's libraries have words of their own: nobody knows what is in them.
        raise refused(
            name, f"cannot be read from its store ({type(error).__name__})", store.hint(name)
        ) from None


def fetch(store: SecretStore, names: Iterable[str]) -> tuple[Secret, ...]:
    """Reads the secrets of a run.

    Args:
        store: Where they are.
        names: Those that are granted.

    Raises:
        SecretAccessError: One is missing, cannot be read, or is too short or too long;
            whatever else a store raises becomes one, with no more than the name of its type.
    """
    found: list[Secret] = []
    total = 0
    for name in names:
        value: object = _asked(store, name)
        if value is None:
            raise refused(name, "is not there", store.hint(name))
        if not isinstance(value, bytes):
            raise refused(name, "is not bytes", "a store's `get` returns bytes, or None")
        total += len(value)
        if len(value.strip()) < MIN_SECRET_BYTES:
            raise refused(
                name,
                f"is shorter than {MIN_SECRET_BYTES} bytes",
                "so short a value can neither be kept out of the output nor keep anyone out",
            )
        if len(value) > MAX_SECRET_BYTES or total > _MAX_TOTAL_BYTES:
            limit = MAX_SECRET_BYTES if len(value) > MAX_SECRET_BYTES else _MAX_TOTAL_BYTES
            which = "is" if len(value) > MAX_SECRET_BYTES else "and those before it are"
            raise refused(
                name, f"{which} larger than {limit >> 10} KiB", "grant a file with `FILE_READ`"
            )
        found.append(Secret(name=name, value=value))
    return tuple(found)
