"""What a run could leave behind, counted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from omnibase.core.audit.open_runs import SPARE
from omnibase.core.sandbox.cgroup import PREFIX
from omnibase.core.sandbox.state import RunDirectory
from tests.helpers.processes import children

_run_ids: set[str] = set()


@contextmanager
def recorded_runs() -> Iterator[None]:
    """Notes the id of every run of this process: its cgroup and its directory carry it."""
    create = RunDirectory.create.__func__  # type: ignore[attr-defined]

    def recording(cls: type[RunDirectory], state: Path, run_id: str = "") -> RunDirectory:
        directory: RunDirectory = create(cls, state, run_id)
        _run_ids.add(directory.run_id)
        return directory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "create", classmethod(recording))
        yield


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of ours on this host; two of them are equal if nothing was left behind.

    Attributes:
        processes: That name the state directory, and children of this process.
        mounts: That name the state directory, in this process's namespace.
        cgroups: Of runs that this process started.
        runs: Run directories, and notes of runs without an end.
        descriptors: What this process's descriptors refer to, sockets included.
        threads: Of this process, by name.
    """

    processes: tuple[str, ...]
    mounts: tuple[str, ...]
    cgroups: tuple[str, ...]
    runs: tuple[str, ...]
    descriptors: tuple[str, ...]
    threads: tuple[str, ...]

    @classmethod
    def take(cls, state: Path) -> Snapshot:
        """Takes stock."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return cls(
            processes=tuple(sorted(_processes(state))),
            mounts=tuple(sorted(line for line in mounts if str(state) in line)),
            cgroups=tuple(sorted(_cgroups())),
            runs=tuple(
                sorted(
                    name
                    for place in ("runs", "open")
                    if (state / place).exists()
                    for name in os.listdir(state / place)
                    if name != SPARE
                )
            ),
            descriptors=tuple(sorted(_descriptors())),
            threads=tuple(sorted(thread.name for thread in threading.enumerate())),
        )

    @classmethod
    def settle(cls, state: Path, before: Snapshot) -> None:
        """Fails unless things are as before, at once or within a moment."""
        deadline = time.monotonic() + 5
        while (now := cls.take(state)) != before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert now == before


def processes_of(state: Path) -> list[int]:
    """PIDs of processes whose command line names the state directory."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(f"{state}/") in words:
                found.append(int(entry))
    return found


def cgroups_of(run_ids: set[str]) -> list[str]:
    """Directories of the given runs' cgroups, wherever they are in the hierarchy."""
    return [
        os.path.join(directory, name)
        for directory, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) in run_ids
    ]


def _processes(state: Path) -> Iterator[str]:
    yield from map(str, processes_of(state))
    yield from (f"child {child}" for child in children())


def _cgroups() -> list[str]:
    return cgroups_of(_run_ids)


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
        yield f"{name} {target}"
