"""The curated image: the guest's root, built once per interpreter.

It holds the interpreter that runs OmniBase, its standard library, their
shared-library closure, the libraries that every wheel may expect, an ``/etc`` of
our own making, and the in-guest agent (`rootfs` puts them there).
Nothing else of the host is in it, and no file in it is executable by the
script's user: the agent starts as guest root, so the script can start nothing.

Images are content-addressed (``images/<sha256 of the manifest>``) and found
through an index keyed by interpreter. A build happens under a lock in a
temporary directory and appears by one rename: two builders at once, or one
killed half-way, leave whole images only.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from omnibase.core.sandbox import rootfs
from omnibase.core.sandbox.addressed import locked, manifest_digest, stamps_of
from omnibase.core.sandbox.rootfs import GUEST_PREFIX
from omnibase.errors import SandboxUnavailable

__all__ = ["GUEST_PREFIX", "Image", "ensure_image", "prune_images"]

_FORMAT = 9  # raise it whenever what is built changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image.

    Attributes:
        path: Directory on the host that is the guest's root.
        digest: SHA-256 of the manifest (path, mode and content of every file).
        python: Path of the interpreter in the guest.
        probes: Guest paths that the runtime itself looks for and may not find.
        environment: Variables that go with what the image holds.
    """

    path: str
    digest: str
    python: str
    probes: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def ensure_image(state_dir: Path) -> Image:
    """Returns the image for the running interpreter, building it if need be.

    Raises:
        SandboxUnavailable: The interpreter cannot be put into an image.
    """
    images = state_dir / "images"
    index = images / f"{_key()}.json"
    found = _read_index(index)
    if found is not None:
        return found
    images.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(images / ".lock"):
        found = _read_index(index)
        if found is not None:
            return found
        for stale in images.glob(".build-*"):
            shutil.rmtree(stale, ignore_errors=True)
        for draft in images.glob("*.tmp"):
            draft.unlink(missing_ok=True)
        if os.statvfs(images).f_flag & os.ST_NOEXEC:
            raise SandboxUnavailable(
                f"`{images}` is on a file system mounted noexec, and the guest's interpreter "
                "has to be run from it",
                hint="set `OMNIBASE_STATE_DIR` to a directory elsewhere",
            )
        try:
            return _build(images, index)
        except (OSError, shutil.Error) as error:
            full = isinstance(error, shutil.Error) or error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "no space left" if full else str(error)
            raise SandboxUnavailable(
                f"the sandbox image cannot be built in `{images}`: {reason}",
                hint="free disk space (an image takes about 100 MB), or set `OMNIBASE_STATE_DIR`",
            ) from error


def prune_images(state_dir: Path) -> list[Path]:
    """Removes images of other interpreters and times, unless a run is under way.

    Returns:
        What was removed. An image that is needed again is built again.
    """
    images = state_dir / "images"
    if not images.is_dir():
        return []
    removed = []
    with locked(images / ".lock"):
        if any((state_dir / "runs").iterdir()):
            return []
        index = images / f"{_key()}.json"
        current = _read_index(index)
        for entry in sorted(images.iterdir()):
            if entry.name == ".lock" or entry == index:
                continue
            if current is not None and str(entry) == current.path:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
                removed.append(entry)
            else:
                entry.unlink(missing_ok=True)
    return removed


def _key() -> str:
    """Hashes what identifies the interpreter and this builder."""
    executable = os.path.realpath(rootfs.base_executable())
    facts: list[object] = [_FORMAT, sys.version, executable]
    stdlib = os.path.dirname(os.__file__)  # `sysconfig` takes a millisecond to say the same
    elf = str(Path(__file__).with_name("elf.py"))
    builder = [__file__, rootfs.__file__, elf, *map(str, rootfs.agent_files())]
    facts += stamps_of([executable, stdlib, *builder])
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _read_index(index: Path) -> Image | None:
    try:
        record = json.loads(index.read_bytes())
        image = Image(
            path=record["path"],
            digest=record["digest"],
            python=record["python"],
            probes=tuple(record["probes"]),
            environment=tuple((str(k), str(v)) for k, v in record["environment"]),
        )
        libraries = [tuple(stamp) for stamp in record["libraries"]]
        if stamps_of([path for path, _, _ in libraries]) != libraries:
            return None  # a library was updated: so is the image
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return image if os.path.isdir(image.path) else None


def _build(images: Path, index: Path) -> Image:
    work = images / f".build-{os.urandom(8).hex()}"
    try:
        python, libraries = rootfs.populate(work)
        # Taken before the copy could be outdated: a later change is seen as one.
        stamps = stamps_of(libraries)
        digest = manifest_digest(work)
        final = images / digest
        if not final.exists():
            work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    locale = (final / GUEST_PREFIX.lstrip("/") / "lib" / "locale").is_dir()
    image = Image(
        path=str(final),
        digest=digest,
        python=python,
        probes=rootfs.probes(),
        environment=(
            (("LANG", "C.UTF-8"), ("LOCPATH", f"{GUEST_PREFIX}/lib/locale"))
            if locale
            else (("LANG", "C"),)
        ),
    )
    record = dataclasses.asdict(image) | {"libraries": stamps}
    draft = index.with_suffix(f".{os.urandom(4).hex()}.tmp")
    draft.write_text(json.dumps(record))
    draft.replace(index)
    return image
