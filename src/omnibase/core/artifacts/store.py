"""Artifacts: what they are, how they are named, and what a store of them promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol

from omnibase.errors import ArtifactError

__all__ = [
    "MAX_NAME_BYTES",
    "OUT",
    "Artifact",
    "ArtifactStore",
    "Artifacts",
    "Finding",
    "Kind",
    "LeftOut",
    "check_name",
    "name_fault",
    "refused",
]

Kind = Literal["image", "table", "text", "json", "binary"]

OUT: Final = "out"
"""Names do not begin with this segment: scripts leave what they write below it."""
MAX_NAME_BYTES: Final = 512
_MAX_SEGMENT_BYTES: Final = 200
_MAX_SEGMENTS: Final = 8


def name_fault(name: str) -> str | None:
    """Says what keeps a text from being the name of an artifact, as the rest of a sentence.

    A name is one or more segments with ``/`` between them, each of them also the name
    of a file on any system and an exact pattern: printable, in Unicode's composed form
    (NFC), without ``*``, ``?`` and ``\\``, no space at either end, and no dot first.
    """
    import unicodedata

    problem = None
    segments = name.split("/")
    if not name or "" in segments:
        problem = "has an empty segment"
    elif not name.isprintable() or any(c in name for c in "*?\\"):
        problem = "contains a character that no name of an artifact has"
    elif unicodedata.normalize("NFC", name) != name:
        problem = "is not in Unicode's composed form (NFC)"
    elif any(s.startswith(".") or s.strip() != s for s in segments):
        problem = "has a segment that begins with `.`, or with a space at an end"
    elif len(segments) > _MAX_SEGMENTS or len(name.encode()) > MAX_NAME_BYTES:
        problem = f"has more than {_MAX_SEGMENTS} segments or {MAX_NAME_BYTES} bytes"
    elif any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
        problem = f"has a segment of more than {_MAX_SEGMENT_BYTES} bytes"
    elif segments[0] == OUT:
        problem = f"begins with `{OUT}`, below which scripts leave what they write"
    return problem


def check_name(name: str) -> str:
    """Returns a name of an artifact.

    Raises:
        ArtifactError: It is none.
    """
    fault = name_fault(name)
    if fault is not None:
        raise ArtifactError(
            f"`{ascii(name[:80])[1:-1]}` {fault}",
            details={"reason": "invalid"},
            hint="use a name such as `plot.png` or `reports/2026-q1.csv`",
        )
    return name


def refused(name: str, problem: str, reason: str, hint: str | None = None) -> ArtifactError:
    """Returns the error about an artifact.

    Args:
        name: Of the artifact.
        problem: What is wrong, as the rest of a sentence about it.
        reason: ``missing``, ``tampered``, ``invalid``, ``busy`` or ``unavailable``.
        hint: What to do.
    """
    return ArtifactError(
        f"the artifact `{name}` {problem}", details={"artifact": name, "reason": reason}, hint=hint
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Bytes under a name, by their digest.

    Attributes:
        name: One or more segments.
        version: Counts from 1 for each name.
        digest: ``sha256:`` and the digest of the bytes in hexadecimal.
        size: In bytes.
        kind: ``image``, ``table``, ``text``, ``json`` or ``binary``, by its content.
        media_type: E.g. ``image/png``, by its content.
        created_at: RFC 3339, UTC.
    """

    name: str
    version: int
    digest: str
    size: int
    kind: Kind
    media_type: str
    created_at: str
    _store: ArtifactStore | None = field(default=None, repr=False, compare=False)

    def read_bytes(self) -> bytes:
        """Returns the bytes, checked against the digest.

        Raises:
            ArtifactError: They are gone from the store, or not these bytes.
        """
        return self._from().read(self)

    def read_text(self) -> str:
        """Returns the bytes as text, which they are if the kind is no other than that.

        Raises:
            ArtifactError: As `read_bytes`.
            UnicodeDecodeError: They are not UTF-8.
        """
        return self.read_bytes().decode()

    def save(self, path: str | Path) -> None:
        """Writes the bytes to a new file, once they are checked against the digest.

        Raises:
            ArtifactError: As `read_bytes`.
            FileExistsError: There is something of that name.
        """
        self._from().save(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "size": self.size,
            "kind": self.kind,
            "media_type": self.media_type,
            "created_at": self.created_at,
        }

    def _from(self) -> ArtifactStore:
        if self._store is None:
            raise refused(self.name, "is in no store", "unavailable")
        return self._store


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file that a script left and that became no artifact.

    Attributes:
        name: As the script named it: untrusted text.
        reason: Why, as the rest of a sentence about it.
    """

    name: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data; undecodable bytes of the name are escaped."""
        name = self.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return {"name": name, "reason": self.reason}


class Artifacts(Mapping[str, Artifact]):
    """What a run left in the store, by name, in order of names.

    Args:
        artifacts: They.
        left_out: What became none.
    """

    __slots__ = ("_by_name", "left_out")

    def __init__(
        self, artifacts: tuple[Artifact, ...] = (), left_out: tuple[LeftOut, ...] = ()
    ) -> None:
        self._by_name = {artifact.name: artifact for artifact in artifacts}
        self.left_out = left_out

    def __getitem__(self, name: str) -> Artifact:
        try:
            return self._by_name[name]
        except KeyError:
            for left in self.left_out:
                if left.name == name:
                    raise KeyError(f"{name!r} {left.reason}") from None
            raise

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __hash__(self) -> int:
        return hash((tuple(self._by_name.values()), self.left_out))

    def __repr__(self) -> str:
        return f"Artifacts({tuple(self._by_name.values())!r}, left_out={self.left_out!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong in a store.

    Attributes:
        name: The artifact it concerns; empty if none.
        problem: What it is.
    """

    name: str
    problem: str


class ArtifactStore(Protocol):
    """Where artifacts are kept: bytes by their SHA-256, names with versions.

    A name's version, once there, never changes; `put` adds one. Whoever reads gets
    the bytes of the digest or an error, never others. What a crash cuts short leaves
    no name behind. Several processes may use a store at once.
    """

    @property
    def location(self) -> str:
        """The directory or URL, as it can be given again."""

    @property
    def areas(self) -> tuple[str, ...]:
        """Absolute host directories that no file grant may reach, since it lies there."""

    def put(self, name: str, source: BinaryIO) -> Artifact:
        """Adds a version of a name.

        Args:
            name: Of the artifact.
            source: Its bytes, from the start; seekable.

        Raises:
            ArtifactError: The name is none, or the store cannot take it.
        """

    def find(self, name: str, version: int | None = None) -> Artifact | None:
        """Returns a version of a name, the latest by default; ``None`` if there is none.

        Raises:
            ArtifactError: The store cannot be read, or its record is malformed.
        """

    def names(self) -> tuple[str, ...]:
        """Returns all names, sorted.

        Raises:
            ArtifactError: As `find`.
        """

    def versions(self, name: str) -> tuple[Artifact, ...]:
        """Returns all versions of a name, oldest first.

        Raises:
            ArtifactError: As `find`.
        """

    def read(self, artifact: Artifact) -> bytes:
        """Returns its bytes, checked against the digest.

        Raises:
            ArtifactError: They are missing, or others.
        """

    def save(self, artifact: Artifact, path: Path) -> None:
        """Writes its bytes to a new file; a file that is there is whole and checked.

        Raises:
            ArtifactError: As `read`.
            FileExistsError: There is something of that name.
        """

    def remove(self, name: str) -> int:
        """Forgets all versions of a name, and bytes that no other name has.

        Returns:
            How many versions there were.
        """

    def verify(self) -> Iterator[Finding]:
        """Checks every record and every byte, and yields what is wrong."""
