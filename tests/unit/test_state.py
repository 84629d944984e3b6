"""The state directory is ours alone, and only what the dead left in it is swept."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.state import RunDirectory, leftovers, state_dir, sweep
from omnibase.errors import ConfigurationError, SandboxUnavailable
from tests.helpers.traces import own_hierarchy

HOLD = (
    "import sys, pathlib\n"
    "from omnibase.core.sandbox.state import RunDirectory\n"
    "run = RunDirectory.create(pathlib.Path(sys.argv[1]))\n"
    "print(run.run_id, flush=True)\n"
    "import time\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMNIBASE_STATE_DIR", str(tmp_path / "state"))
    return state_dir()


def killed(state: Path) -> Path:
    """Returns the run directory of a process that was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        path = state / "runs" / process.stdout.readline().strip()
        living = path.is_dir() and path not in leftovers(state)
        process.send_signal(signal.SIGKILL)
    assert living
    return path


def aged(path: Path) -> Path:
    os.utime(path, (time.time() - 120,) * 2)
    return path


class TestStateDirectory:
    def test_it_is_made_for_its_owner_only(self, state: Path, tmp_path: Path) -> None:
        assert state == tmp_path / "state"
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert (state / "runs").is_dir()
        assert state_dir() == state

    def test_an_open_one_is_closed(self, state: Path) -> None:
        state.chmod(0o755)
        state_dir()
        assert stat.S_IMODE(state.stat().st_mode) == 0o700

    def test_a_relative_one_is_made_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("OMNIBASE_STATE_DIR", "here")
        assert state_dir() == tmp_path / "here"

    def test_somebody_elses_is_refused(self, state: Path) -> None:
        os.chown(state, 65534, 65534)
        with pytest.raises(ConfigurationError, match="is not a directory of yours") as caught:
            state_dir()
        assert caught.value.hint
        assert "OMNIBASE_STATE_DIR" in caught.value.hint

    def test_a_symbolic_link_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "target"
        target.mkdir()
        (tmp_path / "link").symlink_to(target)
        monkeypatch.setenv("OMNIBASE_STATE_DIR", str(tmp_path / "link"))
        with pytest.raises(ConfigurationError, match="is not a directory of yours"):
            state_dir()
        assert list(target.iterdir()) == []

    @pytest.mark.parametrize("kind", ["file", "dangling", "below-a-file"])
    def test_what_cannot_be_a_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        name = "file/x" if kind == "below-a-file" else kind
        monkeypatch.setenv("OMNIBASE_STATE_DIR", str(tmp_path / name))
        with pytest.raises(ConfigurationError) as caught:
            state_dir()
        assert caught.value.hint

    def test_the_places_by_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMNIBASE_STATE_DIR")
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
        owner = [0]
        monkeypatch.setattr(
            os, "lstat", lambda _: os.stat_result((0o40700, 0, 0, 0, *owner, *[0] * 5))
        )
        assert state_dir() == Path("/var/lib/omnibase")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(
            os, "lstat", lambda _: os.stat_result((0o40700, 0, 0, 0, 1000, *[0] * 5))
        )
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert state_dir() == tmp_path / "omnibase"
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert state_dir() == tmp_path / ".local/state/omnibase"


class TestRunDirectory:
    def test_it_is_locked_and_private(self, state: Path) -> None:
        run = RunDirectory.create(state)
        try:
            assert run.path == state / "runs" / run.run_id
            assert len(run.run_id) == 32
            assert int(run.run_id, 16) >= 0
            assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
            assert leftovers(state) == []
            assert sweep(state) == []
            assert run.path.is_dir()
        finally:
            run.remove()
        assert not run.path.exists()
        run.remove()

    def test_a_forked_child_does_not_keep_it_locked(self, state: Path) -> None:
        run = RunDirectory.create(state)
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"x")
            time.sleep(600)
        try:
            os.read(ready, 1)
            assert leftovers(state) == []
            run.release()
            assert leftovers(state) == [run.path]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(told)

    def test_ids_do_not_repeat(self, state: Path) -> None:
        runs = [RunDirectory.create(state) for _ in range(50)]
        assert len({run.run_id for run in runs}) == 50
        for run in runs:
            run.remove()
        assert os.listdir(state / "runs") == []

    def test_a_state_directory_that_is_gone(self, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(SandboxUnavailable, match="no run directory can be made") as caught:
            RunDirectory.create(tmp_path / "gone")
        assert caught.value.hint
        assert len(os.listdir("/proc/self/fd")) == before

    def test_one_that_cannot_get_its_name(
        self, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(SandboxUnavailable, match="No space left on device"):
            RunDirectory.create(state)
        assert os.listdir(state / "runs") == []
        assert len(os.listdir("/proc/self/fd")) == before


class TestSweep:
    def test_nothing_to_sweep(self, state: Path, tmp_path: Path) -> None:
        assert leftovers(state) == sweep(state) == []
        assert leftovers(tmp_path / "gone") == sweep(tmp_path / "gone") == []

    def test_what_the_dead_left_goes_and_the_living_stay(self, state: Path) -> None:
        alive = RunDirectory.create(state)
        try:
            dead = killed(state)
            (dead / "deep" / "er").mkdir(parents=True)
            (dead / "deep" / "er" / "file").write_text("x")
            assert leftovers(state) == [dead]
            assert sweep(state) == [dead]
            assert os.listdir(state / "runs") == [alive.run_id]
        finally:
            alive.remove()

    def test_processes_and_cgroups_of_the_dead_go_too(self, state: Path) -> None:
        dead = killed(state)
        with own_hierarchy() as hierarchy:
            cgroup = Cgroup(hierarchy, dead.name)
            cgroup.create(memory_bytes=100_000_000, cpus=1, host_pids=9)
            (dead / "cgroups.json").write_text(json.dumps(cgroup.paths))
            command = 'for f in "$@"; do echo 0 >"$f"; done; echo ready; exec sleep 600'
            with subprocess.Popen(
                ["/bin/sh", "-c", command, "sh", *cgroup.join_files], stdout=subprocess.PIPE
            ) as orphan:
                assert orphan.stdout is not None
                assert orphan.stdout.readline() == b"ready\n"
                assert sweep(state) == [dead]
                assert orphan.wait(30) == -signal.SIGKILL
            assert not any(Path(path).exists() for path in cgroup.paths)

    @pytest.mark.parametrize("record", ["", "{", "5", "[1]", '["/", "/etc", "/sys/fs/cgroup"]'])
    def test_a_damaged_record_of_cgroups_does_no_harm(self, state: Path, record: str) -> None:
        dead = killed(state)
        (dead / "cgroups.json").write_text(record)
        assert sweep(state) == [dead]
        assert Path("/etc").is_dir()

    def test_half_made_directories_go_when_they_are_old(self, state: Path) -> None:
        young = state / "runs" / ".new-young"
        old = state / "runs" / ".new-old"
        young.mkdir()
        old.mkdir()
        (old / "lock").touch()
        aged(old)
        assert leftovers(state) == [old]
        assert sweep(state) == [old]
        assert os.listdir(state / "runs") == [".new-young"]

    def test_a_directory_without_a_lock_goes_and_is_reported(self, state: Path) -> None:
        paths = [state / "runs" / ".new-bare", state / "runs" / ("f" * 32)]
        for path in paths:
            path.mkdir()
            aged(path)
        assert leftovers(state) == paths
        assert sweep(state) == paths
        assert os.listdir(state / "runs") == []

    def test_a_half_made_directory_of_a_slow_process_stays(self, state: Path) -> None:
        run = RunDirectory.create(state)
        slow = aged(run.path.rename(state / "runs" / f".new-{run.run_id}"))
        try:
            assert sweep(state) == []
            assert slow.is_dir()
        finally:
            run.path = slow
            run.remove()

    def test_a_stray_file_is_left_alone(self, state: Path) -> None:
        (state / "runs" / "README").touch()
        assert leftovers(state) == sweep(state) == []
        assert (state / "runs" / "README").exists()

    def test_sweeps_at_once(self, state: Path) -> None:
        dead = [killed(state) for _ in range(3)]
        removed: list[list[Path]] = []
        problems: list[BaseException] = []

        def body() -> None:
            try:
                removed.append(sweep(state))
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=body) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert {path for paths in removed for path in paths} == set(dead)
        assert os.listdir(state / "runs") == []

    def test_a_run_that_starts_during_sweeps_is_never_touched(self, state: Path) -> None:
        stop = threading.Event()

        def body() -> None:
            while not stop.is_set():
                sweep(state)

        threads = [threading.Thread(target=body) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(100):
                run = RunDirectory.create(state)
                run.record_cgroups(("/sys/fs/cgroup/omnibase-none",))
                (run.path / "config.json").write_text("{}")
                assert (run.path / "lock").exists()
                run.remove()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert os.listdir(state / "runs") == []
