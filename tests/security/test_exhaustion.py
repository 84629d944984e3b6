"""The resources that a script can take, one by one: each is bounded, and costs its own run only."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from omnibase import ResourceLimitExceeded, SandboxTimeout, SandboxViolationError
from omnibase.core import events
from tests.security.harness import DEFAULT_MEMORY, OVERSHOOT, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-25")]

# What a modest script takes of each, and gets.
MODEST = {
    "descriptors": 500, "epolls": 100, "eventfds": 100, "timers": 100, "terminals": 20,
    "watches": 20, "signals": 20, "threads": 20, "directories": 5, "links": 200, "locks": 100,
    "segments": 2, "listeners": 100,
}  # fmt: skip


class _Host:
    """What this host has of descriptors, PIDs and memory while the body runs."""

    def __enter__(self) -> _Host:
        self._stop = threading.Event()
        self.before = self._files()
        self.most = self.before
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self._files())

    @staticmethod
    def _files() -> int:
        return int(Path("/proc/sys/fs/file-nr").read_text().split()[0])


@pytest.mark.parametrize("kind", MODEST)
def test_as_much_as_it_can_get(sandbox: SandboxFixture, kind: str) -> None:
    with _Host() as host:
        outcome = sandbox("exhaust", args=[kind], wall_seconds=8.0)

    ours = len(os.listdir("/proc/self/fd"))
    assert ours < 200
    assert host.most - host.before < 20_000, "open files of the whole host"
    result = outcome.finished
    assert result.usage.peak_memory_bytes <= DEFAULT_MEMORY + OVERSHOOT
    assert result.usage.wall_seconds < 20
    if outcome.error is not None:
        # Its own quota ended it, and that is on record. A working directory too deep
        # for the trace's messages is lost to it, which counts for more.
        assert isinstance(
            outcome.error, ResourceLimitExceeded | SandboxTimeout | SandboxViolationError
        )
        assert result.limits
        kinds = [limit.kind for limit in outcome.reported(events.ResourceLimitExceeded)]
        assert set(kinds) & {"memory", "pids", "time", "disk"}
    else:
        _, got, why = outcome.stdout.split()
        assert why != "all"
        assert int(got) < 1_000_000


def test_a_modest_amount_of_each_is_there_for_the_next(sandbox: SandboxFixture) -> None:
    words = [word for kind, most in MODEST.items() for word in (kind, str(most))]

    outcome = sandbox("exhaust", ["MEMORY:128MiB"], args=words)

    outcome.assert_clean()
    assert outcome.stdout.splitlines() == [f"{kind} {most} all" for kind, most in MODEST.items()]
