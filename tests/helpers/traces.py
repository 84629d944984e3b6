"""What a run could leave behind on the host: taken before and after, the two must be equal."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omnibase.core.sandbox.cgroup import Cgroup, Hierarchy
from tests.helpers.processes import children


@dataclass(frozen=True, slots=True)
class Host:
    """The host as a run of this process could change it.

    Attributes:
        runs: Run directories.
        cgroups: Cgroups in the hierarchy.
        mounts: Mounts in this process's namespace.
        children: Processes that this one started and has not reaped.
        descriptors: Open descriptors of this process.
        threads: Threads of this process.
    """

    runs: tuple[str, ...]
    cgroups: tuple[str, ...]
    mounts: tuple[str, ...]
    children: tuple[int, ...]
    descriptors: tuple[str, ...]
    threads: int


def host(state: Path, hierarchy: Hierarchy) -> Host:
    """Takes stock."""
    return Host(
        runs=tuple(sorted(os.listdir(state / "runs"))) if (state / "runs").is_dir() else (),
        cgroups=tuple(sorted(_cgroups(hierarchy))),
        mounts=tuple(Path("/proc/self/mountinfo").read_text().splitlines()),
        children=tuple(sorted(children())),
        descriptors=_descriptors(),
        threads=len(os.listdir("/proc/self/task")),
    )


def settled(state: Path, hierarchy: Hierarchy, before: Host) -> Host:
    """Takes stock until it equals ``before``, 10 s at most: threads end a moment late."""
    deadline = time.monotonic() + 10
    while (now := host(state, hierarchy)) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    return now


@contextmanager
def own_hierarchy() -> Iterator[Hierarchy]:
    """A place for cgroups where nobody else makes any."""
    machine = Hierarchy.detect()
    name = f"test-{secrets.token_hex(8)}"
    outer = Cgroup(machine, name)
    outer.create(memory_bytes=1 << 40, cpus=1000, host_pids=30_000)
    try:
        paths = {c: f"{parent}/omnibase-{name}" for c, parent in machine.parents.items()}
        yield Hierarchy(version=machine.version, parents=paths)
    finally:
        outer.remove()


def _cgroups(hierarchy: Hierarchy) -> set[str]:
    return {
        entry.name
        for parent in hierarchy.parents.values()
        for entry in os.scandir(parent)
        if entry.is_dir()
    }


def _descriptors() -> tuple[str, ...]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the listing's own
    return tuple(sorted(found))
