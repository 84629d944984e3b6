"""Building what a set of commands needs in the guest, once, under the state directory.

A layer holds each program, the libraries that they load, a loader that serves them
alone, and a cache in which that finds the libraries. Programs are the host's, but
for the name of their loader. Layers are content-addressed, as images are, and found
through an index keyed by the commands' names; it holds as long as nothing of what
was copied has changed.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from omnibase.core.sandbox import _runsc, elf
from omnibase.core.sandbox.addressed import locked, manifest_digest, stamps_of
from omnibase.core.sandbox.commands import finding, loader
from omnibase.core.sandbox.commands.finding import Found, refused
from omnibase.core.sandbox.commands.layout import (
    BIN,
    CACHE,
    DIRECTORY,
    LIB,
    LOADER,
    Command,
    CommandLayer,
)
from omnibase.errors import SandboxUnavailable

__all__ = ["ensure_layer", "prune_layers"]

_FORMAT: Final = 1  # raise it whenever what is built changes
_UNUSED_SECONDS: Final = 30 * 24 * 3600.0
_LOADER_CACHE: Final = "/etc/ld.so.cache"
# Loaded by name while a program runs: for threads that end, and for look-ups of
# names, where libc does not do those itself.
_LOADED_LATER: Final = (
    "libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2",
)  # fmt: skip


def ensure_layer(state_dir: Path, names: tuple[str, ...]) -> CommandLayer | None:
    """Returns the layer of the commands, building it if need be; ``None`` for no command.

    Raises:
        ExternalCommandError: A command is missing, or cannot be confined.
        SandboxUnavailable: The layer cannot be built here.
    """
    if not names:
        return None
    found = [finding.find(name) for name in names]
    directory = state_dir / "commands"
    index = directory / f"{_key(names)}.json"
    layer = _read_index(index, found)
    if layer is not None:
        os.utime(index)
        return layer
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(directory / ".lock"):
        layer = _read_index(index, found)
        if layer is not None:
            return layer
        for stale in (*directory.glob(".build-*"), *directory.glob("*.tmp")):
            _remove(stale)
        try:
            return _build(directory, index, found)
        except (OSError, shutil.Error) as error:
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            raise SandboxUnavailable(
                f"the commands cannot be copied to `{directory}`: "
                f"{'no space left' if full else error}",
                hint="free disk space, or set `OMNIBASE_STATE_DIR`",
            ) from error


def prune_layers(state_dir: Path) -> list[Path]:
    """Removes layers that are out of date or were not used for long, unless a run is under way.

    Returns:
        What was removed.
    """
    directory = state_dir / "commands"
    if not directory.is_dir():
        return []
    removed = []
    oldest = time.time() - _UNUSED_SECONDS
    with locked(directory / ".lock"):
        if any((state_dir / "runs").iterdir()):
            return []
        kept = {".lock"}
        for index in directory.glob("*.json"):
            layer = _current(index) if index.stat().st_mtime > oldest else None
            if layer is not None and index.stem == _key(tuple(c.name for c in layer.commands)):
                kept |= {index.name, layer.digest}
        for entry in sorted(directory.iterdir()):
            if entry.name not in kept:
                _remove(entry)
                removed += [entry] * (entry.suffix != ".json")
    return removed


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _key(names: tuple[str, ...]) -> str:
    facts = (_FORMAT, names, stamps_of([__file__, elf.__file__, loader.__file__]))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _read_index(index: Path, found: list[Found]) -> CommandLayer | None:
    layer = _current(index)
    if layer is None or [(c.name, c.path, c.places) for c in layer.commands] != [
        (one.name, one.path, one.places) for one in found
    ]:
        return None
    return layer


def _current(index: Path) -> CommandLayer | None:
    """Reads an index; ``None`` if it is broken, or what it is made of has changed."""
    try:
        record = json.loads(index.read_bytes())
        commands = tuple(
            Command(
                name=row["name"],
                path=row["path"],
                sha256=row["sha256"],
                places=tuple(row["places"]),
            )
            for row in record["commands"]
        )
        layer = CommandLayer(path=record["path"], digest=record["digest"], commands=commands)
        stamps = [tuple(stamp) for stamp in record["sources"]]
        if stamps_of(path for path, _, _ in stamps) != stamps or not os.path.isdir(layer.path):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return layer


def _build(directory: Path, index: Path, found: list[Found]) -> CommandLayer:
    work = directory / f".build-{secrets.token_hex(8)}"
    try:
        top = work / DIRECTORY[1:]
        for place in (top, work / BIN[1:], work / LIB[1:]):
            place.mkdir(parents=True)
            os.chmod(place, 0o755)
        # Taken before the copy could be outdated: a later change is seen as one.
        sources = [one.path for one in found]
        stamps = stamps_of(sources)
        libraries: dict[str, str] = {}
        commands = tuple(_copy_program(work, one, libraries) for one in found)
        if libraries:
            stamps += stamps_of([finding.HOST_LOADER, *sorted(libraries.values())])
            with_cache = [_LOADER_CACHE] if os.path.exists(_LOADER_CACHE) else []
            stamps += stamps_of(with_cache)
            _copy_libraries(work, libraries, found)
        digest = manifest_digest(top)
        final = directory / digest
        if not final.exists():
            top.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    layer = CommandLayer(path=str(final), digest=digest, commands=commands)
    draft = index.with_suffix(f".{secrets.token_hex(4)}.tmp")
    draft.write_text(json.dumps(dataclasses.asdict(layer) | {"sources": stamps}))
    draft.replace(index)
    return layer


def _copy_program(work: Path, found: Found, libraries: dict[str, str]) -> Command:
    """Copies a program, and adds what it loads to ``soname → path`` of all."""
    data = finding.read_program(found)
    sha256 = hashlib.sha256(data).hexdigest()
    if elf.interpreter(data) is not None:
        for soname, path in finding.libraries_of(found).items():
            if os.path.realpath(libraries.setdefault(soname, path)) != os.path.realpath(path):
                raise refused(
                    found.name,
                    f"it needs `{path}`, and another command `{libraries[soname]}`",
                    "grant one of the two",
                )
        data = elf.without_search_paths(elf.with_interpreter(data, LOADER))
    _install(work / BIN[1:] / found.name, data, 0o755)
    return Command(name=found.name, path=found.path, sha256=sha256, places=found.places)


def _copy_libraries(work: Path, libraries: dict[str, str], found: list[Found]) -> None:
    beside = Path(libraries["libc.so.6"]).parent if "libc.so.6" in libraries else None
    for soname in _LOADED_LATER:
        if beside is not None and soname not in libraries and (beside / soname).exists():
            libraries[soname] = str(beside / soname)
    path = finding.HOST_LOADER
    try:
        _install(work / LOADER[1:], loader.guarded(Path(path).read_bytes(), CACHE), 0o755)
        for soname, path in libraries.items():
            data = elf.without_search_paths(Path(path).read_bytes())
            _install(work / LIB[1:] / soname, data, 0o644)
    except ValueError as error:
        raise refused(
            found[0].name,
            f"`{path}` cannot be used: {error}",
            "grant commands that are linked statically",
        ) from error
    (work / "ld.so.conf").write_text(f"{LIB}\n")
    _runsc.build_loader_cache(work, configuration="/ld.so.conf", cache=CACHE)
    os.chmod(work / CACHE[1:], 0o644)


def _install(path: Path, data: bytes, mode: int) -> None:
    path.write_bytes(data)
    os.chmod(path, mode)
