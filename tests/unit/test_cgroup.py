"""Limits go in and accounts come out, on v2 in a tree of plain files and on this machine's own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase.core.sandbox.cgroup import Cgroup, CgroupStats, Hierarchy, remove_paths
from omnibase.errors import SandboxStartError, SandboxUnavailable
from tests.helpers.traces import own_hierarchy


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    return tmp_path


@pytest.fixture
def v2(tree: Path) -> Hierarchy:
    return Hierarchy(version=2, parents={"": str(tree)})


@pytest.fixture
def machine() -> Iterator[Hierarchy]:
    with own_hierarchy() as hierarchy:
        yield hierarchy


class TestVersion2:
    def test_limits_are_written(self, v2: Hierarchy, tree: Path) -> None:
        cgroup = Cgroup(v2, "a")
        cgroup.create(memory_bytes=50_000_000, cpus=1.5, host_pids=384)
        own = tree / "omnibase-a"
        assert cgroup.paths == (str(own),)
        assert cgroup.join_files == (f"{own}/cgroup.procs",)
        assert {path.name: path.read_text() for path in own.iterdir()} == {
            "memory.max": "50000000",
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "pids.max": "384",
            "cpu.max": "150000 100000",
        }
        # A plain file keeps the last write: each controller is enabled by its own.
        assert (tree / "cgroup.subtree_control").read_text() == "+pids"

    def test_enabled_controllers_are_left_alone(self, v2: Hierarchy, tree: Path) -> None:
        (tree / "cgroup.subtree_control").write_text("cpu memory pids")
        Cgroup(v2, "a").create(memory_bytes=50_000_000, cpus=1, host_pids=1)
        assert (tree / "cgroup.subtree_control").read_text() == "cpu memory pids"

    def test_the_smallest_quota_is_the_kernels(self, v2: Hierarchy, tree: Path) -> None:
        Cgroup(v2, "a").create(memory_bytes=50_000_000, cpus=0.0001, host_pids=1)
        assert (tree / "omnibase-a" / "cpu.max").read_text() == "1000 100000"

    def test_accounts(self, v2: Hierarchy, tree: Path) -> None:
        own = tree / "omnibase-a"
        own.mkdir()
        (own / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nnot a row\nbad x\n")
        (own / "memory.peak").write_text("12345\n")
        (own / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
        (own / "pids.events").write_text("max 3\n")
        cgroup = Cgroup(v2, "a")
        assert cgroup.stats() == CgroupStats(
            cpu_seconds=1.5, peak_memory_bytes=12345, oom_kills=2, pids_refused=3
        )
        assert cgroup.cpu_seconds() == 1.5

    def test_what_cannot_be_read_is_nothing(self, v2: Hierarchy, tree: Path) -> None:
        nothing = CgroupStats(cpu_seconds=0, peak_memory_bytes=0, oom_kills=0, pids_refused=0)
        assert Cgroup(v2, "a").stats() == nothing
        (tree / "omnibase-a").mkdir()
        (tree / "omnibase-a" / "memory.peak").write_text("max\n")
        assert Cgroup(v2, "a").stats() == nothing

    def test_a_refusal_leaves_nothing(self, v2: Hierarchy, tree: Path) -> None:
        (tree / "cgroup.subtree_control").unlink()
        with pytest.raises(SandboxStartError, match="the cgroup could not be set up") as caught:
            Cgroup(v2, "a").create(memory_bytes=50_000_000, cpus=1, host_pids=1)
        assert caught.value.hint
        assert not (tree / "omnibase-a").exists()

    def test_removal_asks_the_kernel_to_kill(self, v2: Hierarchy, tree: Path) -> None:
        own = tree / "omnibase-a"
        own.mkdir()
        kill = own / "cgroup.kill"
        kill.touch()

        def kernel() -> None:
            while kill.read_text() != "1":
                time.sleep(0.001)
            kill.unlink()

        thread = threading.Thread(target=kernel)
        thread.start()
        assert Cgroup(v2, "a").remove(timeout_seconds=30)
        thread.join()
        assert not own.exists()

    def test_removal_gives_up_in_time(self, v2: Hierarchy, tree: Path) -> None:
        (tree / "omnibase-a").mkdir()
        (tree / "omnibase-a" / "stuck").write_text("")
        assert not Cgroup(v2, "a").remove(timeout_seconds=0.01)
        assert (tree / "omnibase-a").exists()


class TestDetection:
    def test_version_2(self, tree: Path) -> None:
        assert Hierarchy.detect(root=str(tree)) == Hierarchy(version=2, parents={"": str(tree)})

    @pytest.mark.parametrize("missing", ["memory", "pids", "cpu"])
    def test_a_missing_controller(self, tree: Path, missing: str) -> None:
        have = {"cpuset", "memory", "pids", "cpu"} - {missing}
        (tree / "cgroup.controllers").write_text(" ".join(have))
        with pytest.raises(SandboxUnavailable, match=f"no cgroup controller for {missing}$") as e:
            Hierarchy.detect(root=str(tree))
        assert e.value.hint
        assert "cgroup v2" in e.value.hint

    def version_1(self, tmp_path: Path, names: str = "memory pids cpu,cpuacct") -> tuple[str, str]:
        proc, root = tmp_path / "proc", tmp_path / "v1"
        proc.mkdir()
        rows, own = ["20 1 0:5 / /tmp rw - tmpfs none rw"], ["0::/unified", "9:name=systemd:/"]
        for number, name in enumerate(names.split()):
            (root / name / "job").mkdir(parents=True)
            mount = root / name
            rows.append(f"3{number} 2 0:9 / {mount} rw shared:9 - cgroup cgroup rw,{name}")
            own.append(f"{number}:{name}:/job")
        (proc / "mountinfo").write_text("\n".join(rows) + "\n")
        (proc / "cgroup").write_text("\n".join(own) + "\n")
        return str(proc), str(root)

    def test_version_2_below_a_place_of_the_operators(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        below = tree / "mine"
        below.mkdir()
        (below / "cgroup.controllers").write_text("cpu memory pids")
        monkeypatch.setenv("OMNIBASE_CGROUP_PARENT", str(below))
        assert Hierarchy.detect(str(tree)).parents == {"": str(below)}

    def test_version_2_below_a_place_that_is_none(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMNIBASE_CGROUP_PARENT", str(tree / "none"))
        with pytest.raises(SandboxUnavailable, match="is not a cgroup") as caught:
            Hierarchy.detect(str(tree))
        assert caught.value.hint

    def test_version_1_stays_below_our_own_place(self, tmp_path: Path) -> None:
        proc, root = self.version_1(tmp_path)
        assert Hierarchy.detect(root=str(tmp_path), proc=proc) == Hierarchy(
            version=1,
            parents={
                "memory": f"{root}/memory/job",
                "pids": f"{root}/pids/job",
                "cpu": f"{root}/cpu,cpuacct/job",
                "cpuacct": f"{root}/cpu,cpuacct/job",
            },
        )

    def test_version_1_in_a_container(self, tmp_path: Path) -> None:
        proc, root = self.version_1(tmp_path)
        mountinfo = Path(proc) / "mountinfo"
        mountinfo.write_text(mountinfo.read_text().replace("0:9 / ", "0:9 /job "))
        parents = Hierarchy.detect(root=str(tmp_path), proc=proc).parents
        assert parents["memory"] == f"{root}/memory"

    def test_version_1_where_our_own_place_cannot_be_seen(self, tmp_path: Path) -> None:
        proc, root = self.version_1(tmp_path)
        cgroup = Path(proc) / "cgroup"
        cgroup.write_text(cgroup.read_text().replace("/job", "/elsewhere"))
        parents = Hierarchy.detect(root=str(tmp_path), proc=proc).parents
        assert parents["memory"] == f"{root}/memory"

    def test_version_1_with_a_controller_missing(self, tmp_path: Path) -> None:
        proc, _ = self.version_1(tmp_path, "memory cpu,cpuacct blkio")
        with pytest.raises(SandboxUnavailable, match="no cgroup controller for pids") as caught:
            Hierarchy.detect(root=str(tmp_path), proc=proc)
        assert caught.value.hint

    def test_a_place_where_nothing_can_be_made(self, tmp_path: Path) -> None:
        proc, root = self.version_1(tmp_path)
        mountinfo = Path(proc) / "mountinfo"
        mountinfo.write_text(mountinfo.read_text().replace(f"{root}/pids", f"{root}/gone"))
        with pytest.raises(SandboxUnavailable, match="gone` is not writable") as caught:
            Hierarchy.detect(root=str(tmp_path), proc=proc)
        assert caught.value.hint
        assert "root" in caught.value.hint


class TestThisMachine:
    def test_limits_hold_what_was_written(self, machine: Hierarchy) -> None:
        cgroup = Cgroup(machine, "a" * 32)
        try:
            cgroup.create(memory_bytes=50_003_968, cpus=0.5, host_pids=77)
            values = {}
            for path in cgroup.paths:
                for name in (
                    "memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max",
                    "cpu.cfs_quota_us", "cpu.cfs_period_us",
                ):  # fmt: skip
                    if (Path(path) / name).exists():
                        values[name] = (Path(path) / name).read_text().strip()
            expected = {
                1: {
                    "memory.limit_in_bytes": "50003968",
                    "pids.max": "77",
                    "cpu.cfs_quota_us": "50000",
                    "cpu.cfs_period_us": "100000",
                },
                2: {"memory.max": "50003968", "pids.max": "77", "cpu.max": "50000 100000"},
            }
            assert values == expected[machine.version]
        finally:
            assert cgroup.remove()
        assert not any(Path(path).exists() for path in cgroup.paths)

    def test_a_process_in_it_is_counted_and_ended(self, machine: Hierarchy) -> None:
        cgroup = Cgroup(machine, "b" * 32)
        cgroup.create(memory_bytes=200_000_000, cpus=2, host_pids=20)
        code = (
            "import sys\n"
            "for path in sys.argv[1:]: open(path, 'w').write('0')\n"
            "data = bytearray(20_000_000)\n"
            "n = sum(range(300_000))\n"
            "print('ready', flush=True)\n"
            "import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-I", "-c", code, *cgroup.join_files], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            stats = cgroup.stats()
            assert 20_000_000 < stats.peak_memory_bytes < 200_000_000
            assert 0 < stats.cpu_seconds <= cgroup.cpu_seconds() + 1e-6
            assert (stats.oom_kills, stats.pids_refused) == (0, 0)
            assert cgroup.remove(timeout_seconds=30)
            assert process.wait(30) == -9
        assert not any(Path(path).exists() for path in cgroup.paths)
        assert cgroup.remove()  # twice is once

    def test_what_a_process_made_below_goes_too(self, machine: Hierarchy) -> None:
        cgroup = Cgroup(machine, "f" * 32)
        cgroup.create(memory_bytes=200_000_000, cpus=1, host_pids=20)
        code = (
            "import os, sys, time\n"
            "for path in sys.argv[1:]:\n"
            "    inner = os.path.dirname(path) + '/inner/most'\n"
            "    os.makedirs(inner)\n"
            "    open(inner + '/' + os.path.basename(path), 'w').write('0')\n"
            "print('ready', flush=True)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-I", "-c", code, *cgroup.join_files], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert cgroup.remove(timeout_seconds=30)
            assert process.wait(30) == -9
        assert not any(Path(path).exists() for path in cgroup.paths)

    def test_processes_beyond_the_limit_are_counted(self, machine: Hierarchy) -> None:
        cgroup = Cgroup(machine, "c" * 32)
        cgroup.create(memory_bytes=200_000_000, cpus=1, host_pids=1)
        try:
            code = (
                "import os, sys\n"
                "for path in sys.argv[1:]: open(path, 'w').write('0')\n"
                "try: os.fork()\n"
                "except BlockingIOError: sys.exit(7)\n"
            )
            command = [sys.executable, "-I", "-S", "-c", code, *cgroup.join_files]
            assert subprocess.run(command, check=False).returncode == 7
            assert cgroup.stats().pids_refused >= 1
        finally:
            assert cgroup.remove()

    def test_memory_beyond_the_limit_is_counted(self, machine: Hierarchy) -> None:
        cgroup = Cgroup(machine, "d" * 32)
        cgroup.create(memory_bytes=40_000_000, cpus=1, host_pids=9)
        try:
            code = (
                "import sys\n"
                "for path in sys.argv[1:]: open(path, 'w').write('0')\n"
                "bytearray(100_000_000)\n"
            )
            command = [sys.executable, "-I", "-S", "-c", code, *cgroup.join_files]
            assert subprocess.run(command, check=False).returncode == -9
            assert cgroup.stats().oom_kills >= 1
        finally:
            assert cgroup.remove()

    @pytest.mark.parametrize("limits", [{"memory_bytes": -5}, {"host_pids": -3}])
    def test_a_limit_that_the_kernel_refuses(
        self, machine: Hierarchy, limits: dict[str, int]
    ) -> None:
        cgroup = Cgroup(machine, "e" * 32)
        values = {"memory_bytes": 50_000_000, "host_pids": 9, **limits}
        with pytest.raises(SandboxStartError, match="Invalid argument"):
            cgroup.create(cpus=1, **values)
        assert not any(Path(path).exists() for path in cgroup.paths)


def test_only_our_own_cgroups_are_ever_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "omnibase-x").mkdir()
    assert remove_paths((str(tmp_path / "precious"), str(tmp_path / "omnibase-x")), 1)
    assert (tmp_path / "precious").exists()
    assert not (tmp_path / "omnibase-x").exists()
