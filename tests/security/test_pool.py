"""Pools: warm runs are as confined as cold ones, and members share nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import EventBus, ExecutionContext, Pool, SandboxViolationError
from omnibase.core.events import CollectingSink, RunRetried, SandboxStart, SandboxViolation
from omnibase.core.sandbox import pool as pool_module
from omnibase.core.sandbox.pool_member import Member
from omnibase.core.sandbox.pool_serving import NotBegun
from omnibase.core.sandbox.record import Recorder
from omnibase.core.sandbox.runner import Cancel, Ended, RunRequest
from omnibase.errors import SandboxError

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-26")]

READY_SECONDS = 60


@pytest.fixture
def pool() -> Iterator[Pool]:
    """One member at a time is enough for most."""
    with Pool(size=1) as made:
        yield made


def ready(pool: Pool, count: int | None = None) -> Pool:
    assert pool.wait_ready(count, READY_SECONDS), pool.stats()
    return pool


class TestRuns:
    def test_a_run_is_a_run(self, pool: Pool) -> None:
        bus, sink = EventBus(), CollectingSink()
        bus.subscribe(sink)
        result = ready(pool).run(
            "import sys\nprint(sys.argv[1:], sys.stdin.read())", args=("a",), stdin=b"b", bus=bus
        )
        bus.close()
        assert (result.stdout, result.warm, result.cold_reason) == (b"['a'] b\n", True, None)
        assert result.ok
        (start,) = [e.data for e in sink.events if isinstance(e.data, SandboxStart)]
        assert start.start == "warm"
        assert result.usage.cpu_seconds > 0
        stats = pool.stats()
        assert (stats.warm_runs, stats.cold_runs) == (1, 0)

    def test_a_grant_is_bound_late_and_nothing_else(self, pool: Pool, area: Path) -> None:
        ready(pool)
        (area / "in.txt").write_text("late")  # made after the sandbox was
        (area / "other.txt").write_text("other")
        bus, sink = EventBus(), CollectingSink()
        bus.subscribe(sink)
        script = (
            f"print(open('{area}/in.txt').read())\n"
            f"try: open('{area}/other.txt')\n"
            "except FileNotFoundError: print('denied')\n"
        )
        before = Path("/proc/self/mountinfo").read_text()
        with pytest.raises(SandboxViolationError) as raised:
            pool.run(script, capabilities=[f"FILE_READ:{area}/in.txt"], bus=bus)
        bus.close()
        assert Path("/proc/self/mountinfo").read_text() == before
        assert raised.value.result is not None
        assert raised.value.result.warm
        assert raised.value.result.stdout == b"late\ndenied\n"
        wanted = f"FILE_READ:{area}/other.txt"
        assert [v.capability for v in raised.value.violations] == [wanted]
        assert wanted in [e.data.capability for e in sink.events
                          if isinstance(e.data, SandboxViolation)]  # fmt: skip

    def test_what_is_fixed_at_the_start_makes_a_run_cold(self, pool: Pool) -> None:
        context = ExecutionContext(scratch_bytes=1 << 20)
        result = ready(pool).run("print(1)", context=context)
        assert not result.warm
        assert result.cold_reason is not None
        assert "scratch" in result.cold_reason
        assert pool.stats().cold_reasons == {result.cold_reason: 1}


class TestMembers:
    def test_two_have_nothing_in_common(self) -> None:
        script = (
            "import random, uuid, os, json, time\n"
            "print(json.dumps([hash('a'), random.random(), str(uuid.uuid4()), id(object()),\n"
            "    os.urandom(8).hex(), os.listdir('/tmp')]))\n"
            "open('/tmp/mine', 'w').write('x')\n"
        )
        with Pool(size=2, preload=("random", "uuid")) as pool:
            ready(pool)
            first, second = (omnibase_json(pool.run(script).stdout) for _ in range(2))
        for one, other in zip(first[:5], second[:5], strict=True):
            assert one != other
        assert first[5] == second[5] == []

    def test_a_sibling_sees_no_grant_of_another(self, area: Path) -> None:
        (area / "secret.txt").write_text("of one run alone")
        look = (
            "import os, sys\n"
            f"print(os.path.exists('{area}/secret.txt'), os.path.exists('/grants/0'))\n"
            "sys.stdin.read()\n"
        )
        with Pool(size=2) as pool:
            ready(pool)
            held = pool.run(
                look, capabilities=[f"FILE_READ:{area}/secret.txt"], stdin=b"",
            )  # fmt: skip
            free = pool.run(look, context=ExecutionContext(on_violation="record"))
        assert held.warm
        assert free.warm
        assert held.stdout == b"True False\n"
        assert free.stdout == b"False False\n"

    def test_one_that_dies_is_replaced(self, pool: Pool) -> None:
        ready(pool)
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        # The kernel takes a moment to end all of it: a script may have begun in there.
        with contextlib.suppress(SandboxError):
            assert pool.run("print(1)").stdout == b"1\n"
        deadline = time.monotonic() + READY_SECONDS
        while not pool.stats().lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pool.stats().lost == 1
        assert ready(pool).run("print(2)").warm


class _Failing:
    """Stands for what is done in a member, and fails."""

    outcome: Ended | None = None

    def __init__(self, member: Member, *_: object) -> None:
        self._member = member

    def serve(self) -> Ended:
        self._member.leave()
        if self.outcome is None:
            raise NotBegun
        return self.outcome


class TestAgain:
    def test_members_that_never_begin_are_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bus, sink = EventBus(), CollectingSink()
        bus.subscribe(sink)
        monkeypatch.setattr(pool_module, "Serving", _Failing)
        with Pool(size=3, wait_seconds=READY_SECONDS) as pool:
            result = ready(pool).run("print(1)", bus=bus)
        bus.close()
        assert (result.stdout, result.warm) == (b"1\n", False)
        assert result.cold_reason is not None
        assert "before the script began" in result.cold_reason
        assert len(sink.payloads(RunRetried)) == 3

    @pytest.mark.parametrize(("idempotent", "tries"), [(True, 3), (False, 1)])
    def test_a_script_that_ends_each_sandbox_is_not_run_for_ever(
        self, monkeypatch: pytest.MonkeyPatch, idempotent: bool, tries: int
    ) -> None:
        with Pool(size=3, wait_seconds=READY_SECONDS) as pool:
            result = ready(pool).run("print(1)")
            fault = SandboxError("the sandbox is gone")
            monkeypatch.setattr(
                _Failing, "outcome", Ended(result=result, cause="exit", fault=fault)
            )
            monkeypatch.setattr(pool_module, "Serving", _Failing)
            observer = Observed()
            with contextlib.closing(Cancel()) as cancel:
                request = RunRequest(
                    spec=pool._runner._recipe.base, script=b"print(1)", idempotent=idempotent
                )
                ended = pool._runner.run(request, observer, cancel)
        assert ended.fault is fault
        assert len(observer.retries) == tries - 1


class Observed(Recorder):
    """Notes what is tried again."""

    def __init__(self) -> None:
        self.retries: list[str] = []

    def on_retry(self, attempt: int, reason: str, delay_seconds: float) -> None:
        self.retries.append(reason)


def omnibase_json(text: bytes) -> list[object]:
    import json

    found = json.loads(text)
    assert isinstance(found, list)
    return found


def children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def test_it_has_its_noun() -> None:
    assert omnibase.Pool is Pool
