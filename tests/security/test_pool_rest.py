"""Sandboxes that wait in a large pool rest; nothing else about them is different."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import Pool, SandboxViolationError
from omnibase.core.events import CollectingSink, SandboxViolation
from omnibase.core.sandbox import pool as pool_module
from omnibase.core.sandbox import pool_member
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.pool_member import Member, MemberState
from tests.helpers.processes import Brood

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-26")]

SECONDS = 60
CLOCKS = "import time; print(time.time(), time.monotonic())"


@pytest.fixture
def pool(brood: Brood, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """Its second member rests once it is quiet."""
    monkeypatch.setattr(pool_module, "_AWAKE", 1)
    monkeypatch.setattr(pool_member, "_PING_SECONDS", 60.0)
    with Pool(size=2) as made:
        yield made
    assert not brood.children()


def resting(pool: Pool) -> Member:
    """Waits until one rests and the other does not."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        members = [m for m in pool.runner._members if m.state is MemberState.READY]
        still = [m for m in members if stopped(m)]
        if len(members) == 2 and len(still) == 1:
            return still[0]
        time.sleep(0.01)
    raise AssertionError(f"nobody rests: {pool.stats()}")


def sentry(member: Member) -> int:
    (found,) = (
        pid
        for pid in member.cgroup.processes()
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"runsc-sandbox\0")
    )
    return found


def stopped(member: Member) -> bool:
    """Whether the kernel says that its Sentry is stopped."""
    stat = Path(f"/proc/{sentry(member)}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def test_one_that_rests_takes_no_cpu_and_then_a_run(pool: Pool) -> None:
    used, tries = 1.0, 0
    while used > 0.01 and tries < 10:  # one that was not quiet is woken again
        member = resting(pool)
        before, tries = member.cgroup.cpu_seconds(), tries + 1
        time.sleep(1)
        used = member.cgroup.cpu_seconds() - before
    assert used < 0.01  # awake it takes some 0.02
    assert stopped(member)
    assert pool.run("print(1)").warm
    # The other has been told to go on, or is told by the run.
    assert pool.run("print(2)").warm
    assert member.used


def test_its_clock_is_right(pool: Pool) -> None:
    member = resting(pool)
    time.sleep(2)
    pool.runner._ready.rotate(-1)  # so that the next run gets it
    before = time.time()
    result = pool.run(CLOCKS)
    after = time.time()
    assert result.warm
    assert member.used
    assert before - 0.1 < float(result.stdout.split()[0]) < after + 0.1


def test_what_it_is_not_granted_is_denied_and_told(pool: Pool, area: Path) -> None:
    (area / "a.txt").write_text("late")
    (area / "b.txt").write_text("other")
    script = f"print(open('{area}/a.txt').read())\ntry: open('{area}/b.txt')\nexcept OSError: pass"
    sink = CollectingSink()
    bus = omnibase.EventBus()
    bus.subscribe(sink)
    member = resting(pool)
    pool.runner._ready.rotate(-1)
    with pytest.raises(SandboxViolationError) as raised:
        pool.run(script, capabilities=[f"FILE_READ:{area}/a.txt"], bus=bus)
    assert member.used
    assert raised.value.result is not None
    assert raised.value.result.warm
    assert raised.value.result.stdout == b"late\n"
    told = [e.data.capability for e in sink.events if isinstance(e.data, SandboxViolation)]
    assert told == [f"FILE_READ:{area}/b.txt"]


def test_it_answers_when_it_is_asked_for_a_sign_of_life(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_member, "_PING_SECONDS", 2.0)
    member = resting(pool)
    deadline = time.monotonic() + SECONDS
    while member.trace.sign != "/.alive" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert member.trace.sign == "/.alive"
    assert stopped(resting(pool))
    assert pool.stats().lost == 0


def test_one_that_was_busy_when_it_was_stopped_goes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a stopped Sentry takes a whole CPU."""
    spent = 0.0

    def rising(_self: Cgroup) -> float:
        nonlocal spent
        spent += 1
        return spent

    member = resting(pool)
    monkeypatch.setattr(Cgroup, "cpu_seconds", rising)
    member.rest(False)
    rested = resting(pool)
    deadline = time.monotonic() + SECONDS
    while stopped(rested) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not stopped(rested)


def test_one_that_is_killed_meanwhile_is_replaced(pool: Pool) -> None:
    member = resting(pool)
    os.kill(sentry(member), signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while not pool.stats().lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.stats().lost == 1
    assert resting(pool) is not member


def test_what_rests_ends_with_the_pool(pool: Pool) -> None:
    member = resting(pool)
    pool.close()
    assert member.state is MemberState.GONE
    assert not member.cgroup.processes()
