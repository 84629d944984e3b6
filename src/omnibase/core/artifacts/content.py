"""The store: blobs under their digests, and one small record for each version of a name.

::

    blobs/ab/abcd…           the bytes whose SHA-256 that is
    names/<SHA-256 of the name>/00000001.json

A record is written once, after its blob, and only if its key is free: that is how
two processes come to different versions, and why a crash leaves no name behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, get_args

from omnibase.core.artifacts.kinds import Recogniser
from omnibase.core.artifacts.objects import Objects
from omnibase.core.artifacts.store import Artifact, Finding, Kind, check_name, name_fault, refused
from omnibase.errors import ArtifactError

__all__ = ["ContentStore"]

_CHUNK: Final = 1 << 20
_MAX_RECORD: Final = 16384
_MAX_VERSION: Final = 99_999_999
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_KEY: Final = re.compile(r"names/([0-9a-f]{64})/([0-9]{8})\.json")
_BLOB: Final = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")


class ContentStore:
    """See `ArtifactStore`.

    Args:
        objects: Where its objects are.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def __repr__(self) -> str:
        return f"ContentStore({self.location!r})"

    @property
    def location(self) -> str:
        """See `ArtifactStore`."""
        return self._objects.location

    @property
    def areas(self) -> tuple[str, ...]:
        """See `ArtifactStore`."""
        return self._objects.areas

    def put(self, name: str, source: BinaryIO) -> Artifact:
        """See `ArtifactStore`."""
        check_name(name)
        with _reported(name):
            found = _Pass(source)
            for chunk in iter(lambda: found.read(_CHUNK), b""):
                found.recogniser.feed(chunk)
            kind, media_type = found.recogniser.finish(name)
            source.seek(0)
            again = _Pass(source)
            with self._objects.held(alone=False):
                blob = _blob(found.sha256.hexdigest())
                self._objects.put(blob, again)
                if again.sha256.digest() != found.sha256.digest():
                    self._objects.delete(blob)
                    raise refused(name, "changed while it was stored", "invalid", "try again")
                return self._record(
                    Artifact(
                        name=name,
                        version=max(self._numbers(name), default=0) + 1,
                        digest=f"sha256:{found.sha256.hexdigest()}",
                        size=found.size,
                        kind=kind,
                        media_type=media_type,
                        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                        _store=self,
                    )
                )

    def find(self, name: str, version: int | None = None) -> Artifact | None:
        """See `ArtifactStore`."""
        check_name(name)
        with _reported(name):
            if version is None:
                version = max(self._numbers(name), default=0)
            return self._read_record(name, version)

    def names(self) -> tuple[str, ...]:
        """See `ArtifactStore`."""
        with _reported(None):
            first: dict[str, str] = {}
            for key in self._objects.keys("names/"):
                match = _KEY.fullmatch(key)
                if match is not None:
                    first.setdefault(match[1], key)
            found: list[str] = []
            for key in first.values():
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    found.append(self._parse(key, None).name)
            return tuple(sorted(found))

    def versions(self, name: str) -> tuple[Artifact, ...]:
        """See `ArtifactStore`."""
        check_name(name)
        with _reported(name):
            found = (self._read_record(name, number) for number in sorted(self._numbers(name)))
            return tuple(artifact for artifact in found if artifact is not None)

    def read(self, artifact: Artifact) -> bytes:
        """See `ArtifactStore`."""
        parts: list[bytes] = []
        with _reported(artifact.name):
            self._checked(artifact, parts.append)
        return b"".join(parts)

    def save(self, artifact: Artifact, path: Path) -> None:
        """See `ArtifactStore`."""
        draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}"[:255])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o666)
        try:
            with open(fd, "wb") as file, _reported(artifact.name):
                self._checked(artifact, file.write)
            os.link(draft, path)  # and not over anything
        finally:
            os.unlink(draft)

    def remove(self, name: str) -> int:
        """See `ArtifactStore`."""
        check_name(name)
        with _reported(name), self._objects.held(alone=True):
            numbers = sorted(self._numbers(name), reverse=True)
            mine = self._digests(_record_key(name, number) for number in numbers)
            for number in numbers:  # the latest first: none comes back by a crash
                self._objects.delete(_record_key(name, number))
            others = self._digests(filter(_KEY.fullmatch, list(self._objects.keys("names/"))))
            # Whoever cannot tell what a record refers to does not delete it either.
            for digest in mine - others if None not in others else ():
                if digest is not None:
                    self._objects.delete(_blob(digest.removeprefix("sha256:")))
            return len(numbers)

    def _digests(self, keys: Iterable[str]) -> set[str | None]:
        """Returns what records refer to; ``None`` is among it if one cannot be read."""
        found: set[str | None] = set()
        for key in keys:
            try:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    found.add(self._parse(key, None).digest)
            except ArtifactError:
                found.add(None)
        return found

    def verify(self) -> Iterator[Finding]:
        """See `ArtifactStore`."""
        referred: set[str] = set()
        with _reported(None):
            records, blobs = (sorted(self._objects.keys(p)) for p in ("names/", "blobs/"))
        for key in records:
            if not _KEY.fullmatch(key):
                yield Finding(name="", problem=f"`{key}` is no record of a name")
                continue
            try:
                artifact = self._parse(key, None)
                digest = artifact.digest.removeprefix("sha256:")
                if digest not in referred:
                    with _reported(artifact.name):
                        self._checked(artifact, lambda chunk: None)
                referred.add(digest)
            except ArtifactError as error:
                yield Finding(name=error.details.get("artifact", ""), problem=error.message)
            except FileNotFoundError:  # removed meanwhile
                continue
        for key in blobs:
            if _BLOB.fullmatch(key) is None:
                yield Finding(name="", problem=f"`{key}` is no blob")

    def _record(self, artifact: Artifact) -> Artifact:
        """Writes a record under the first number that is free."""
        document = {"format": 1, **artifact.to_dict()}
        del document["version"]
        data = json.dumps(document, sort_keys=True).encode() + b"\n"
        number = artifact.version
        while not self._objects.create(_record_key(artifact.name, number), data):
            number += 1
            if number > _MAX_VERSION:
                raise refused(artifact.name, "has too many versions", "invalid")
        return replace(artifact, version=number)

    def _numbers(self, name: str) -> list[int]:
        matches = (_KEY.fullmatch(key) for key in self._objects.keys(f"names/{_hashed(name)}/"))
        return [int(match[2]) for match in matches if match is not None]

    def _read_record(self, name: str, number: int) -> Artifact | None:
        try:
            return self._parse(_record_key(name, number), name)
        except FileNotFoundError:
            return None

    def _parse(self, key: str, name: str | None) -> Artifact:
        data = b""
        for chunk in self._objects.get(key):
            data += chunk
            if len(data) > _MAX_RECORD:
                break
        match = _KEY.fullmatch(key)
        try:
            fields: Any = json.loads(data)
            del fields["format"]
            artifact = Artifact(**fields, version=int(match[2]) if match else 0, _store=self)
            good = _is_whole(artifact) and match is not None
            good = good and _hashed(artifact.name) == (match[1] if match else "")
        except (ValueError, TypeError, KeyError, RecursionError):
            good = False
        if not good:
            raise refused(name or key, "has a malformed record", "tampered", "put it anew")
        return artifact

    def _checked(self, artifact: Artifact, take: Callable[[bytes], object]) -> None:
        """Hands the bytes on; the caller lets nobody have them before this returns."""
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in self._objects.get(_blob(artifact.digest.removeprefix("sha256:"))):
                digest.update(chunk)
                size += len(chunk)
                if size > artifact.size:
                    break
                take(chunk)
        except FileNotFoundError:
            raise refused(artifact.name, "has lost its bytes", "tampered", "put it anew") from None
        if size != artifact.size or f"sha256:{digest.hexdigest()}" != artifact.digest:
            raise refused(
                artifact.name,
                f"was tampered with: its bytes are not those of `{artifact.digest}`",
                "tampered",
                "put it anew, and find out who can write to the store",
            )


class _Pass:
    """Reads a source once, and takes its digest on the way."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.recogniser = Recogniser()

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(size)
        self.sha256.update(chunk)
        self.size += len(chunk)
        return chunk


def _is_whole(artifact: Artifact) -> bool:
    texts = (artifact.name, artifact.media_type, artifact.created_at, artifact.digest)
    return (
        all(isinstance(text, str) for text in texts)
        and name_fault(artifact.name) is None
        and _DIGEST.fullmatch(artifact.digest) is not None
        and type(artifact.size) is int
        and artifact.size >= 0
        and artifact.kind in get_args(Kind)
    )


def _hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"


def _record_key(name: str, number: int) -> str:
    return f"names/{_hashed(name)}/{number:08}.json"


@contextlib.contextmanager
def _reported(name: str | None) -> Iterator[None]:
    """Turns the trouble of a store's place into an error about an artifact, or the store."""
    try:
        yield
    except OSError as error:
        why = f"cannot be used: {error.strerror or error}"
        hint = "check the store that `--artifacts` names"
        if name is not None:
            raise refused(name, why, "unavailable", hint) from error
        raise ArtifactError(
            f"the store of artifacts {why}", details={"reason": "unavailable"}, hint=hint
        ) from error
