"""Control groups that nobody has any more are found, and nobody's who is alive."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox.cgroup import Cgroup, Hierarchy
from omnibase.core.sandbox.orphans import orphans, remove_orphans
from omnibase.core.sandbox.state import RunDirectory, state_dir
from tests.helpers.traces import own_hierarchy


@pytest.fixture
def hierarchy() -> Iterator[Hierarchy]:
    with own_hierarchy() as hierarchy:
        yield hierarchy


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMNIBASE_STATE_DIR", str(tmp_path / "state"))
    return state_dir()


def group(hierarchy: Hierarchy, run: str = "") -> Cgroup:
    cgroup = Cgroup(hierarchy, run or secrets.token_hex(16))
    cgroup.create(memory_bytes=100_000_000, cpus=1, host_pids=9)
    return cgroup


def test_one_without_anything_goes_with_what_is_below_it(state: Path, hierarchy: Hierarchy) -> None:
    cgroup = group(hierarchy)
    for path in cgroup.paths:
        (Path(path) / "inner").mkdir()
    assert orphans(state, hierarchy) == sorted(cgroup.paths)
    assert remove_orphans(state, hierarchy) == sorted(cgroup.paths)
    assert not any(os.path.exists(path) for path in cgroup.paths)
    assert remove_orphans(state, hierarchy) == []


def test_one_with_a_process_stays_and_so_does_the_process(
    state: Path, hierarchy: Hierarchy
) -> None:
    cgroup = group(hierarchy)
    command = 'for f in "$@"; do echo 0 >"$f"; done; echo ready; exec sleep 600'
    with subprocess.Popen(
        ["/bin/sh", "-c", command, "sh", *cgroup.join_files], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert remove_orphans(state, hierarchy) == []
        assert process.poll() is None
        process.kill()
    assert remove_orphans(state, hierarchy) == sorted(cgroup.paths)


def test_one_with_a_directory_is_for_the_sweep(state: Path, hierarchy: Hierarchy) -> None:
    run = RunDirectory.create(state)
    group(hierarchy, run.run_id)
    run.release()
    assert remove_orphans(state, hierarchy) == []
    run.remove()


def test_one_whose_run_is_elsewhere_and_alive_stays(
    state: Path, hierarchy: Hierarchy, tmp_path: Path
) -> None:
    (tmp_path / "other" / "runs").mkdir(parents=True)
    run = RunDirectory.create(tmp_path / "other")
    cgroup = group(hierarchy, run.run_id)
    assert remove_orphans(state, hierarchy) == []
    (run.path / "lock").unlink()  # whoever deletes its directory does not end it
    run.path.rmdir()
    assert remove_orphans(state, hierarchy) == []
    run.release()
    assert remove_orphans(state, hierarchy) == sorted(cgroup.paths)


def test_what_is_called_otherwise_is_not_ours(state: Path, hierarchy: Hierarchy) -> None:
    other = group(hierarchy, "test-1")
    for parent in hierarchy.parents.values():
        os.makedirs(f"{parent}/{secrets.token_hex(16)}", exist_ok=True)
    assert remove_orphans(state, hierarchy) == []
    other.remove()


def test_a_place_that_cannot_be_read_has_none(state: Path, tmp_path: Path) -> None:
    assert orphans(state, Hierarchy(version=2, parents={"": str(tmp_path / "gone")})) == []
