"""What a store of artifacts is made of: objects under keys, in a directory or elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["Objects", "Readable"]


class Readable(Protocol):
    """Bytes that are read once."""

    def read(self, size: int, /) -> bytes:
        """Returns at most so many bytes; none at the end."""


class Objects(Protocol):
    """Objects under keys (``a/b/c``), each of them whole or not there.

    A method raises `OSError` for what the place answers: ``FileNotFoundError`` for
    an object that is not there; anything else is the place's own trouble.
    """

    @property
    def location(self) -> str:
        """The directory or URL, as it can be given again."""

    @property
    def areas(self) -> tuple[str, ...]:
        """Absolute host directories that it is kept in."""

    def put(self, key: str, source: Readable) -> None:
        """Writes an object, in place of what was there."""

    def create(self, key: str, data: bytes) -> bool:
        """Writes an object if there is none; returns whether there was none."""

    def get(self, key: str) -> Iterator[bytes]:
        """Yields an object in parts."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields the keys that begin with a prefix of whole segments, unsorted."""

    def delete(self, key: str) -> None:
        """Removes an object, if it is there."""

    def held(self, *, alone: bool) -> AbstractContextManager[None]:
        """Keeps others from removing, or with ``alone`` from writing, for as long.

        A place that cannot do that does nothing.
        """
