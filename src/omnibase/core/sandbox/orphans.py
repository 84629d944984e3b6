"""Control groups of runs whose directory is gone, and which nobody sweeps therefore."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from omnibase.core.sandbox.cgroup import PREFIX, Hierarchy

__all__ = ["orphans", "remove_orphans"]

_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_LOCK: Final = re.compile(r"/(?:\.new-)?([0-9a-f]{32})/lock(?: \(deleted\))?")


def orphans(state: Path, hierarchy: Hierarchy) -> list[str]:
    """Returns the empty control groups of runs that nobody has any more.

    A run may be anybody's on this machine: it has a process in its group, or a
    directory, or a process that holds its lock, from before the group is made until
    after it is gone.
    """
    found = [
        entry.path
        for parent in dict.fromkeys(hierarchy.parents.values())
        for entry in _entries(parent)
        if entry.name.startswith(PREFIX)
        and _RUN_ID.fullmatch(entry.name.removeprefix(PREFIX))
        and entry.is_dir(follow_symlinks=False)
    ]
    if not found:
        return []
    held = _held()  # after the groups: who made one of them had its lock by then
    left = []
    for path in found:
        run = os.path.basename(path).removeprefix(PREFIX)
        if run not in held and not (state / "runs" / run).exists() and _is_empty(path):
            left.append(path)
    return sorted(left)


def remove_orphans(state: Path, hierarchy: Hierarchy) -> list[str]:
    """Removes them, and returns which; ends no process: a group that has one stays."""
    removed = []
    for path in orphans(state, hierarchy):
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if not os.path.exists(path):
            removed.append(path)
    return removed


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _held() -> set[str]:
    """Returns the runs whose lock some process has open."""
    held = set()
    for process in _entries("/proc"):
        if process.name.isdigit():
            for fd in _entries(f"/proc/{process.name}/fd"):
                with contextlib.suppress(OSError):
                    match = _LOCK.search(os.readlink(fd.path))
                    if match:
                        held.add(match[1])
    return held


def _is_empty(path: str) -> bool:
    for directory, _, _ in os.walk(path):
        try:
            with open(f"{directory}/cgroup.procs") as file:
                if file.read(1):
                    return False
        except OSError:
            return False
    return True
