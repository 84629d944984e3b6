"""Artifacts: files that scripts are given and leave behind, by the digest of their content."""

from omnibase.core.artifacts.content import ContentStore
from omnibase.core.artifacts.directory import DirectoryObjects
from omnibase.core.artifacts.remote import RemoteObjects
from omnibase.core.artifacts.store import (
    Artifact,
    Artifacts,
    ArtifactStore,
    Finding,
    LeftOut,
    check_name,
    name_fault,
)
from omnibase.errors import ConfigurationError

__all__ = [
    "Artifact",
    "ArtifactStore",
    "Artifacts",
    "ContentStore",
    "DirectoryObjects",
    "Finding",
    "LeftOut",
    "RemoteObjects",
    "artifact_store",
    "check_name",
    "name_fault",
]


def artifact_store(location: str) -> ArtifactStore:
    """Returns the store at a place: a directory, or a URL such as ``s3://bucket/prefix``.

    Raises:
        ConfigurationError: It is neither, or the library for URLs is not there.
    """
    if not location or "\0" in location or location.startswith("file:"):
        raise ConfigurationError(
            f"`{ascii(location)[1:81]}` is no store of artifacts",
            hint="name a directory, or a URL such as `s3://bucket/prefix`",
        )
    if "://" in location:
        return ContentStore(RemoteObjects(location))
    return ContentStore(DirectoryObjects(location))
