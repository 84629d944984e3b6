"""Layers: unpacked packages, kept under the state directory by the digest of their lock.

A layer is built in a temporary directory, checked, and appears by one rename: two
builders at once, or one killed half-way, leave whole layers only. It is used under
a shared lock, so that nothing that a run uses is pruned.

Everything in the state directory belongs to root alone. At each use a layer's files
are compared, by size, mode and time of change, with what was noted when it was
built: what changes a file, adds one or takes one away shows.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from omnibase.core.packages.lock import Layer, Lock, from_rows
from omnibase.errors import PackageError

__all__ = ["MAX_FILES", "MAX_LAYER_BYTES", "Cache", "prune", "settle", "stamp"]

MAX_FILES: Final = 100_000
MAX_LAYER_BYTES: Final = 4 << 30
_MAX_DEPTH: Final = 60
_RECORD: Final = "layer.json"
_SITE: Final = "site"


class Cache:
    """The layers of a state directory.

    Args:
        state: The state directory, the owner's alone.
        platform: Of the layers to make and find.
    """

    def __init__(self, state: Path, platform: str) -> None:
        self._top = state / "packages"
        self._platform = platform
        for name in ("", "layers", "resolved", "builds"):
            (self._top / name).mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def hold(self, digest: str) -> Iterator[Layer | None]:
        """Finds a layer, and keeps it from being pruned while it is used.

        Raises:
            PackageError: It is not what was built.
        """
        directory = self._top / "layers" / digest
        try:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # It may have been pruned between the two.
            yield self._read(directory, digest) if directory.is_dir() else None
        finally:
            os.close(lock)

    def resolved(self, key: str) -> str | None:
        """Returns the digest that requirements were resolved to before."""
        try:
            text = (self._top / "resolved" / key).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else None

    def remember(self, key: str, digest: str) -> None:
        """Notes what requirements were resolved to."""
        draft = self._top / "resolved" / f".{secrets.token_hex(8)}"
        draft.write_text(digest)
        draft.replace(self._top / "resolved" / key)

    @contextlib.contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """Gives a directory to build in, to one builder of a key at a time."""
        directory = self._top / "builds" / f"{key[:32]}-{secrets.token_hex(4)}"
        with open(self._top / "builds" / f".{key[:32]}", "ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            directory.mkdir(mode=0o700)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)

    def add(self, lock: Lock, built: Path) -> None:
        """Takes in what was unpacked, if it is sound.

        Args:
            lock: What it was made of.
            built: A directory that holds it as ``site``, of this file system.

        Raises:
            PackageError: It holds more than regular files and directories, or too much.
        """
        site = built / _SITE
        count, size = settle(site)
        record = {
            "lock": lock.to_rows(),
            "platform": lock.platform,
            "files": count,
            "bytes": size,
            "stamp": stamp(site),
        }
        (built / _RECORD).write_text(json.dumps(record))
        final = self._top / "layers" / lock.digest
        draft = built / "layer"  # not yet where layers are found and pruned
        draft.mkdir(mode=0o700)
        for name in (_SITE, _RECORD):
            (built / name).rename(draft / name)
        try:
            draft.rename(final)
        except OSError:  # another builder was first, or what is there is not sound
            if self._is_sound(final, lock.digest):
                return
            final.rename(built / "broken")
            draft.rename(final)

    def layers(self) -> list[Layer]:
        """Returns all layers, sorted by digest; those that are not sound are left out."""
        found = []
        for entry in sorted((self._top / "layers").iterdir()):
            with contextlib.suppress(PackageError):
                if not entry.name.startswith("."):
                    found.append(self._read(entry, entry.name, check=False))
        return found

    def prune(self) -> list[Path]:
        """Removes every layer that no run uses, and what builders left behind."""
        removed = []
        for entry in sorted([*(self._top / "layers").iterdir(), *(self._top / "builds").iterdir()]):
            if not entry.is_dir():
                continue
            with contextlib.suppress(OSError):
                lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry, ignore_errors=True)
                    removed.append(entry)
                finally:
                    os.close(lock)
        for entry in (self._top / "resolved").iterdir():
            with contextlib.suppress(OSError):
                digest = entry.read_text("ascii")
                if not (self._top / "layers" / digest).is_dir():
                    entry.unlink()
        return removed

    def _is_sound(self, directory: Path, digest: str) -> bool:
        try:
            self._read(directory, digest)
        except PackageError:
            return False
        return True

    def _read(self, directory: Path, digest: str, *, check: bool = True) -> Layer:
        site = directory / _SITE
        try:
            record = json.loads((directory / _RECORD).read_bytes())
            lock = from_rows(record["lock"], str(record["platform"]))
            layer = Layer(
                lock=lock, path=str(site), files=int(record["files"]), size=int(record["bytes"])
            )
            status = os.lstat(site)
            sound = (
                lock.digest == digest
                and stat.S_ISDIR(status.st_mode)
                and status.st_uid == os.geteuid()
                and not status.st_mode & 0o022
                and (not check or record["stamp"] == stamp(site))
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _tampered(directory, f": {error}") from error
        if not sound:
            raise _tampered(directory, "")
        return layer


def prune(state: Path) -> list[Path]:
    """Removes every layer that no run uses, and what builders left behind."""
    return Cache(state, "").prune() if (state / "packages").is_dir() else []


def settle(top: Path) -> tuple[int, int]:
    """Checks and closes what a sandbox has written; returns the count of files and their bytes.

    Each entry is reached through descriptors, without following a link.

    Raises:
        PackageError: It is not sound.
    """
    counted = [0, 0]

    def refuse(what: str) -> PackageError:
        return PackageError(
            f"the packages unpack to {what}", reason="hostile",
            hint="leave out the package that does",
        )  # fmt: skip

    def descend(directory: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise refuse(f"directories more than {_MAX_DEPTH} deep")
        os.fchmod(directory, 0o755)
        for name in os.listdir(directory):
            status = os.lstat(name, dir_fd=directory)
            counted[0] += 1
            if counted[0] > 2 * MAX_FILES:
                raise refuse(f"more than {2 * MAX_FILES} files")
            if not stat.S_ISDIR(status.st_mode) and (
                not stat.S_ISREG(status.st_mode) or status.st_nlink != 1
            ):
                raise refuse("something that is neither a regular file nor a directory")
            is_directory = stat.S_ISDIR(status.st_mode)
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            inner = os.open(name, flags | (os.O_DIRECTORY if is_directory else 0),
                            dir_fd=directory)  # fmt: skip
            try:
                if is_directory:
                    descend(inner, depth + 1)
                    continue
                os.fchmod(inner, 0o644)  # neither executable nor set-id
                counted[1] += os.fstat(inner).st_size
                if counted[1] > MAX_LAYER_BYTES:
                    raise refuse(f"more than {MAX_LAYER_BYTES >> 30} GiB")
            finally:
                os.close(inner)

    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        descend(root, 0)
    finally:
        os.close(root)
    return counted[0], counted[1]


def stamp(top: Path) -> str:
    """Returns a digest of the tree's names, sizes, modes and times of change."""
    digest = hashlib.sha256()

    def descend(directory: str) -> None:
        with os.scandir(directory) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            status = entry.stat(follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            facts = (entry.path[len(base) :], status.st_mode, status.st_uid, status.st_ctime_ns)
            digest.update(repr((*facts, 0 if is_directory else status.st_size)).encode())
            if is_directory:
                descend(entry.path)

    base = str(top)
    descend(base)
    return digest.hexdigest()


def _tampered(directory: Path, why: str) -> PackageError:
    return PackageError(
        f"the layer `{directory}` is not what was built{why}",
        reason="tampered",
        details={"layer": str(directory)},
        hint="find out who changed it; `omnibase doctor --clean` removes it, to be built again",
    )
