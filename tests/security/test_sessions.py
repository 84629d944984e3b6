"""Sessions: hostile code in one, and what holds from call to call."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase import (
    CallResult,
    ConfigurationError,
    EventBus,
    ExecutionContext,
    OmniBaseError,
    ResourceLimitExceeded,
    SandboxError,
    SandboxTimeout,
    SandboxViolationError,
    Session,
    SessionClosed,
)
from omnibase.core.events import (
    CollectingSink,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    SessionCallEnd,
    SessionCallStart,
)
from tests.helpers.cli import omnibase
from tests.helpers.processes import Brood

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-27")]

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PASSWD = "FILE_READ:/etc/passwd"
LATER = """
import threading, time
def later():
    time.sleep(0.8)
    try: open('/etc/passwd')
    except OSError: pass
    print('later', flush=True)
threading.Thread(target=later, daemon=True).start()
"""


class Recorded:
    """A session with what it put on the bus."""

    def __init__(self, **options: Any) -> None:
        self.bus, self.sink = EventBus(), CollectingSink()
        self.bus.subscribe(self.sink)
        self.session = Session(bus=self.bus, **options)

    def await_attempt(self) -> None:
        """Waits until something that was tried is on the bus."""
        deadline = time.monotonic() + 20
        while not self.payloads(SandboxViolation) and time.monotonic() < deadline:
            time.sleep(0.02)

    def payloads(self, *kinds: type) -> list[Any]:
        return [event.data for event in self.sink.events if isinstance(event.data, kinds)]


@pytest.fixture
def record() -> Iterator[Callable[..., Recorded]]:
    made: list[Recorded] = []

    def make(**options: Any) -> Recorded:
        made.append(Recorded(**options))
        return made[-1]

    yield make
    for one in made:
        one.session.close()
        one.bus.close()


@pytest.fixture
def session(record: Callable[..., Recorded]) -> Session:
    return record().session


def denied(session: Session, code: str) -> SandboxViolationError:
    with pytest.raises(SandboxViolationError) as caught:
        session.run(code)
    return caught.value


class TestCalls:
    def test_what_a_call_defines_is_there_for_the_next(self, session: Session) -> None:
        session.run("import json\nx = 20\ndef twice(y): return 2 * y")
        result = session.run("print(json.dumps([x]), end='')\ntwice(x) + 2")
        assert (result.value, result.stdout, result.exit_code) == ("42", b"[20]", 0)
        assert (result.call, result.ok, result.stderr) == (2, True, b"")
        assert session.run("_").value == "42"
        assert session.run("None").value is None
        assert result.to_dict()["value"] == "42"

    def test_an_exception_is_a_result(self, session: Session) -> None:
        session.run("def f():\n    raise ValueError('no')\n")
        result = session.run("print('before')\nf()")
        assert (result.exit_code, result.stdout, result.value) == (1, b"before\n", None)
        assert result.error is not None
        assert (result.error.type, result.error.message) == ("ValueError", "no")
        assert result.stderr.decode() == result.error.traceback
        assert 'File "<call 2>", line 2, in <module>\n    f()' in result.error.traceback
        assert 'File "<call 1>", line 2, in f\n    raise ValueError' in result.error.traceback
        assert session.run("1 +").error.type == "SyntaxError"  # type: ignore[union-attr]
        assert session.run("import sys; sys.exit(7)").exit_code == 7
        assert session.run("sys.exit('bye')").stderr == b"bye\n"
        assert session.run("raise KeyboardInterrupt").exit_code == 130
        assert session.run(b"'\xff'").error.type == "SyntaxError"  # type: ignore[union-attr]
        assert session.run(b"# coding: latin-1\n'\xe9'").value == "'é'"
        assert session.run("input()").error.type == "EOFError"  # type: ignore[union-attr]

    def test_each_call_is_on_record(self, record: Callable[..., Recorded]) -> None:
        one = record(args=("a",), env={"MODE": "x"})
        assert one.session.run("import os, sys; sys.argv[1:], os.environ['MODE']").value == (
            "(['a'], 'x')"
        )
        denied(one.session, "open('/etc/passwd')")
        one.session.run("1 / 0")
        one.session.close()
        kinds = (SandboxStart, SessionCallStart, SandboxViolation, SessionCallEnd, SandboxExit)
        told = one.payloads(*kinds)
        assert [type(payload) for payload in told] == [
            SandboxStart, SessionCallStart, SessionCallEnd, SessionCallStart, SandboxViolation,
            SessionCallEnd, SessionCallStart, SessionCallEnd, SandboxExit,
        ]  # fmt: skip
        ends = one.payloads(SessionCallEnd)
        assert [(end.call, end.outcome, end.exit_code, end.violations) for end in ends] == [
            (1, "ok", 0, 0), (2, "violation", 1, 1), (3, "failed", 1, 0),
        ]  # fmt: skip
        assert len({event.runid for event in one.sink.events}) == 1
        (end,) = one.payloads(SandboxExit)
        assert (end.outcome, end.violations) == ("violation", 1)  # of all calls
        assert end.output_bytes == sum(call.output_bytes for call in ends) > 0

    def test_output_comes_while_it_happens(self, record: Callable[..., Recorded]) -> None:
        seen: list[tuple[str, bytes]] = []
        one = record(on_output=lambda stream, chunk: seen.append((stream, chunk)))
        one.session.run("print(1)\nimport sys; print(2, file=sys.stderr)")
        assert sorted(seen) == [("stderr", b"2\n"), ("stdout", b"1\n")]

    def test_asynchronously(self) -> None:
        async def use() -> list[str | None]:
            async with Session() as session:
                first = await session.arun("x = 1; x")
                calls = [session.arun(f"x += {n}; x") for n in (1, 1)]
                return [first.value, *sorted(str(r.value) for r in await asyncio.gather(*calls))]

        assert asyncio.run(use()) == ["1", "2", "3"]

    def test_a_cancelled_call_ends_the_session(self) -> None:
        async def use() -> Session:
            session = Session()
            task = asyncio.ensure_future(session.arun("import time; time.sleep(600)"))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return session

        session = asyncio.run(use())
        with pytest.raises(SessionClosed, match="cancelled"):
            session.run("1")
        session.close()

    def test_a_thousand_calls_leave_nothing(self, session: Session) -> None:
        session.run("import os, gc; n = 0")
        fds, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        before = session.run("len(os.listdir('/proc/self/fd'))").value
        for _ in range(1000):
            assert session.run("n += 1").exit_code == 0
        assert session.run("n").value == "1000"
        assert session.run("len(os.listdir('/proc/self/fd'))").value == before
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (fds, threads)


class TestGrants:
    def test_they_hold_for_all_calls(self, record: Callable[..., Recorded], area: Path) -> None:
        (area / "in").write_text("in")
        (area / "other").write_text("other")
        one = record(capabilities=[f"FILE_READ:{area}/in", "SECRET_ACCESS:KEY"],
                     secrets={"KEY": "hunter2hunter2"})  # fmt: skip
        for _ in range(2):
            assert one.session.run(f"open('{area}/in').read()").value == "'in'"
            error = denied(one.session, f"open('{area}/other')")
            assert [v.capability for v in error.violations] == [f"FILE_READ:{area}/other"]
        result = one.session.run("key = open('/run/secrets/KEY').read(); print(key); key")
        assert (result.stdout, result.value) == (b"***KEY***\n", "'***KEY***'")

    def test_a_violation_is_its_calls_and_the_session_goes_on(self, session: Session) -> None:
        error = denied(session, "x = 1\nprint('out')\nopen('/etc/passwd')")
        result = error.result
        assert isinstance(result, CallResult)
        assert (result.call, result.exit_code, result.stdout) == (1, 1, b"out\n")
        assert b"FILE_READ:/etc/passwd is not granted" in result.stderr
        assert session.run("x").violations == ()

    def test_or_ends_if_it_is_to(self, record: Callable[..., Recorded]) -> None:
        session = record(context=ExecutionContext(on_violation="kill")).session
        denied(session, "open('/etc/passwd')\nimport time; time.sleep(600)")
        with pytest.raises(SessionClosed) as caught:
            session.run("1")
        assert PASSWD in str(caught.value)
        assert caught.value.hint == "make a new one"

    def test_or_is_only_recorded(self, record: Callable[..., Recorded]) -> None:
        session = record(context=ExecutionContext(on_violation="record")).session
        result = session.run("try: open('/etc/passwd')\nexcept OSError: pass\n7")
        assert (result.value, [v.capability for v in result.violations]) == ("7", [PASSWD])
        assert not result.ok

    def test_two_sessions_share_nothing(self, record: Callable[..., Recorded]) -> None:
        one, other = record().session, record().session
        one.run("import builtins; builtins.mark = 1; open('/tmp/mark', 'w').write('x')")
        result = other.run("import builtins, os\n(hasattr(builtins, 'mark'), os.listdir('/tmp'))")
        assert result.value == "(False, [])"
        assert one.run("import random; random.random()").value != other.run(
            "import random; random.random()"
        ).value  # fmt: skip


class TestBetweenCalls:
    def test_an_attempt_counts_for_the_next_call(self, record: Callable[..., Recorded]) -> None:
        one = record()
        assert one.session.run(LATER).violations == ()
        one.await_attempt()
        time.sleep(0.2)  # for what it says then
        error = denied(one.session, "1")
        assert isinstance(error.result, CallResult)
        assert (error.result.call, error.result.value) == (2, "1")
        assert [v.capability for v in error.violations] == [PASSWD]
        assert error.result.stdout == b"later\n"
        assert one.session.run("2").violations == ()

    def test_or_for_the_sessions_end(self, record: Callable[..., Recorded]) -> None:
        one = record()
        one.session.run(LATER)
        one.await_attempt()
        time.sleep(0.2)
        with pytest.raises(SandboxViolationError) as caught:
            one.session.close()
        assert [v.capability for v in caught.value.violations] == [PASSWD]
        assert one.session.result is not None
        assert one.session.result.stdout == b"later\n"
        one.session.close()  # once is enough

    def test_even_of_one_that_has_to_be_ended(self, record: Callable[..., Recorded]) -> None:
        one = record()
        one.session.run(LATER + "threading.Thread(target=time.sleep, args=(600,)).start()")
        one.await_attempt()
        with pytest.raises(SandboxViolationError):
            one.session.close()


FORGED = """
import gc, os, sys
frames = [f for f in sys._current_frames().values()]
frame = frames[0]
while frame.f_code.co_name != 'serve': frame = frame.f_back
token = frame.f_locals['token']
try: os.open('/.call/' + token, os.O_RDONLY)
except OSError: pass
import time; time.sleep(0.3)
try: open('/etc/passwd')
except OSError: pass
"""


class TestHostile:
    def test_a_forged_end_loses_nothing(self, record: Callable[..., Recorded]) -> None:
        """What it tries after that is the next call's of the same session."""
        one = record()
        first = one.session.run(FORGED)
        assert first.violations == ()
        assert first.exit_code == 1  # it came without a report
        error = denied(one.session, "'next'")
        assert PASSWD in [v.capability for v in error.violations]
        told = one.payloads(SandboxViolation)
        assert PASSWD in [violation.capability for violation in told]

    def test_a_sign_that_nobody_waits_for_is_an_attempt(self, session: Session) -> None:
        error = denied(session, f"open('/.call/{'0' * 32}')")
        assert [v.capability for v in error.violations] == [f"FILE_READ:/.call/{'0' * 32}"]

    def test_made_up_reports_are_text(self, session: Session) -> None:
        session.run("import os")
        for report in ("b'x' * 70000", "b'OBS1' + b'\\xff' * 64", "b''",
                       "b'OBS1' + bytes(4) + b'\\x05\\0\\0\\0abc'"):  # fmt: skip
            result = session.run(f"os.write(1001, {report}); 5")
            assert isinstance(result.value, str | None)
            assert session.run("6").value == "6"

    @pytest.mark.parametrize(
        "code",
        [
            "import os; os.closerange(3, 1024)",
            "import os; os.close(1000)",
            "import os; os._exit(3)",
            "import ctypes; ctypes.string_at(0)",
            "import os; os.kill(os.getpid(), 9)",
            "import sys; sys.modules['__main__'].__builtins__ = None\n"
            "import builtins; builtins.len = None; import os; os.read = None; os.open = None",
        ],
    )
    def test_what_breaks_it_ends_it(self, session: Session, code: str) -> None:
        for source in (code, "1"):
            try:
                session.run(source)
            except SandboxError:
                break
            if session.closed:
                break
        with pytest.raises(SessionClosed) as caught:
            for _ in range(2):
                session.run("1")
        assert caught.value.hint

    def test_an_end_of_its_process_is_a_result(self, session: Session) -> None:
        result = session.run("print('x', flush=True)\nimport os; os._exit(3)")
        assert (result.exit_code, result.stdout, result.call) == (3, b"x\n", 1)
        with pytest.raises(SessionClosed, match="its process ended with exit code 3"):
            session.run("1")

    def test_a_child_that_comes_out_of_its_call_is_gone(self, session: Session) -> None:
        result = session.run("import os\npid = os.fork()\nprint('one', flush=True)\n"
                             "if pid: os.waitpid(pid, 0)")  # fmt: skip
        assert result.stdout == b"one\none\n"
        assert session.run("5").value == "5"

    def test_a_child_that_outlives_its_call_is_still_watched(self, session: Session) -> None:
        session.run("import os, time\npid = os.fork()\nif pid == 0:\n    time.sleep(0.8)\n"
                    "    try: open('/etc/passwd')\n    except OSError: pass\n"
                    "    os._exit(0)")  # fmt: skip
        error = denied(session, "os.waitpid(pid, 0)")
        assert [v.capability for v in error.violations] == [PASSWD]

    def test_replaced_streams_and_hooks(self, session: Session) -> None:
        session.run("import sys\nsys.stdout = None\nsys.excepthook = lambda *a: 1 / 0\n"
                    "class V:\n    def __repr__(self): raise OSError('no')\n")  # fmt: skip
        result = session.run("V()")
        assert result.exit_code == 1
        assert result.error is not None
        assert session.run("sys.stdout = sys.__stdout__; print('back')").stdout == b"back\n"

    def test_huge_values_are_cut(self, session: Session) -> None:
        value = session.run("'ü' * 100_000").value
        assert value is not None
        assert len(value.encode()) <= 16_384


class TestLimits:
    def test_time(self, record: Callable[..., Recorded]) -> None:
        session = record(context=ExecutionContext(wall_seconds=3)).session
        session.run("import time; time.sleep(1.6)")
        session.run("time.sleep(1.6)")
        with pytest.raises(SandboxTimeout, match="the call took longer than 3 s") as caught:
            session.run("print('on', flush=True)\ntime.sleep(600)")
        assert caught.value.result is not None
        assert caught.value.result.stdout == b"on\n"
        with pytest.raises(SessionClosed):
            session.run("1")

    def test_a_life(self, record: Callable[..., Recorded]) -> None:
        session = record(lifetime_seconds=3).session
        session.run("1")
        time.sleep(3.5)
        with pytest.raises(SessionClosed, match="longer than 3 s"):
            session.run("1")

    def test_output_is_of_each_call(self, record: Callable[..., Recorded]) -> None:
        session = record(context=ExecutionContext(output_bytes=10_000)).session
        for _ in range(3):
            assert len(session.run("print('x' * 8000)").stdout) == 8001
        with pytest.raises(ResourceLimitExceeded) as caught:
            session.run("while True: print('x' * 1000)")
        assert caught.value.kind == "output"
        assert session.closed

    def test_or_is_cut(self, record: Callable[..., Recorded]) -> None:
        context = ExecutionContext(output_bytes=1000, on_output_limit="truncate")
        session = record(context=context).session
        for _ in range(2):
            result = session.run("print('x' * 5000)")
            assert result.truncated
            assert result.stdout == b"x" * 1000 + b"\n[output cut at 1000 bytes]\n"

    def test_a_flood_between_calls(self, record: Callable[..., Recorded]) -> None:
        session = record(context=ExecutionContext(output_bytes=100_000)).session
        session.run("import threading, time\ndef flood():\n    time.sleep(0.5)\n"
            "    while True: print('x' * 1000)\n"
                    "threading.Thread(target=flood, daemon=True).start()")  # fmt: skip
        deadline = time.monotonic() + 20
        while not session.closed and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(SessionClosed, match="output limit"):
            session.run("1")

    def test_memory_is_of_the_session(self, session: Session) -> None:
        session.run("kept = []")
        with pytest.raises(ResourceLimitExceeded) as caught:
            for _ in range(20):
                session.run("kept.append(bytearray(5_000_000))")
        assert caught.value.kind == "memory"

    def test_cpu_is_of_each_call(self, record: Callable[..., Recorded]) -> None:
        session = record(context=ExecutionContext(cpu_seconds=1.0)).session
        spin = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
        assert [session.run(spin).exit_code for _ in range(3)] == [0, 0, 0]
        with pytest.raises(ResourceLimitExceeded) as caught:
            session.run("while True: pass")
        assert caught.value.kind == "cpu"

    def test_processes(self, record: Callable[..., Recorded]) -> None:
        session = record(
            context=ExecutionContext(pids=8), capabilities=["MEMORY:200MiB"]
        ).session  # fmt: skip
        with pytest.raises(ResourceLimitExceeded) as caught:
            session.run("import os, time\nfor _ in range(50):\n    if os.fork() == 0:\n"
                        "        time.sleep(600)")  # fmt: skip
        assert caught.value.kind == "pids"
        assert session.run("'on'").value == "'on'"


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C counts, though whoever started the tests in the background had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestEnds:
    def test_what_is_refused_leaves_nothing(self) -> None:
        fds, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        for options in (
            {"lifetime_seconds": 0}, {"capabilities": ["NOTHING:x"]}, {"args": "x"},
            {"component": "a", "packages": ["numpy"]}, {"component": "no-such-component"},
            {"capabilities": ["FILE_READ:/no/such/file"]}, {"capabilities": ["SECRET_ACCESS:NO"]},
        ):  # fmt: skip
            with pytest.raises(OmniBaseError):
                Session(**options)  # type: ignore[arg-type]
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (fds, threads)

    def test_an_interrupt(self, session: Session, heeded: None) -> None:
        threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
        with pytest.raises(KeyboardInterrupt):
            session.run("import time; time.sleep(600)")
        with pytest.raises(SessionClosed):
            session.run("1")

    def test_code_that_is_too_large(self, record: Callable[..., Recorded]) -> None:
        session = record(capabilities=["MEMORY:200MB"]).session
        with pytest.raises(ConfigurationError, match="10485761 bytes"):
            session.run(b"#" * 10_485_761)
        assert session.run(b"x = 5\n" + b"#" * 10_000_000 + b"\nx").value == "5"

    def test_a_sandbox_that_is_killed_in_a_call(self, brood: Brood, session: Session) -> None:
        def kill() -> None:
            time.sleep(0.5)
            brood.signal(signal.SIGKILL)

        assert brood.children()
        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(SandboxError, match="died"):
            session.run("import time; time.sleep(600)")
        thread.join()
        with pytest.raises(SessionClosed):
            session.run("1")

    def test_a_child_of_ours_has_none(self, session: Session) -> None:
        pid = os.fork()
        if pid == 0:  # the tests' own child: nothing of pytest may run in it
            try:
                session.run("1")
            except SessionClosed:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert session.run("1").value == "1"

    def test_one_that_nobody_has_any_more(self) -> None:
        session = Session()
        life = session._life
        del session
        assert life.join(10)
        assert life.error is None

    def test_with_an_error_of_its_users(self) -> None:
        with pytest.raises(ZeroDivisionError), Session() as session:
            session.run(LATER)
            time.sleep(1)
            raise ZeroDivisionError
        assert session.closed


class TestComponents:
    """A session of a component has what its policy grants, and finds what its script defines."""

    def test_its_script_comes_first(self, tmp_path: Path, area: Path) -> None:
        (area / "in").write_text("in")
        (area / "other").write_text("other")
        script, policy = tmp_path / "tool.py", tmp_path / "tool.cedar"
        script.write_text(f"def read(name): return open('{area}/' + name).read()\n")
        policy.write_text(
            f'@id("in")\npermit (principal == Component::"{UUID}", action == Action::"use",\n'
            f'resource is FileRead)\nwhen {{ resource.path == "{area}/in" }};\n'
        )
        added = omnibase("registry", "add", "--registry", tmp_path / "registry", "--name", "tool",
                         "--version", "1.0.0", "--owner", "me", "--script", script, "--uuid", UUID,
                         "--require", f"FILE_READ:{area}/in", "--policy", policy)  # fmt: skip
        assert added.code == 0, added.err
        with Session("tool", registry=tmp_path / "registry") as session:
            assert session.run("read('in')").value == "'in'"
            error = denied(session, "read('other')")
            assert [v.capability for v in error.violations] == [f"FILE_READ:{area}/other"]
            assert 'File "/run/script/tool.py", line 1, in read' in error.result.stderr.decode()
        assert session.result is not None
        assert session.result.component is not None
        assert session.result.component.reference == "tool@1.0.0"

    def test_a_script_that_fails(self, tmp_path: Path) -> None:
        script = tmp_path / "tool.py"
        script.write_text("print('out')\n1 / 0\n")
        added = omnibase("registry", "add", "--registry", tmp_path / "registry", "--name", "tool",
                         "--version", "1.0.0", "--owner", "me", "--script", script)  # fmt: skip
        assert added.code == 0, added.err
        with pytest.raises(SandboxError, match="ZeroDivisionError") as caught:
            Session("tool", registry=tmp_path / "registry")
        assert caught.value.result is not None
        assert caught.value.result.stdout == b"out\n"
