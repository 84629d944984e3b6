"""Pools: warm runs are as confined as cold ones, and members share nothing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import (
    CapabilityError,
    ConfigurationError,
    EventBus,
    ExecutionContext,
    Pool,
    SandboxError,
    SandboxStartError,
    SandboxUnavailable,
    SandboxViolationError,
)
from omnibase import pools as pools_module
from omnibase.core.events import CollectingSink, RunRetried, SandboxStart, SandboxViolation
from omnibase.core.sandbox import (
    _sys,
    bundle,
    lifecycle,
    pool_member,
    pool_sandbox,
    pool_serving,
)
from omnibase.core.sandbox import pool as pool_module
from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.pool_member import Member
from omnibase.core.sandbox.pool_serving import NotBegun
from omnibase.core.sandbox.record import Recorder
from omnibase.core.sandbox.runner import Cancel, Ended, RunRequest
from tests.helpers.processes import Brood

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-26")]

READY_SECONDS = 60
_HEAVY = (
    "asyncio", "unittest.mock", "xml.dom.minidom", "http.server", "sqlite3", "multiprocessing",
    "email.message", "ssl", "decimal", "pydoc", "calendar", "tarfile", "zipfile", "doctest",
    "urllib.request", "logging.config", "pickletools", "optparse",
)  # fmt: skip


@pytest.fixture
def pool(brood: Brood) -> Iterator[Pool]:
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

    def test_nobody_knows_a_secret_before_its_run(self) -> None:
        value = "s3cret-7f1a-value"
        look = (
            "import os\n"
            "try: print(len(open('/run/secrets/KEY').read()))\n"
            "except OSError as error: print(type(error).__name__)\n"
            "print(sorted(os.environ), os.listdir('/run/secrets'))\n"
        )
        with Pool(size=2) as pool:
            ready(pool)
            granted = pool.run(
                look, capabilities=["SECRET_ACCESS:KEY"], secrets={"KEY": value},
                env={"MINE": "1"},
            )  # fmt: skip
            other = pool.run(look, context=ExecutionContext(on_violation="record"))
        assert granted.warm
        assert granted.stdout.startswith(b"%d\n" % len(value))
        assert b"'MINE'" in granted.stdout
        assert other.warm
        assert other.stdout.startswith(b"FileNotFoundError\n")
        assert b"'MINE'" not in other.stdout
        assert [v.capability for v in other.violations] == ["SECRET_ACCESS:KEY"]

    def test_the_agent_is_out_of_reach(self, pool: Pool) -> None:
        script = (
            "import os, signal\n"
            "for number in (0, signal.SIGTERM, signal.SIGKILL):\n"
            "    try: os.kill(1, number); print('killed')\n"
            "    except PermissionError: print('no')\n"
            "for name in ('mem', 'fd', 'environ', 'maps', 'root'):\n"
            "    try: print(name, bool(os.listdir(f'/proc/1/{name}') if name in ('fd', 'root')\n"
            "        else open(f'/proc/1/{name}', 'rb').read(10)))\n"
            "    except OSError as error: print('no')\n"
            "print(sorted(os.listdir('/proc/self/fd')), os.getuid(), os.getcwd(), os.getppid())\n"
            "print(os.path.exists('/guest/run'), os.path.exists('/grants/0'))\n"
        )
        context = ExecutionContext(on_violation="record")
        warm = ready(pool).run(script, context=context)
        cold = omnibase.run(script, context=context)
        assert (warm.warm, cold.warm) == (True, False)
        assert warm.stdout == cold.stdout
        assert warm.stdout.startswith(b"no\nno\nno\nno\n")  # neither signals nor memory
        assert b"killed" not in warm.stdout
        assert b"['0', '1', '2', '3'] 65534 /tmp 1\nFalse False\n" in warm.stdout
        kinds = [[(v.operation, v.capability) for v in r.violations] for r in (warm, cold)]
        assert kinds[0] == kinds[1]
        assert "kill" in {operation for operation, _ in kinds[0]}

    def test_what_it_imports_beforehand_is_watched(self) -> None:
        """It runs as nobody, with nothing granted; and what tries something is not used."""
        with Pool(size=1, preload=("this_is_no_module",)) as pool:
            assert not pool.wait_ready(1, 1)
            deadline = time.monotonic() + READY_SECONDS
            while pool.stats().problem is None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert "this_is_no_module" in str(pool.stats().problem)
            result = pool.run("print(1)")
        assert (result.stdout, result.warm) == (b"1\n", False)

    @pytest.mark.threat("T-ORCH-07")
    def test_none_is_ready_without_a_trace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        genuine = bundle.trace_config

        def spoilt(endpoint: str) -> dict[str, Any]:
            config = genuine(endpoint)
            config["trace_session"]["points"][1]["context_fields"] = ["thread_group_id"]
            return config

        monkeypatch.setattr(bundle, "trace_config", spoilt)
        monkeypatch.setattr(pool_sandbox, "START_SECONDS", 2)
        monkeypatch.setattr(lifecycle, "START_SECONDS", 2)
        with Pool(size=1) as pool:
            deadline = time.monotonic() + READY_SECONDS
            while not pool.stats().failed_boots and time.monotonic() < deadline:
                assert not pool.stats().ready
                time.sleep(0.01)
            assert str(pool.stats().problem).startswith(
                ("a warm sandbox did not start: ", "a warm sandbox was not ready within 2 s")
            )
            with pytest.raises(SandboxStartError):
                pool.run("print(1)")
            assert pool.stats().warm_runs == 0

    def test_swapping_a_granted_file_for_a_link_never_wins(self, area: Path) -> None:
        (area / "secret").write_text("secret")
        granted, spare = area / "granted", area / "spare"
        granted.write_text("harmless")
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                spare.symlink_to(area / "secret")
                spare.replace(granted)
                spare.write_text("harmless")
                spare.replace(granted)

        swapper = threading.Thread(target=swap)
        outcomes = []
        with Pool(size=2, boots_at_once=2) as pool:
            ready(pool)
            swapper.start()
            try:
                for _ in range(12):
                    pool.wait_ready(1, READY_SECONDS)
                    try:
                        result = pool.run(
                            f"print(open('{granted}').read())",
                            capabilities=[f"FILE_READ:{granted}"],
                        )
                    except CapabilityError:
                        outcomes.append("refused")
                    else:
                        assert result.warm
                        outcomes.append(result.stdout.decode().strip())
            finally:
                stop.set()
                swapper.join()
        assert set(outcomes) <= {"refused", "harmless", ""}

    def test_a_file_that_is_replaced_as_it_is_bound(
        self, pool: Pool, area: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After its check, and after it was mounted for the first time: no fault of ours."""
        (area / "secret").write_text("secret")
        granted, spare = area / "granted", area / "spare"
        granted.write_text("harmless")
        token, enter = f"FILE_READ:{granted}", _sys.setns

        def swapped(fd: int, flag: int) -> None:
            spare.symlink_to(area / "secret")
            spare.replace(granted)
            enter(fd, flag)

        ready(pool)
        with monkeypatch.context() as patch:
            patch.setattr(_sys, "setns", swapped)
            try:
                result = pool.run(f"print(open('{granted}').read())", capabilities=[token])
            except CapabilityError as error:  # since Linux 6.5
                assert "was replaced or removed while it was being mounted" in error.message
                assert error.details["capability"] == token
            else:
                assert result.stdout == b"harmless\n"
        assert granted.is_symlink()
        granted.unlink()
        granted.write_text("again")
        result = ready(pool).run(f"print(open('{granted}').read())", capabilities=[token])
        assert (result.stdout, result.warm) == (b"again\n", True)

    def test_one_that_is_frozen_is_replaced(
        self, brood: Brood, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_member, "_PING_SECONDS", 0.2)
        monkeypatch.setattr(pool_sandbox, "_ANSWER_SECONDS", 3.0)
        with Pool(size=1, wait_seconds=READY_SECONDS) as pool:
            ready(pool)
            brood.signal(signal.SIGSTOP, all_below=True)
            deadline = time.monotonic() + READY_SECONDS
            while not pool.stats().lost and time.monotonic() < deadline:
                time.sleep(0.01)
            assert pool.stats().lost == 1
            assert ready(pool).run("print(2)").warm

    def test_one_that_is_frozen_as_its_run_comes_loses_it_to_another(
        self, brood: Brood, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_serving, "_BIND_SECONDS", 1.0)
        with Pool(size=1, wait_seconds=0) as pool:
            ready(pool)
            brood.signal(signal.SIGSTOP, all_below=True)
            bus, sink = EventBus(), CollectingSink()
            bus.subscribe(sink)
            result = pool.run("print(1)", bus=bus)
            bus.close()
        assert (result.stdout, result.exit_code) == (b"1\n", 0)
        assert (
            1 <= len(sink.payloads(RunRetried)) <= pool_module._TRIES
        )  # the next may be slow, too

    def test_one_that_is_killed_in_its_run_is_told(self, brood: Brood, pool: Pool) -> None:
        ready(pool)

        def kill(_stream: str, _chunk: bytes) -> None:
            brood.signal(signal.SIGKILL)

        with pytest.raises(SandboxError, match="died before the script ended") as raised:
            pool.run("import time\nprint(1)\ntime.sleep(600)", on_output=kill)
        assert raised.value.result is not None
        assert raised.value.result.stdout == b"1\n"

    def test_one_that_is_killed_as_it_starts_is_made_again(self, brood: Brood) -> None:
        with Pool(size=1) as pool:
            deadline = time.monotonic() + READY_SECONDS
            while not brood.children() and time.monotonic() < deadline:
                time.sleep(0.001)
            brood.signal(signal.SIGKILL)
            ready(pool)
            assert pool.stats().failed_boots <= 1
            assert pool.run("print(1)").warm

    def test_one_that_dies_is_replaced(self, brood: Brood, pool: Pool) -> None:
        ready(pool)
        brood.signal(signal.SIGKILL)
        # The kernel takes a moment to end all of it: a script may have begun in there, and
        # ended as well. Else the run is another's, or cold; and the first one is lost.
        try:
            result = pool.run("print(1)")
        except SandboxError as error:
            assert "died before the script ended" in str(error)
            assert error.result is not None
            assert error.result.warm
        else:
            assert (result.stdout, result.exit_code) == (b"1\n", 0)
        deadline = time.monotonic() + READY_SECONDS
        while not (told := pool.stats()).lost + told.warm_runs and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told.warm_runs + told.cold_runs == 1
        assert told.lost + told.warm_runs >= 1
        assert ready(pool).run("print(2)").warm
        assert pool.stats().lost <= 1


class TestClaims:
    """A member that was taken or looked at is never lost to the pool."""

    def test_one_that_is_being_looked_at_is_used_afterwards(self, pool: Pool) -> None:
        (member,) = ready(pool)._runner._members
        member._lock.acquire()  # as its own thread has it while it asks for a sign of life
        threading.Timer(0.2, member._lock.release).start()
        assert pool.run("print(1)").warm

    def test_one_is_given_back_if_the_process_drains(
        self, brood: Brood, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        admission = Admission(runs=4, memory_bytes=1 << 30)
        monkeypatch.setattr(pools_module, "places", lambda: admission)
        with Pool(size=1) as pool:
            ready(pool)
            admission.drain(0)
            with pytest.raises(SandboxUnavailable, match="draining"):
                pool.run("print(1)")
            assert pool.stats().running == 0
            closing = threading.Thread(target=pool.close, daemon=True)
            closing.start()
            closing.join(READY_SECONDS)
            assert not closing.is_alive()
        assert not brood.children()

    def test_an_interrupt_as_it_is_taken_lets_it_go(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        ready(pool)
        with monkeypatch.context() as patch:
            patch.setattr(pool_module, "Serving", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.run("print(1)")
        assert ready(pool).run("print(2)").warm  # another one

    def test_one_that_dies_before_it_is_given_back_is_replaced(
        self, brood: Brood, pool: Pool
    ) -> None:
        with contextlib.closing(Cancel()) as cancel:
            member = ready(pool)._runner._claim(cancel)
        assert member is not None
        brood.signal(signal.SIGKILL)
        assert member._gone.wait(READY_SECONDS)
        pool._runner._give_back(member)
        deadline = time.monotonic() + READY_SECONDS
        while member in pool._runner._members and time.monotonic() < deadline:
            time.sleep(0.01)
        ready(pool)._runner._news.put(member)  # as if both of its news were read late
        pool._runner._news.put(None)
        while not pool._runner._news.empty():
            time.sleep(0.01)
        time.sleep(0.05)
        assert pool.stats().problem is None
        assert pool.run("print(1)").warm

    def test_one_that_uses_more_memory_than_a_run_may_is_kept_for_others(self) -> None:
        with Pool(size=1, preload=_HEAVY, context=ExecutionContext(memory_bytes=100 << 20)) as pool:
            assert ready(pool).stats().idle_memory_bytes > 40_000_000
            small = pool.run("print(1)", context=ExecutionContext(memory_bytes=40_000_000))
            assert (small.stdout, small.warm) == (b"1\n", False)
            assert small.cold_reason == "a sandbox of the pool uses more memory than it may have"
            assert pool.run("print(2)").warm

    def test_what_it_used_while_it_waited_is_not_the_runs(self, pool: Pool) -> None:
        (member,) = ready(pool)._runner._members
        code = "import time; input()\nwhile time.process_time() < 0.5: pass"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as user:
            for path in member.cgroup.paths:
                (Path(path) / "cgroup.procs").write_text(str(user.pid))
            user.communicate(b"\n")
        assert member.cgroup.cpu_seconds() > 0.5
        result = pool.run("print(1)", context=ExecutionContext(cpu_seconds=0.4))
        assert (result.stdout, result.warm) == (b"1\n", True)
        assert result.usage.cpu_seconds < 0.4


class TestTheService:
    def test_a_burst_gets_what_there_is_and_the_rest_runs_cold(self) -> None:
        with Pool(size=2, wait_seconds=0) as pool:
            ready(pool)
            with concurrent.futures.ThreadPoolExecutor(5) as threads:
                runs = [threads.submit(pool.run, f"print({n})") for n in range(5)]
                results = [run.result() for run in runs]
            stats = pool.stats()
        assert [r.stdout for r in results] == [b"%d\n" % n for n in range(5)]
        assert sum(r.warm for r in results) == stats.warm_runs >= 2
        assert stats.warm_runs + stats.cold_runs == 5
        assert {r.cold_reason for r in results if not r.warm} <= {
            "no sandbox of the pool was ready"
        }

    def test_it_can_be_awaited_and_cancelled(self) -> None:
        async def body() -> None:
            async with Pool(size=2) as pool:
                assert await asyncio.to_thread(pool.wait_ready, 2, READY_SECONDS)
                result = await pool.arun("print(1)")
                assert (result.stdout, result.warm) == (b"1\n", True)
                endless = asyncio.ensure_future(pool.arun("import time\ntime.sleep(600)"))
                await asyncio.sleep(0.3)
                endless.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await endless

        asyncio.run(body())

    def test_what_nobody_wants_is_let_go(self, brood: Brood) -> None:
        with Pool(size=1, idle_seconds=0.3) as pool:
            deadline = time.monotonic() + READY_SECONDS
            while not pool.stats().boot_seconds and time.monotonic() < deadline:
                time.sleep(0.01)
            while brood.children() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not brood.children()
            assert pool.run("print(1)").stdout == b"1\n"  # and wanted again
            ready(pool)

    def test_a_child_of_the_process_runs_on_its_own(self, pool: Pool) -> None:
        ready(pool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks among threads
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                result = pool.run("print(1)")
                code = 0 if result.stdout == b"1\n" and not result.warm else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert pool.run("print(2)").warm

    @pytest.mark.parametrize(
        "arguments",
        [{"size": 0}, {"size": 1.5}, {"size": True}, {"size": 5000}, {"boots_at_once": 0},
         {"preload": "json"}, {"preload": ["a b"]}, {"preload": ["a;import os"]}],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError) as raised:
            Pool(**arguments)
        assert raised.value.hint


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
            ready(pool)
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
                ended = ready(pool)._runner.run(request, observer, cancel)
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


def test_it_has_its_noun() -> None:
    assert omnibase.Pool is Pool
