"""What a registry store does: the protocol that one contract suite checks."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable
from uuid import UUID

from omnibase.core.registry.model import Component, Lifecycle
from omnibase.errors import OmniBaseError, PolicyError, RegistryError

__all__ = [
    "MAX_POLICY_BYTES",
    "MAX_SCRIPT_BYTES",
    "Finding",
    "FindingCode",
    "Head",
    "PolicyDocument",
    "RegistryStore",
    "Validator",
]

MAX_POLICY_BYTES = 1 << 20
MAX_SCRIPT_BYTES = 4 << 20

Validator = Callable[[UUID, bytes], None]
"""Raises for a policy document that is no good; called before writing and after reading."""


class FindingCode(StrEnum):
    """What is wrong with a file of the registry."""

    CHANGED = "changed"
    """Its content is not what the registry wrote: edited or truncated."""
    ROLLBACK = "rollback"
    """It is an older version of itself."""
    SWAPPED = "swapped"
    """It is another component's."""
    MISSING = "missing"
    EXTRA = "extra"
    """The registry did not write it."""
    LINK = "link"
    """It is a symbolic link, or has a second name."""
    NOT_REGULAR = "not_regular"
    """It is no regular file, or no directory where one belongs."""
    TOO_LARGE = "too_large"
    PERMISSIONS = "permissions"
    """Others may write it, or it belongs to somebody else."""
    UNREADABLE = "unreadable"
    LOG = "log"
    """The log does not fit together, or does not continue the head that was noted."""
    INTERRUPTED = "interrupted"
    """A write was interrupted, and what it left does not fit the registry."""
    POLICY = "policy"
    """The validator refuses the policy document."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: Relative to the registry, e.g. ``components/<uuid>.json``; the SQL
            store names its rows likewise.
        message: One sentence.
    """

    file: str
    code: FindingCode
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the finding as JSON-ready data."""
        return {"file": self.file, "code": self.code.value, "message": self.message}


class Head(NamedTuple):
    """The end of the log: note it elsewhere, and a later `verify` can tell a rollback.

    Attributes:
        entries: Changes since the registry was made.
        sha256: Digest over all of them.
    """

    entries: int
    sha256: str


class PolicyDocument(NamedTuple):
    """A component's policy, its digest verified."""

    document: bytes
    version: int
    sha256: str


class Tampered(Exception):
    """Something in the store is not what the registry wrote; callers get `error`."""

    def __init__(self, file: str, code: FindingCode, message: str) -> None:
        super().__init__(message)
        self.finding = Finding(file=file, code=code, message=message)

    def error(self) -> OmniBaseError:
        """Returns what the caller gets."""
        finding = self.finding
        kind = PolicyError if finding.file.startswith("policies/") else RegistryError
        return kind(
            f"`{finding.file}`: {finding.message}",
            details={"reason": "tampered", **finding.to_dict()},
            hint="nobody but its owner may write it: `chmod go-w` it, if nobody has"
            if finding.code is FindingCode.PERMISSIONS
            else "see `omnibase registry verify`; restore the file from a backup",
        )


class Unsettled(Tampered):
    """What looks tampered with, to a caller who may not lock: perhaps a write under way."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.file, finding.code, finding.message)


def missing(message: str, hint: str | None = None, **details: Any) -> NoReturn:
    """Raises the error for what is not there."""
    raise RegistryError(message, details={"reason": "missing", **details}, hint=hint)


def conflict(message: str, hint: str | None = None, **details: Any) -> NoReturn:
    """Raises the error for a change that somebody else's change forbids."""
    raise RegistryError(message, details={"reason": "conflict", **details}, hint=hint)


@runtime_checkable
class RegistryStore(Protocol):
    """Components, their policies and scripts, with history, safe for many processes.

    Each method raises `RegistryError` with ``details["reason"]``: ``missing``,
    ``conflict``, ``invalid``, ``tampered``, ``busy`` or ``unavailable``; a policy
    that is not the one that was put is a `PolicyError`. Nothing that does not
    verify is returned. A method that writes has written durably when it returns.
    ``author`` and ``comment`` go on the record.
    """

    @property
    def directory(self) -> str | None:
        """The host directory that holds its files; ``None`` if a server does."""
        ...

    def add(self, component: Component, *, author: str = "", comment: str = "") -> Component:
        """Stores a new component; returns it with its first revision.

        Its uuid, and its name together with its version, must be new. A script and
        a policy come later.
        """
        ...

    def get(self, uuid: UUID) -> Component:
        """Returns a component."""
        ...

    def find(self, reference: str) -> Component:
        """Returns the component of a uuid, ``name``, ``name@version`` or ``name@constraint``.

        Without an exact version: the highest that is active; if none is, the
        highest that is deprecated, then draft; a retired one never.
        """
        ...

    def list(
        self,
        *,
        name: str | None = None,
        owner: str | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> Iterator[Component]:
        """Yields components in order of uuid, each read when it is asked for."""
        ...

    def uuids(self, name: str | None = None) -> Iterator[UUID]:
        """Yields every uuid, or those that ever had a name, in order.

        The components are not read: one that was tampered with does not hide the rest.
        """
        ...

    def update(self, component: Component, *, author: str = "", comment: str = "") -> Component:
        """Stores a changed component; returns it with its next revision.

        ``component.revision`` must be the stored one. The name stays, the version
        does not go down, the lifecycle follows `TRANSITIONS`, and a retired
        component does not change at all. Without a change there is no new revision.
        """
        ...

    def retire(self, uuid: UUID, *, author: str = "", comment: str = "") -> Component:
        """Ends a component's life; its record, policy and history stay."""
        ...

    def history(self, uuid: UUID) -> tuple[Component, ...]:
        """Returns every revision of a component, oldest first."""
        ...

    def put_policy(
        self,
        uuid: UUID,
        document: bytes,
        *,
        expected_version: int,
        author: str = "",
        comment: str = "",
    ) -> Component:
        """Stores a component's next policy; ``expected_version`` is the current one, or 0."""
        ...

    def get_policy(self, uuid: UUID, version: int | None = None) -> PolicyDocument:
        """Returns a component's policy, or an older version of it."""
        ...

    def add_script(
        self, uuid: UUID, name: str, content: bytes, *, author: str = "", comment: str = ""
    ) -> Component:
        """Stores a component's script and makes it the entrypoint; ``name`` as in ``main.py``."""
        ...

    def load_entrypoint(self, component: Component) -> bytes:
        """Returns the script that a component's digest names: this revision's, or nothing."""
        ...

    def head(self) -> Head:
        """Returns the end of the log."""
        ...

    def verify(self, *, since: Head | None = None) -> builtins.list[Finding]:
        """Checks everything there is and returns what is wrong, in order of file.

        Args:
            since: A head noted earlier: the log must continue from it.
        """
        ...

    def close(self) -> None:
        """Lets go of what the store holds open."""
        ...
