"""Deciding how masks are applied: left out of what is only read, covered in what is written."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from omnibase.core.sandbox.resolving import StagedMount, walk
from omnibase.core.sandbox.spec import FileGrant, SandboxSpec
from omnibase.core.sandbox.views import MAX_VIEW_ENTRIES
from omnibase.errors import CapabilityError

__all__ = ["Covers", "resolve_masks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Covers:
    """How a spec's masks are applied.

    Attributes:
        covered: ``(path, is directory)`` of what the agent covers: in trees that may
            be written, where nothing can be left out.
        pinned: Directories above those, which must not be renamed away from them.
        left_out: Paths below each tree that is only read, by the tree's path.
    """

    covered: tuple[tuple[str, bool], ...] = ()
    pinned: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def resolve_masks(spec: SandboxSpec, mounts: tuple[StagedMount, ...]) -> Covers:
    """Decides for each mask how it is applied.

    Raises:
        CapabilityError: A mask cannot be applied exactly: its path holds a
            link, or is missing where the script could create it.
    """
    covered: list[tuple[str, bool]] = []
    pinned: set[str] = set()
    left_out: dict[str, list[str]] = {}
    for mask in spec.masks:
        tops = [m for m in mounts if m.is_directory and mask.path.startswith(f"{m.path}/")]
        if not tops:
            continue
        is_directory = _kind_of(mask.path, tops)
        for top in tops:
            if not top.writable:
                below = mask.path[len(top.path) + 1 :]
                left_out.setdefault(top.path, []).append(below)
        deepest = max(tops, key=lambda top: len(top.path))
        if not deepest.writable or is_directory is None:
            continue
        covered.append((mask.path, is_directory))
        above = os.path.dirname(mask.path)
        while above != deepest.path:
            if all(above != mount.path for mount in mounts):  # else it is one already
                pinned.add(above)
            above = os.path.dirname(above)
    for top in mounts:
        if top.path in left_out:
            _check_size(top, left_out[top.path], spec)
    return Covers(
        covered=tuple(covered),
        pinned=tuple(sorted(pinned, key=lambda path: (path.count("/"), path))),
        left_out={path: tuple(below) for path, below in left_out.items()},
    )


def _check_size(top: StagedMount, left_out: list[str], spec: SandboxSpec) -> None:
    """Refuses what a view would be too large for, before anything is made of it."""
    above = {"/".join(names[:n]) for names in (b.split("/") for b in left_out)
             for n in range(len(names))}  # fmt: skip
    count = 0
    for directory in sorted(above):
        with contextlib.suppress(OSError):
            count += len(os.listdir(os.path.join(top.path, directory)))
        if count > MAX_VIEW_ENTRIES:
            path = f"{top.path}/{left_out[0]}"
            reason = next(mask.reason for mask in spec.masks if mask.path == path)
            raise CapabilityError(
                f"`{top.capability}` cannot be granted without `{path}` ({reason}): the "
                f"directories above it hold more than {MAX_VIEW_ENTRIES} entries",
                details={"capability": top.capability, "mask": path},
                hint="grant the parts of the tree beside it, one by one",
            )


def _kind_of(path: str, tops: list[StagedMount]) -> bool | None:
    """Says whether a mask is on a directory; ``None`` if there is nothing yet."""
    grant = FileGrant(path=path, kind="tree", writable=False, capability=tops[0].capability)
    try:
        fd = walk(path, grant)
    except CapabilityError as error:
        missing = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        if missing and not any(top.writable for top in tops):
            return None
        raise
    try:
        return stat.S_ISDIR(os.stat(fd).st_mode)
    finally:
        os.close(fd)
