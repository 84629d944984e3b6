"""Quotas: each bomb costs the host no more than its quota, and the result says which it was."""

from __future__ import annotations

import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from omnibase import ResourceLimitExceeded, SandboxTimeout
from omnibase.core import events
from tests.security.harness import DEFAULT_MEMORY, OVERSHOOT, Outcome, SandboxFixture

pytestmark = pytest.mark.sandbox


def _assert_limit(outcome: Outcome, kind: str) -> None:
    assert isinstance(outcome.error, ResourceLimitExceeded), outcome.error
    assert outcome.error.kind == kind
    assert kind in outcome.finished.limits
    assert kind in [limit.kind for limit in outcome.reported(events.ResourceLimitExceeded)]
    assert outcome.reported(events.SandboxExit)[0].outcome in ("limit", "failed")


@pytest.mark.threat("T-EXEC-12")
def test_fork_bomb(sandbox: SandboxFixture) -> None:
    outcome = sandbox("fork_bomb", wall_seconds=5.0)

    # Its copies fill 50 MB before they fill the table of processes.
    assert isinstance(outcome.error, ResourceLimitExceeded | SandboxTimeout)
    assert outcome.finished.usage.peak_memory_bytes <= DEFAULT_MEMORY + OVERSHOOT
    assert outcome.finished.usage.wall_seconds < 25


@pytest.mark.threat("T-EXEC-12")
@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_processes_are_told_apart(sandbox: SandboxFixture, kind: str) -> None:
    outcome = sandbox("count_children", ["MEMORY:200MiB"], args=[kind], pids=12)

    _assert_limit(outcome, "pids")
    assert outcome.error is not None
    assert outcome.error.details["limit"] == 12
    assert 8 <= int(outcome.stdout) + 1 <= 12  # the script itself counts
    assert outcome.finished.exit_code == 7


@pytest.mark.threat("T-EXEC-12")
def test_a_script_that_copes_with_the_limit_has_a_result(sandbox: SandboxFixture) -> None:
    outcome = sandbox("count_children", ["MEMORY:200MiB"], args=["quietly"], pids=12)

    assert outcome.error is None
    assert outcome.finished.limits == ("pids",)


@pytest.mark.threat("T-EXEC-12")
def test_one_process_is_the_script(sandbox: SandboxFixture) -> None:
    outcome = sandbox("count_children", args=["quietly"], pids=1)

    assert outcome.stdout == "0\n"
    assert outcome.finished.limits == ("pids",)


@pytest.mark.threat("T-EXEC-12")
def test_more_processes_when_granted(sandbox: SandboxFixture) -> None:
    outcome = sandbox("count_children", ["MEMORY:200MiB"], args=["threads"], pids=100)

    assert 90 <= int(outcome.stdout) + 1 <= 100


@pytest.mark.threat("T-EXEC-11")
@pytest.mark.parametrize("way", ["heap", "mappings", "pipes", "sockets", "inodes", "recursion"])
def test_memory_bombs(sandbox: SandboxFixture, way: str) -> None:
    outcome = sandbox("bombs", args=[way])

    _assert_limit(outcome, "memory")
    assert outcome.finished.usage.peak_memory_bytes <= DEFAULT_MEMORY + OVERSHOOT
    assert outcome.finished.signal == 9


@pytest.mark.threat("T-EXEC-11")
def test_shared_memory_is_bounded(sandbox: SandboxFixture) -> None:
    outcome = sandbox("bombs", args=["shared_memory"])

    assert outcome.finished.usage.peak_memory_bytes <= DEFAULT_MEMORY + OVERSHOOT
    assert b"No space left" in outcome.finished.stderr or outcome.finished.limits == ("memory",)


@pytest.mark.threat("T-EXEC-13")
def test_disk_bomb(sandbox: SandboxFixture, state_dir: Path) -> None:
    outcome = sandbox("disk_bomb", scratch_bytes=8 << 20)

    _assert_limit(outcome, "disk")
    assert outcome.stdout == f"{8 << 20} 28\n"
    assert outcome.finished.exit_code == 7
    assert outcome.finished.usage.scratch_bytes + 4096 >= 8 << 20
    assert outcome.finished.usage.scratch_bytes <= (8 << 20) + (1 << 20)
    # The scratch is on disk: filling it does not take the run's memory.
    assert "memory" not in outcome.finished.limits
    assert list((state_dir / "runs").iterdir()) == []


@pytest.mark.threat("T-EXEC-13")
def test_sparse_files_cost_what_they_hold(sandbox: SandboxFixture) -> None:
    outcome = sandbox("disk_bomb", args=["sparse"], scratch_bytes=8 << 20)

    outcome.assert_clean()
    assert outcome.finished.usage.scratch_bytes < 8 << 20


class _Watched:
    """Highest resident size of this process while the body runs."""

    def __enter__(self) -> _Watched:
        self._stop = threading.Event()
        self.before = self.peak = self._resident()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, self._resident())

    @staticmethod
    def _resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.threat("T-EXEC-13")
@pytest.mark.parametrize("streams", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_a_gigabyte_of_output(sandbox: SandboxFixture, streams: list[str]) -> None:
    cap = 4 << 20
    with _Watched() as watched:
        outcome = sandbox("output_bomb", args=["1000000000", "65536", *streams], output_bytes=cap)

    _assert_limit(outcome, "output")
    kept = outcome.finished.stdout + outcome.finished.stderr
    assert outcome.finished.truncated
    assert cap <= len(kept) <= cap + 100
    assert b"[output cut at 4194304 bytes]" in kept
    assert watched.peak - watched.before < 4 * cap


@pytest.mark.threat("T-EXEC-13")
def test_a_gigabyte_of_output_cut(sandbox: SandboxFixture) -> None:
    cap = 1 << 20
    with _Watched() as watched:
        outcome = sandbox(
            "output_bomb",
            args=["1000000000", "65536", "stdout"],
            output_bytes=cap,
            on_output_limit="truncate",
        )

    assert outcome.error is None
    assert outcome.finished.exit_code == 0
    assert outcome.finished.truncated
    assert outcome.finished.usage.output_bytes >= 999_000_000
    assert len(outcome.finished.stdout) <= cap + 100
    assert watched.peak - watched.before < 24 << 20


@pytest.mark.threat("T-EXEC-13")
def test_many_small_writes_cost_what_they_hold(sandbox: SandboxFixture) -> None:
    cap = 256 << 10
    tracemalloc.start()
    try:
        outcome = sandbox("output_bomb", args=["600000", "2", "stdout", "stderr"], output_bytes=cap)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    _assert_limit(outcome, "output")
    assert peak < 3 << 20


@pytest.mark.threat("T-EXEC-13")
def test_output_within_the_cap_is_whole(sandbox: SandboxFixture) -> None:
    outcome = sandbox("output_bomb", args=["4194304", "65536", "stdout"], output_bytes=4 << 20)

    outcome.assert_clean()
    assert outcome.finished.stdout == b"x" * (4 << 20)


@pytest.mark.threat("T-EXEC-12")
def test_cpu_limit(sandbox: SandboxFixture) -> None:
    outcome = sandbox("outlive", args=["spin"], cpu_seconds=1.0, wall_seconds=25.0)

    _assert_limit(outcome, "cpu")
    assert outcome.finished.usage.cpu_seconds >= 1.0
    assert outcome.finished.usage.wall_seconds < 20


@pytest.mark.threat("T-EXEC-12")
def test_cpu_quota(sandbox: SandboxFixture) -> None:
    outcome = sandbox("outlive", args=["spin"], cpus=0.5, wall_seconds=3.0)

    assert isinstance(outcome.error, SandboxTimeout)
    usage = outcome.finished.usage
    assert usage.cpu_seconds < 0.6 * usage.wall_seconds + 0.3  # as late as it may have ended


@pytest.mark.threat("T-EXEC-12")
@pytest.mark.parametrize("way", ["spin", "ignore signals", "stop"])
def test_wall_time(sandbox: SandboxFixture, way: str) -> None:
    began = time.monotonic()
    outcome = sandbox("outlive", args=[way], wall_seconds=2.0)

    assert isinstance(outcome.error, SandboxTimeout)
    assert time.monotonic() - began < 15
    assert outcome.finished.stdout == b"started\n"
    assert "time" in outcome.finished.limits
    assert outcome.finished.violations == ()
    assert [limit.kind for limit in outcome.reported(events.ResourceLimitExceeded)] == ["time"]
    assert outcome.reported(events.SandboxExit)[0].outcome == "timeout"
