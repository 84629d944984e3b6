"""What is tried again, when the circuit opens, and who gets a place."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from omnibase.core.resilience import Guard, RetryPolicy
from omnibase.core.sandbox.admission import Admission, machine_memory
from omnibase.core.sandbox.runner import Cancel
from omnibase.errors import (
    CircuitOpenError,
    ConfigurationError,
    SandboxStartError,
    SandboxTimeout,
    SandboxUnavailable,
)

FAST = RetryPolicy(first_seconds=0.001, most_seconds=0.002, recovery_seconds=1)


def blame(error: Exception) -> Exception | None:
    return error if isinstance(error, SandboxStartError) else None


class Work:
    """Fails so often, then works."""

    def __init__(self, failures: int, error: type[Exception] = SandboxStartError) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"try {self.calls}")
        return "done"


def call(guard: Guard, work: Callable[[], str], **options: object) -> str:
    return guard.call(
        work,
        may_repeat=lambda error: isinstance(error, SandboxStartError),
        blame=blame,
        **options,  # type: ignore[arg-type]
    )


class TestRetries:
    @pytest.mark.parametrize("failures", [0, 1, 2])
    def test_a_start_that_fails_is_tried_again(self, failures: int) -> None:
        work, told = Work(failures), []
        on_retry = lambda attempt, error, delay: told.append((attempt, str(error), delay))  # noqa: E731

        assert call(Guard("r", FAST), work, on_retry=on_retry) == "done"
        assert work.calls == failures + 1
        assert [row[:2] for row in told] == [(n, f"try {n}") for n in range(1, failures + 1)]
        assert all(0 < row[2] <= 0.003 for row in told)

    def test_the_last_error_comes_out_unchanged(self) -> None:
        work = Work(9)
        with pytest.raises(SandboxStartError, match="try 3"):
            call(Guard("r", FAST), work)
        assert work.calls == 3

    def test_what_may_not_be_repeated_is_not(self) -> None:
        cause = KeyError("inner")

        def work() -> str:
            raise ValueError("the script's") from cause

        with pytest.raises(ValueError, match="the script's") as caught:
            call(Guard("r", FAST), work)
        assert caught.value.__cause__ is cause

    def test_one_attempt_is_none_again(self) -> None:
        work = Work(1)
        with pytest.raises(SandboxStartError):
            call(Guard("r", RetryPolicy(attempts=1)), work)
        assert work.calls == 1

    def test_time_bounds_it(self) -> None:
        work = Work(9)
        policy = RetryPolicy(attempts=9, first_seconds=0.02, most_seconds=0.02, failures=99)
        with pytest.raises(SandboxStartError):
            call(Guard("r", policy), work, within_seconds=0.03)
        assert 1 < work.calls < 6

    def test_an_interrupt_is_no_failure(self) -> None:
        guard = Guard("r", FAST)

        def work() -> str:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            call(guard, work)
        assert not guard.open

    def test_what_works_imports_no_library(self) -> None:
        code = (
            "import sys\n"
            "from omnibase.core.resilience import Guard\n"
            "Guard('r').call(int, may_repeat=bool, blame=lambda error: None)\n"
            "print({'tenacity', 'circuitbreaker', 'asyncio'} & sys.modules.keys())\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout == b"set()\n"


class TestCircuit:
    @pytest.fixture
    def broken(self) -> Guard:
        guard = Guard("`runsc`", FAST)
        for _ in range(2):
            with pytest.raises(SandboxStartError):
                call(guard, Work(9))
        return guard

    def test_it_opens_and_says_why(self, broken: Guard) -> None:
        work = Work(0)
        with pytest.raises(CircuitOpenError, match="`runsc` failed 6 times") as caught:
            call(broken, work)
        assert broken.open
        assert work.calls == 0
        assert isinstance(caught.value.__cause__, SandboxStartError)
        assert caught.value.details["retry_after_seconds"] == 1
        assert caught.value.hint

    def test_it_opens_in_the_middle_of_a_call(self) -> None:
        guard = Guard("r", RetryPolicy(failures=2, first_seconds=0.001, most_seconds=0.001))
        with pytest.raises(CircuitOpenError):
            call(guard, Work(9))

    def test_a_probe_closes_it(self, broken: Guard) -> None:
        time.sleep(1.1)
        assert call(broken, Work(0)) == "done"
        assert not broken.open

    def test_a_probe_that_fails_opens_it_again(self, broken: Guard) -> None:
        time.sleep(1.1)
        with pytest.raises(CircuitOpenError):
            call(broken, Work(9))
        assert broken.open

    def test_there_is_one_probe_at_a_time(self, broken: Guard) -> None:
        time.sleep(1.1)
        inside, leave = threading.Event(), threading.Event()

        def slow() -> str:
            inside.set()
            assert leave.wait(10)
            return "done"

        thread = threading.Thread(target=call, args=(broken, slow))
        thread.start()
        assert inside.wait(10)
        work = Work(0)
        with pytest.raises(CircuitOpenError):
            call(broken, work)
        leave.set()
        thread.join(10)
        assert work.calls == 0
        assert call(broken, work) == "done"

    def test_another_error_neither_opens_nor_closes_it(self) -> None:
        guard = Guard("r", RetryPolicy(attempts=1, failures=2))
        for error in (SandboxStartError, ValueError, ValueError):
            with pytest.raises(error):
                call(guard, Work(1, error))
        assert not guard.open
        with pytest.raises(SandboxStartError):
            call(guard, Work(1))
        assert guard.open

    def test_success_forgets(self) -> None:
        guard = Guard("r", RetryPolicy(attempts=1, failures=2))
        for _ in range(3):
            with pytest.raises(SandboxStartError):
                call(guard, Work(1))
            assert call(guard, Work(0)) == "done"
        assert not guard.open


@pytest.fixture
def cancel() -> Iterator[Cancel]:
    cancel = Cancel()
    yield cancel
    cancel.close()


def occupy(
    admission: Admission, cancel: Cancel, memory: int = 1
) -> tuple[threading.Thread, threading.Event]:
    leave, inside = threading.Event(), threading.Event()

    def body() -> None:
        with admission.place(memory, 10, cancel):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=body)
    thread.start()
    assert inside.wait(10)
    return thread, leave


def queued(admission: Admission, count: int) -> None:
    deadline = time.monotonic() + 10
    while admission.waiting != count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestAdmission:
    def test_a_full_house_times_out_without_a_start(self, cancel: Cancel) -> None:
        admission = Admission(runs=1, memory_bytes=100)
        thread, leave = occupy(admission, cancel)
        with (
            pytest.raises(SandboxTimeout, match="no place") as caught,
            admission.place(1, 0.02, cancel),
        ):
            raise AssertionError("entered")
        assert caught.value.details["queued"] is True
        leave.set()
        thread.join(10)
        assert (admission.running, admission.waiting) == (0, 0)
        with admission.place(100, 1, cancel):
            assert admission.running == 1

    def test_places_come_in_order_and_nobody_overtakes(self, cancel: Cancel) -> None:
        admission = Admission(runs=8, memory_bytes=100)
        thread, leave = occupy(admission, cancel, 60)
        order: list[str] = []

        def want(name: str, memory: int) -> None:
            with admission.place(memory, 10, cancel):
                order.append(name)
                time.sleep(0.02)

        waiting = []
        for number, (name, memory) in enumerate((("big", 80), ("small", 10), ("other", 90))):
            waiting.append(threading.Thread(target=want, args=(name, memory)))
            waiting[-1].start()
            queued(admission, number + 1)
        assert order == []
        leave.set()
        for one in (thread, *waiting):
            one.join(10)
        assert order == ["big", "small", "other"]

    def test_who_gives_up_needs_no_place(self, cancel: Cancel) -> None:
        admission = Admission(runs=1, memory_bytes=10)
        with contextlib.closing(Cancel()) as other:
            thread, leave = occupy(admission, other)
            cancel.set()
            with admission.place(1, 10, cancel):
                assert admission.running == 1
            assert admission.running == 1
            leave.set()
            thread.join(10)

    def test_what_can_never_fit_is_refused(self, cancel: Cancel) -> None:
        with (
            pytest.raises(SandboxUnavailable, match="all runs together") as caught,
            Admission(runs=1, memory_bytes=10).place(11, 1, cancel),
        ):
            raise AssertionError("entered")
        assert "OMNIBASE_MAX_MEMORY" in str(caught.value.hint)

    def test_draining_waits_and_admits_nobody(self, cancel: Cancel) -> None:
        admission = Admission(runs=2, memory_bytes=10)
        thread, leave = occupy(admission, cancel)
        assert not admission.drain(0.02)
        with pytest.raises(SandboxUnavailable, match="draining"), admission.place(1, 1, cancel):
            raise AssertionError("entered")
        leave.set()
        assert admission.drain(10)
        thread.join(10)

    def test_an_error_inside_frees_the_place(self, cancel: Cancel) -> None:
        admission = Admission(runs=1, memory_bytes=10)
        with pytest.raises(ValueError, match="inside"), admission.place(1, 1, cancel):
            raise ValueError("inside")
        assert admission.running == 0


class TestFromEnvironment:
    def test_it_follows_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMNIBASE_MAX_RUNS", raising=False)
        monkeypatch.delenv("OMNIBASE_MAX_MEMORY", raising=False)
        admission = Admission.from_environment()
        assert admission._runs >= 16
        assert admission._memory_bytes == machine_memory() * 8 // 10

    def test_it_follows_the_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMNIBASE_MAX_RUNS", "3")
        monkeypatch.setenv("OMNIBASE_MAX_MEMORY", "1GiB")
        admission = Admission.from_environment()
        assert (admission._runs, admission._memory_bytes) == (3, 1 << 30)

    @pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "9999999", "²"])
    def test_nonsense_is_refused(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("OMNIBASE_MAX_RUNS", text)
        with pytest.raises(ConfigurationError, match="OMNIBASE_MAX_RUNS"):
            Admission.from_environment()
