"""Where a store of artifacts is, known before it is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.core.artifacts.store import ArtifactStore

__all__ = ["Place", "place_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """A store, or the directory or URL of one that is opened when it is needed.

    Attributes:
        location: A directory, absolute and without links, or a URL.
        store: The store itself, if the caller has one.
    """

    location: str
    store: ArtifactStore | None = None

    @property
    def areas(self) -> tuple[str, ...]:
        """Host directories that no file grant may reach."""
        if self.store is not None:
            return self.store.areas
        return () if "://" in self.location else (self.location,)

    def open(self) -> ArtifactStore:
        """Returns the store.

        Raises:
            ConfigurationError: The library for URLs is not there, or refuses this one.
        """
        if self.store is not None:
            return self.store
        from omnibase.core.artifacts.content import ContentStore

        if "://" in self.location:
            from omnibase.core.artifacts.remote import RemoteObjects

            return ContentStore(RemoteObjects(self.location))
        from omnibase.core.artifacts.directory import DirectoryObjects

        return ContentStore(DirectoryObjects(self.location))


def place_of(artifacts: ArtifactStore | str | os.PathLike[str]) -> Place:
    """Returns where a store is.

    Raises:
        ConfigurationError: It is neither a store nor a place of one.
    """
    if isinstance(artifacts, str | os.PathLike):
        text = os.fspath(artifacts)
        if not text or "\0" in text or text.startswith("file:"):
            raise ConfigurationError(
                f"`{ascii(text[:80])[1:-1]}` is no store of artifacts",
                hint="name a directory, or a URL such as `s3://bucket/prefix`",
            )
        return Place(text if "://" in text else os.path.realpath(text))
    if not all(hasattr(artifacts, name) for name in ("areas", "find", "put", "save")):
        raise ConfigurationError(
            f"`artifacts` is a {type(artifacts).__name__}, not a store of artifacts",
            hint="pass a directory, a URL such as `s3://bucket/prefix`, or an ArtifactStore",
        )
    return Place(artifacts.location, artifacts)
