"""Trying out changes of a registry: what would come of them, by the store's own rules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from omnibase.core.registry.chained import ChainedStore
from omnibase.core.registry.store import FindingCode, Tampered
from omnibase.errors import OmniBaseError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from omnibase.core.registry import RegistryStore
    from omnibase.core.registry.view import Change, Transaction, View

__all__ = ["rehearse"]

_T = TypeVar("_T")


def rehearse(store: RegistryStore, steps: Callable[[RegistryStore], _T]) -> _T:
    """Takes steps on a store that keeps to itself what is written, and returns their outcome.

    Args:
        store: What the steps build on; it stays as it is.
        steps: Writes of components, policies and scripts; any number of them, each
            of which sees what those before it wrote. They may be taken twice.

    Raises:
        OmniBaseError: What the steps would raise.
    """
    if not isinstance(store, ChainedStore):
        raise TypeError(f"`{type(store).__name__}` cannot be rehearsed on")

    def ask(view: View) -> _T:
        try:
            return steps(_Rehearsal(view, store))
        except OmniBaseError as error:
            if error.details.get("reason") != "tampered":
                raise
            # Perhaps another's write is under way: the store looks again when it is not.
            found = (error.details[key] for key in ("file", "code", "message"))
            file, code, message = found
            raise Tampered(file, FindingCode(code), message) from None

    return store._read(ask)


class _Rehearsal(ChainedStore):
    def __init__(self, view: View, store: ChainedStore) -> None:
        super().__init__(validate=store._validate, clock=store._clock)
        self._store = store
        # It offers all that the methods that write ask for.
        self._view = cast("Transaction", _Overlay(view))

    @property
    def directory(self) -> str | None:
        return self._store.directory

    def _reading(self) -> AbstractContextManager[View]:
        return contextlib.nullcontext(self._view)

    _settled = _reading

    def _writing(self) -> AbstractContextManager[Transaction]:
        return contextlib.nullcontext(self._view)

    def close(self) -> None: ...


class _Overlay:
    """A view with changes that nobody else sees."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._changes: list[Change] = []

    def apply(self, change: Change) -> None:
        self._changes.append(change)

    def _of(self, uuid: UUID) -> list[Change]:
        return [change for change in self._changes if change.component.uuid == uuid]

    def record(self, uuid: UUID) -> bytes | None:
        made = self._of(uuid)
        return made[-1].record if made else self._view.record(uuid)

    def has_past(self, uuid: UUID, revision: int) -> bool:
        made = any(change.line.revision == revision for change in self._of(uuid))
        return made or self._view.has_past(uuid, revision)

    def line(self, sequence: int) -> bytes | None:
        for change in self._changes:
            if change.line.sequence == sequence:
                return change.line.encode()
        return self._view.line(sequence)

    def length(self) -> int:
        return self._changes[-1].line.sequence if self._changes else self._view.length()

    def holder(self, name: str, precedence: str) -> UUID | None:
        for change in self._changes:
            component = change.component
            if (component.name, component.version.precedence) == (name, precedence):
                return component.uuid
        return self._view.holder(name, precedence)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)
