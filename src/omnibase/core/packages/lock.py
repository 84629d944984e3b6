"""The lock: exactly which files make a layer, and the digest that names it. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from omnibase.core.packages.requirements import Wanted

__all__ = [
    "FORMAT",
    "Layer",
    "Lock",
    "Locked",
    "digest_of",
    "from_rows",
    "of_files",
    "pinned_digest",
]

FORMAT: Final = 1  # raise it whenever a layer is unpacked differently
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MAX_PACKAGES: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One package.

    Attributes:
        name: In canonical form.
        version: As its wheel's name has it.
        file: The wheel's file name.
        sha256: Of its bytes, in hexadecimal.
    """

    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All packages of a layer.

    Attributes:
        platform: Interpreter, ABI and machine that the files are for.
        packages: Sorted by name.
    """

    platform: str
    packages: tuple[Locked, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what makes the layer: its key."""
        pins = ((p.name, p.version, p.sha256) for p in self.packages)
        return digest_of(self.platform, pins)

    def to_text(self) -> str:
        """Returns the lock as a requirements file, every file with its hash."""
        lines = [f"# locked for {self.platform}; sha256:{self.digest}"]
        for package in self.packages:
            lines += [
                f"# {package.file}",
                f"{package.name}=={package.version} \\",
                f"    --hash=sha256:{package.sha256}",
            ]
        return "\n".join(lines) + "\n"

    def pins(self) -> tuple[str, ...]:
        """Returns each package as ``name==version sha256:…``."""
        return tuple(f"{p.name}=={p.version} sha256:{p.sha256}" for p in self.packages)

    def to_rows(self) -> list[list[str]]:
        """Returns JSON-ready data, which `from_rows` reads."""
        return [[p.name, p.version, p.file, p.sha256] for p in self.packages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that is whole.

    Attributes:
        lock: What it was made of.
        path: Host directory of the packages.
        files: How many there are.
        size: Their bytes.
    """

    lock: Lock
    path: str
    files: int
    size: int

    @property
    def digest(self) -> str:
        """Of the lock."""
        return self.lock.digest

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data."""
        return {
            "digest": self.digest,
            "platform": self.lock.platform,
            "packages": [f"{p.name}=={p.version}" for p in self.lock.packages],
            "files": self.files,
            "bytes": self.size,
        }


def digest_of(platform: str, pins: Iterable[tuple[str, str, str]]) -> str:
    """Returns the digest of a layer of these ``(name, version, sha256)``."""
    text = "\n".join([f"{FORMAT} {platform}", *(" ".join(pin) for pin in sorted(pins))])
    return hashlib.sha256(text.encode()).hexdigest()


def pinned_digest(platform: str, wanted: Iterable[Wanted]) -> str | None:
    """Returns the digest that requirements name by themselves: each one file, by its hash."""
    pins = []
    for one in wanted:
        plain = one.text == f"{one.name}=={one.version}"
        if not plain or one.version is None or len(one.hashes) != 1:
            return None
        pins.append((one.name, one.version, one.hashes[0]))
    return digest_of(platform, pins)


def of_files(files: Iterable[tuple[str, str]], platform: str) -> Lock:
    """Returns the lock of wheels by ``(file name, sha256)``: hostile names.

    Raises:
        ValueError: A file is no wheel, or two are of the same package.
    """
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    rows = []
    for file, sha256 in files:
        try:
            name, version, _, _ = parse_wheel_filename(file)
        except InvalidWheelFilename:
            raise ValueError(f"`{file[:120]}` is not the name of a wheel") from None
        rows.append([name, str(version), file, sha256])
    return from_rows(rows, platform)


def from_rows(rows: Any, platform: str) -> Lock:
    """Reads a lock from what may be hostile: names of files, or a file of the cache.

    Raises:
        ValueError: It is not a list of wheels by name, version, file and hash.
    """
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

    if not isinstance(rows, list) or len(rows) > _MAX_PACKAGES:
        raise ValueError("not a list of packages")
    packages: dict[str, Locked] = {}
    for row in rows:
        if not (isinstance(row, list) and len(row) == 4 and all(type(x) is str for x in row)):
            raise ValueError("not a package")
        name, version, file, sha256 = row
        try:
            stated, _, _, _ = parse_wheel_filename(file)
        except InvalidWheelFilename:
            raise ValueError(f"`{file[:120]}` is not the name of a wheel") from None
        if "/" in file or not file.isprintable() or len(file) > 255 or file.startswith("."):
            raise ValueError(f"`{file[:120]}` is not the name of a file")
        if stated != name or canonicalize_name(name) != name or name in packages:
            raise ValueError(f"`{file[:120]}` is not a wheel of `{name[:120]}` alone")
        if file.split("-")[1] != version and not _same_version(file.split("-")[1], version):
            raise ValueError(f"`{file[:120]}` is not of version `{version[:80]}`")
        if _SHA256.fullmatch(sha256) is None:
            raise ValueError(f"`{file[:120]}` has no SHA-256")
        packages[name] = Locked(name=name, version=version, file=file, sha256=sha256)
    ordered = sorted(packages.values(), key=lambda package: package.name)
    return Lock(platform=platform, packages=tuple(ordered))


def _same_version(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one.replace("_", "-")) == Version(other)
    except InvalidVersion:
        return False
