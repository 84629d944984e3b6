"""What every `SandboxRunner` must do, run against each that there is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.context import MIB, ExecutionContext
from omnibase.core.sandbox import _runsc, state
from omnibase.core.sandbox.cgroup import Hierarchy
from omnibase.core.sandbox.databases.copying import DatabaseCopied
from omnibase.core.sandbox.egress.reports import Closed, Failed, Opened
from omnibase.core.sandbox.image import Image, ensure_image
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.core.sandbox.monitor.executions import CommandStart
from omnibase.core.sandbox.monitor.reads import SecretReading
from omnibase.core.sandbox.runner import Cancel, Ended, GVisorRunner, RunRequest, SandboxRunner
from omnibase.errors import CapabilityError, SandboxStartError
from tests.helpers.remote import served
from tests.helpers.specs import compiled
from tests.helpers.traces import Host, host, own_hierarchy, settled
from tests.helpers.warm import AlwaysWarm
from tests.security.harness import OVERSHOOT

PLATFORMS = ("systrap", "ptrace")
WARM = "systrap, warm"
REMOTE = "systrap, over a socket"
SHELL_VIOLATION = b"try: open('/etc/passwd')\nexcept OSError as e: print(type(e).__name__)\n"


ENDINGS = {
    "a finalizer": "class A:\n    def __del__(self): print('gone')\na = A()",
    "a finalizer in a cycle, using its module": (
        "import json\nclass A:\n    def __del__(self): print(json.dumps(1), b)\n"
        "a, b = A(), 2\na.a = a"
    ),
    "a finalizer in another module": (
        "import json\nclass A:\n    def __del__(self): print('gone')\njson.kept = A()"
    ),
    "an error in a finalizer": "class A:\n    def __del__(self): 1 / 0\na = A()",
    "a file that is not closed": (
        "import json\njson.kept = open(1, 'w', closefd=False)\njson.kept.write('late')"
    ),
    "output of libc": "import ctypes\nctypes.CDLL(None).printf(b'late')",
    "handlers in order": (
        "import atexit\natexit.register(print, 1)\natexit.register(print, 2)\nprint(3)"
    ),
    "an error in a handler": "import atexit\natexit.register(divmod, 1, 0)\nprint(3)",
    "a thread": (
        "import threading, time\n"
        "def late():\n    time.sleep(0.1)\n    print('late')\n"
        "threading.Thread(target=late).start()\nprint('soon')"
    ),
    "a daemon's thread": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\nprint('soon')"
    ),
    "a child that ends likewise": (
        "import atexit, os\natexit.register(lambda: print('end', flush=True))\n"
        "if os.fork(): os.wait()"
    ),
    "no output": "import sys\nsys.stdout = None",
    "output that is closed": "import sys\nprint(1)\nsys.stdout.close()",
    "output that is another": (
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('kept')"
    ),
    "output that cannot be written": (
        "import os, sys\nsys.stdout.reconfigure(line_buffering=False)\nprint('x', end='')\n"
        "os.close(1)"
    ),
    "an exit in a function": "import sys\ndef f(): sys.exit(-1)\nf()",
    "an exit with a large number": "raise SystemExit(2**80)",
    "an exit with 256": "raise SystemExit(256)",
    "an exit with a truth": "raise SystemExit(True)",
    "an exit with text": "raise SystemExit('bye')",
    "a generator that is not over": (
        "def g():\n    try: yield\n    finally: print('over')\nh = g()\nnext(h)"
    ),
    "a weak reference": (
        "import weakref\nclass A: pass\na = A()\nf = weakref.finalize(a, print, 'gone')"
    ),
}


class Observer:
    """Keeps what it is told, in order; does as told on a call."""

    def __init__(self, **actions: Callable[..., None]) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._actions = actions

    def on_retry(self, attempt: int, reason: str, delay_seconds: float) -> None:
        raise AssertionError("the runner itself never tries again")

    def on_started(
        self, run_id: str, boot_seconds: float | None = None, *, warm: bool = False
    ) -> None:
        self.warm = warm
        self._note("started", run_id)

    def on_output(self, stream: str, chunk: bytes) -> None:
        self._note("output", (stream, chunk))

    def on_violation(self, violation: Violation) -> None:
        self._note("violation", violation)

    def on_staged(self, told: DatabaseCopied) -> None:
        self._note("staged", told)

    def on_egress(self, report: Opened | Closed | Failed) -> None:
        self._note("egress", report)

    def on_secret_read(self, reading: SecretReading) -> None:
        self._note("secret read", reading)

    def on_command(self, start: CommandStart) -> None:
        self._note("command", start)

    def _note(self, what: str, value: Any) -> None:
        self.calls.append((what, value))
        if what in self._actions:
            self._actions[what](value)

    def kinds(self) -> list[str]:
        return [what for what, _ in self.calls]


@pytest.fixture(scope="module")
def hierarchy() -> Iterator[Hierarchy]:
    with own_hierarchy() as place:
        yield place


@pytest.fixture(scope="module")
def image(state_directory: Path) -> Image:
    return ensure_image(state.state_dir())


@pytest.fixture(scope="module", params=[*PLATFORMS, WARM, REMOTE])
def runner(
    request: pytest.FixtureRequest, state_directory: Path, hierarchy: Hierarchy
) -> Iterator[SandboxRunner]:
    gvisor = GVisorRunner(
        runtime=_runsc.find_runtime(),
        platform=request.param.split(",")[0],
        state=state.state_dir(),
        hierarchy=hierarchy,
    )
    if request.param == REMOTE:
        with served(state.state_dir(), gvisor) as remote:
            yield remote
    else:
        yield AlwaysWarm(gvisor) if request.param == WARM else gvisor


class Subject:
    """A runner with what its tests need around it."""

    def __init__(self, runner: SandboxRunner, image: Image, state: Path, place: Hierarchy) -> None:
        self.runner = runner
        self.image = image
        self._state, self._place = state, place

    def host(self) -> Host:
        return host(self._state, self._place)

    def settled(self, before: Host) -> Host:
        return settled(self._state, self._place, before)

    def request(
        self,
        script: bytes | str,
        *capabilities: str,
        argv: tuple[str, ...] = (),
        stdin: bytes = b"",
        name: str = "script.py",
        environment: dict[str, str] | None = None,
        **quotas: Any,
    ) -> RunRequest:
        spec = compiled(
            *capabilities, context=ExecutionContext(**quotas), image=self.image,
            environment=environment,
        )  # fmt: skip
        source = script.encode() if isinstance(script, str) else script
        return RunRequest(spec=spec, script=source, name=name, argv=argv, stdin=stdin)

    def run(
        self, script: bytes | str, *capabilities: str, observer: Observer | None = None,
        cancel: Cancel | None = None, **options: Any,
    ) -> Ended:  # fmt: skip
        request = self.request(script, *capabilities, **options)
        own = Cancel()
        try:
            return self.runner.run(request, observer or Observer(), cancel or own)
        finally:
            own.close()


@pytest.fixture
def subject(
    runner: SandboxRunner, image: Image, state_directory: Path, hierarchy: Hierarchy
) -> Iterator[Subject]:
    """Whatever a test does: nothing is left behind when it is over."""
    subject = Subject(runner, image, state_directory, hierarchy)
    before = subject.host()
    yield subject
    assert subject.settled(before) == before


class TestOutput:
    def test_both_streams_are_exact(self, subject: Subject) -> None:
        ended = subject.run(
            "import sys\n"
            "sys.stdout.buffer.write(bytes(range(256)) * 1000)\n"
            "sys.stderr.buffer.write(b'\\0\\xff\\n\\r\\n' * 1000)\n"
        )
        assert ended.cause == "exit"
        assert ended.fault is None
        assert ended.result.exit_code == 0
        assert ended.result.stdout == bytes(range(256)) * 1000
        assert ended.result.stderr == b"\0\xff\n\r\n" * 1000
        assert ended.result.usage.output_bytes == 261_000
        assert ended.result.violations == ()
        assert ended.result.limits == ()
        assert ended.result.trace_dropped == 0

    def test_it_comes_while_it_happens(self, subject: Subject) -> None:
        """The script waits for an answer that only its first line brings."""
        cancel = Cancel()

        def first(_: Any) -> None:
            cancel.set()

        observer = Observer(output=first)
        ended = subject.run(
            "print('first')\nimport time\ntime.sleep(600)\n", observer=observer, cancel=cancel
        )
        cancel.close()
        assert ended.cause == "cancelled"
        assert ended.result.stdout == b"first\n"

    def test_at_the_cap_the_run_ends(self, subject: Subject) -> None:
        ended = subject.run("while True: print('x' * 1000)", output_bytes=50_000)
        assert ended.cause == "output"
        assert ended.result.limits == ("output",)
        assert ended.result.truncated
        kept = ended.result.stdout
        assert kept[:50_000] == (b"x" * 1000 + b"\n") * 49 + b"x" * 951
        assert kept[50_000:] == b"\n[output cut at 50000 bytes]\n"

    def test_or_what_is_past_it_is_dropped(self, subject: Subject) -> None:
        ended = subject.run(
            "print('x' * 5_000_000)\nimport sys\nsys.exit(7)",
            output_bytes=1000, on_output_limit="truncate",
        )  # fmt: skip
        assert (ended.cause, ended.result.exit_code) == ("exit", 7)
        assert ended.result.truncated
        assert ended.result.limits == ("output",)
        assert ended.result.stdout == b"x" * 1000 + b"\n[output cut at 1000 bytes]\n"
        assert ended.result.usage.output_bytes == 5_000_001


class TestEnd:
    @pytest.mark.parametrize(
        ("script", "code", "signal_number"),
        [
            ("pass", 0, None),
            ("raise SystemExit(3)", 3, None),
            ("raise SystemExit('bye')", 1, None),
            ("1 / 0", 1, None),
            ("import os; os._exit(255)", 255, None),
            ("import os; os.kill(os.getpid(), 9)", 137, signal.SIGKILL),
            ("import os; os.kill(os.getpid(), 15)", 143, signal.SIGTERM),
            ("import ctypes; ctypes.string_at(0)", 139, signal.SIGSEGV),
        ],
    )
    def test_codes_and_signals(
        self, subject: Subject, script: str, code: int, signal_number: int | None
    ) -> None:
        ended = subject.run(script)
        assert ended.cause == "exit"
        assert ended.fault is None
        assert (ended.result.exit_code, ended.result.signal) == (code, signal_number)

    @pytest.mark.parametrize("script", ENDINGS.values(), ids=ENDINGS.keys())
    def test_what_comes_at_the_end_is_that_of_python(
        self, subject: Subject, script: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "script.py"
        file.write_text(script)
        plain = subprocess.run(
            [sys.executable, "-I", file], cwd=tmp_path, capture_output=True, check=False, env={}
        )
        result = subject.run(script).result
        assert result.stdout == plain.stdout
        assert result.exit_code == plain.returncode % 256
        unraisable = b"Exception ignored" in plain.stderr
        assert (b"Exception ignored" in result.stderr) == unraisable
        assert unraisable or result.stderr == plain.stderr

    def test_a_traceback_names_the_script(self, subject: Subject) -> None:
        result = subject.run("def f():\n    raise ValueError('x')\nf()", name="job.py").result
        assert b"job.py" in result.stderr
        assert b"line 2, in f" in result.stderr
        assert result.stderr.endswith(b"ValueError: x\n")
        assert b"omnibase" not in result.stderr

    def test_the_deadline(self, subject: Subject) -> None:
        ended = subject.run(
            "import signal, time, os\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "os.fork()\n"
            "print('on', flush=True)\n"
            "while True: time.sleep(1)\n",
            wall_seconds=3,
        )
        assert ended.cause == "time"
        assert ended.result.limits == ("time",)
        assert b"on\n" in ended.result.stdout
        assert 3 <= ended.result.usage.wall_seconds < 13

    def test_the_deadline_waits_for_no_observer(self, subject: Subject) -> None:
        ended = subject.run(
            "print('on', flush=True)\nwhile True: pass\n",
            observer=Observer(output=lambda _: time.sleep(6)),
            wall_seconds=2,
        )
        assert (ended.cause, ended.result.limits) == ("time", ("time",))
        assert ended.result.usage.cpu_seconds < 5.5  # and not 6

    def test_what_the_script_leaves_running_ends_with_it(self, subject: Subject) -> None:
        ended = subject.run(
            "import os, time\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        time.sleep(600)\n"
            "    os._exit(0)\n"
            "print('done')\n",
            wall_seconds=60,
        )
        assert (ended.cause, ended.result.stdout) == ("exit", b"done\n")

    def test_cancelled_from_another_thread(self, subject: Subject) -> None:
        cancel = Cancel()
        started = threading.Event()
        observer = Observer(output=lambda _: started.set())
        thread = threading.Thread(target=lambda: (started.wait(60), cancel.set()))
        thread.start()
        ended = subject.run(
            "print('on')\nimport time\ntime.sleep(600)", observer=observer, cancel=cancel
        )
        thread.join()
        cancel.close()
        assert ended.cause == "cancelled"
        assert ended.result.signal == signal.SIGKILL

    def test_cancelled_before_it_starts(self, subject: Subject) -> None:
        cancel = Cancel()
        cancel.set()
        ended = subject.run("print('never')", cancel=cancel)
        cancel.close()
        assert ended.cause == "cancelled"
        assert ended.result.stdout == b""

    def test_out_of_memory(self, subject: Subject) -> None:
        ended = subject.run("x = bytearray(200_000_000)")
        assert ended.cause == "memory"
        assert ended.result.limits == ("memory",)
        assert ended.result.exit_code == 137
        assert ended.result.usage.peak_memory_bytes <= 50_000_000 + OVERSHOOT

    def test_out_of_cpu(self, subject: Subject) -> None:
        ended = subject.run("while True: pass", cpu_seconds=1)
        assert ended.cause == "cpu"
        assert ended.result.usage.cpu_seconds >= 1


class TestInput:
    def test_standard_input_is_exact(self, subject: Subject) -> None:
        data = bytes(range(256)) * 2000
        script = "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())"
        assert subject.run(script, stdin=data).result.stdout == data

    def test_standard_input_is_empty_by_default(self, subject: Subject) -> None:
        assert subject.run("print(repr(input()))").result.exit_code == 1

    def test_standard_input_that_nobody_reads(self, subject: Subject) -> None:
        ended = subject.run("print('ok')", stdin=b"x" * 3_000_000)
        assert (ended.cause, ended.result.stdout) == ("exit", b"ok\n")

    def test_arguments(self, subject: Subject) -> None:
        argv = ("", "a b", "ü", "日本", "-x", "--", "\n", "'\"$(x)", "\udcff", "x" * 10_000)
        result = subject.run("import sys\nprint(ascii(sys.argv))", argv=argv, name="s t.py").result
        assert result.stdout.decode() == ascii(["/run/script/s t.py", *argv]) + "\n"

    def test_the_environment_is_what_was_set(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOST_SECRET", "hunter2")
        result = subject.run(
            "import os\nprint(sorted(os.environ.items()))", environment={"MINE": "ü"}
        ).result
        variables = dict(eval(result.stdout))
        assert variables["MINE"] == "ü"
        assert set(variables) - {"LOCPATH"} == {
            "HOME", "LANG", "LOGNAME", "MINE", "PATH", "TMPDIR", "TZ", "USER",
        }  # fmt: skip

    def test_no_descriptor_is_inherited(self, subject: Subject) -> None:
        leaked = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        try:
            result = subject.run("import os\nprint(sorted(os.listdir('/proc/self/fd')))").result
        finally:
            os.close(leaked)
        assert eval(result.stdout) == ["0", "1", "2", "3"]  # the last is the listing's own


class TestScript:
    def test_empty(self, subject: Subject) -> None:
        ended = subject.run(b"")
        assert (ended.cause, ended.result.exit_code) == ("exit", 0)
        assert ended.result.stdout == ended.result.stderr == b""

    def test_ten_megabytes(self, subject: Subject) -> None:
        script = b"# " + b"x" * 10_000_000 + b"\nprint('end')\n"
        assert subject.run(script, "MEMORY:200MB").result.stdout == b"end\n"

    def test_not_utf_8(self, subject: Subject) -> None:
        result = subject.run(b"print('\xff')").result
        assert result.exit_code == 1
        assert b"SyntaxError" in result.stderr
        assert b"script.py" in result.stderr

    def test_another_encoding(self, subject: Subject) -> None:
        result = subject.run(b"# coding: latin-1\nprint(ascii('\xe9'))").result
        assert result.stdout == b"'\\xe9'\n"

    def test_syntax_error(self, subject: Subject) -> None:
        result = subject.run("print('no'\nx = = 1").result
        assert (result.exit_code, result.stdout) == (1, b"")
        assert b"SyntaxError" in result.stderr
        assert b"/run/script/script.py" in result.stderr

    def test_it_is_main(self, subject: Subject) -> None:
        result = subject.run(
            "print(__name__, __file__)\nimport __main__\nprint(len(dir(__main__)))"
        )
        assert result.result.stdout.startswith(b"__main__ /run/script/script.py\n")


class TestGrants:
    def test_exactly_what_is_named(self, subject: Subject, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("in")
        (tmp_path / "other.txt").write_text("other")
        (tmp_path / "out.txt").write_text("")
        observer = Observer()
        ended = subject.run(
            "import sys\n"
            "top = sys.argv[1]\n"
            "print(open(top + '/in.txt').read())\n"
            "open(top + '/out.txt', 'w').write('out')\n"
            "for path, mode in (('/other.txt', 'r'), ('/in.txt', 'w')):\n"
            "    try: open(top + path, mode)\n"
            "    except OSError as error: print(type(error).__name__)\n",
            f"FILE_READ:{tmp_path}/in.txt", f"FILE_WRITE:{tmp_path}/out.txt",
            argv=(str(tmp_path),), observer=observer,
        )  # fmt: skip
        assert ended.result.stdout.split() == [b"in", b"FileNotFoundError", b"OSError"]
        assert {v.capability for v in ended.result.violations} == {
            f"FILE_READ:{tmp_path}/other.txt", f"FILE_WRITE:{tmp_path}/in.txt",
        }  # fmt: skip
        assert (tmp_path / "out.txt").read_text() == "out"
        assert (tmp_path / "in.txt").read_text() == "in"

    def test_a_path_that_is_not_there(self, subject: Subject, tmp_path: Path) -> None:
        observer = Observer()
        with pytest.raises(CapabilityError, match="does not exist"):
            subject.run("pass", f"FILE_READ:{tmp_path}/none.txt", observer=observer)
        assert observer.calls == []


class TestObserver:
    def test_calls_come_in_order(self, subject: Subject) -> None:
        observer = Observer()
        ended = subject.run(SHELL_VIOLATION + b"print('end')\n", observer=observer)
        assert observer.calls[0] == ("started", ended.result.run_id)
        assert observer.kinds().count("started") == 1
        assert [v for what, v in observer.calls if what == "violation"] == list(
            ended.result.violations
        )
        output = b"".join(chunk for what, value in observer.calls if what == "output"
                          for chunk in [value[1]])  # fmt: skip
        assert output == ended.result.stdout == b"PermissionError\nend\n"

    @pytest.mark.parametrize("what", ["started", "output", "violation"])
    def test_an_error_in_it_ends_the_run_and_comes_through(
        self, subject: Subject, what: str
    ) -> None:
        class Mine(Exception):
            pass

        def fail(_: Any) -> None:
            raise Mine(what)

        began = time.monotonic()
        with pytest.raises(Mine, match=what):
            subject.run(
                SHELL_VIOLATION + b"import time\ntime.sleep(600)\n",
                observer=Observer(**{what: fail}), wall_seconds=300,
            )  # fmt: skip
        assert time.monotonic() - began < 120

    def test_it_is_called_on_the_host_side(self, subject: Subject) -> None:
        """What it starts or opens must not be the run's, nor end with it."""
        seen = []

        def look(_: Any) -> None:
            seen.append(Path("/proc/thread-self/ns/mnt").readlink())
            seen.append(Path("/proc/thread-self/ns/pid_for_children").readlink())

        subject.run("print(1)", observer=Observer(started=look, output=look))
        own = [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("mnt", "pid_for_children")]
        assert seen == own * 2

    def test_a_violation_may_end_the_run(self, subject: Subject) -> None:
        ended = subject.run(
            SHELL_VIOLATION + b"import time\ntime.sleep(600)\n", on_violation="kill"
        )
        assert ended.cause == "violation"
        assert [v.capability for v in ended.result.violations] == ["FILE_READ:/etc/passwd"]


def test_runs_at_once_do_not_meet(subject: Subject) -> None:
    results: dict[int, Ended] = {}

    def body(number: int) -> None:
        results[number] = subject.run(
            "import sys, os\n"
            "open('/tmp/mine', 'x').write(sys.argv[1])\n"
            "print(open('/tmp/mine').read(), os.getpid(), os.listdir('/tmp'))",
            argv=(str(number),),
        )

    threads = [threading.Thread(target=body, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: ended.result.stdout for n, ended in results.items()} == {
        n: b"%d 2 ['mine']\n" % n for n in range(4)
    }
    assert len({ended.result.run_id for ended in results.values()}) == 4


def test_a_runtime_that_does_not_start(subject: Subject, tmp_path: Path) -> None:
    runner = getattr(subject.runner, "gvisor", subject.runner)
    assert isinstance(runner, GVisorRunner)
    fake = tmp_path / "runsc"
    fake.write_text("#!/bin/sh\necho no luck today >&2\nexit 9\n")
    fake.chmod(0o755)
    broken = GVisorRunner(
        runtime=_runsc.Runtime(path=str(fake), version="x"),
        platform=runner.platform, state=runner.state, hierarchy=runner.hierarchy,
    )  # fmt: skip
    observer, cancel = Observer(), Cancel()
    ended = broken.run(subject.request("pass"), observer, cancel)
    cancel.close()
    assert isinstance(ended.fault, SandboxStartError)
    assert "no luck today" in ended.fault.message
    assert ended.fault.hint
    assert "started" not in observer.kinds()


def test_a_run_that_is_killed_from_outside(subject: Subject) -> None:
    """The Sentry's end is not the script's."""
    running = threading.Event()

    def kill() -> None:
        running.wait(60)
        for task in Path("/proc/self/task").iterdir():
            for pid in (task / "children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    observer = Observer(output=lambda _: running.set())
    ended = subject.run("import time\nprint(1)\ntime.sleep(600)", observer=observer)
    thread.join()
    assert ended.fault is not None
    assert "died before the script ended" in ended.fault.message
    assert ended.fault.result is ended.result


def test_an_interrupt_ends_the_run_and_comes_through(subject: Subject) -> None:
    """Ctrl-C: the exception reaches the caller, after everything is cleaned up."""
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    running = threading.Event()

    def interrupt() -> None:
        running.wait(60)
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            subject.run(
                "import time\nprint(1)\ntime.sleep(600)",
                observer=Observer(output=lambda _: running.set()), wall_seconds=300,
            )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()


def test_scratch_is_bounded(subject: Subject) -> None:
    ended = subject.run(
        "data = b'x' * 65536\n"
        "import time\n"
        "try:\n"
        "    with open('/tmp/x', 'wb', buffering=0) as file:\n"
        "        while True: file.write(data)\n"
        "finally:\n"
        "    print('full')\n"
        "    time.sleep(0.5)\n",
        scratch_bytes=2 * MIB,
    )
    assert ended.result.exit_code == 1
    assert b"No space left" in ended.result.stderr
    assert "disk" in ended.result.limits


def test_processes_are_bounded(subject: Subject) -> None:
    ended = subject.run(
        "import os, time\n"
        "for _ in range(50):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(600)\n",
        "MEMORY:200MB",
        pids=8,
    )  # fmt: skip
    assert ended.result.exit_code == 1
    assert b"BlockingIOError" in ended.result.stderr
    assert "pids" in ended.result.limits
