"""Which ends of a run are tried again, which open the circuit, and what comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from omnibase.core.resilience import Guard, RetryPolicy
from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.monitor.violations import Violation
from omnibase.core.sandbox.resilient import ResilientRunner
from omnibase.core.sandbox.result import RunResult, Usage
from omnibase.core.sandbox.runner import Cancel, Ended, RunRequest
from omnibase.errors import (
    CapabilityError,
    CircuitOpenError,
    SandboxError,
    SandboxStartError,
    SandboxTimeout,
)
from tests.helpers.specs import compiled

RESULT = RunResult(
    run_id="0" * 32, exit_code=0, signal=None, stdout=b"", stderr=b"",
    usage=Usage(cpu_seconds=0, peak_memory_bytes=0, wall_seconds=0, output_bytes=0),
)  # fmt: skip
TRIED = Violation(capability="FILE_READ:/etc/shadow", operation="open", resource="x", errno=2)
FINE = Ended(result=RESULT, cause="exit")


def unstarted(text: str = "no") -> Ended:
    return replace(FINE, fault=SandboxStartError(text))


def died(**result: Any) -> Ended:
    seen = replace(RESULT, **result)
    return Ended(result=seen, cause="exit", fault=SandboxError("died", result=seen))


@dataclass
class Inner:
    """Ends in turn as it is told: with a value, or with what it raises."""

    ends: list[Ended | Exception]
    calls: int = 0
    told: list[tuple[int, str]] = field(default_factory=list)

    def run(self, request: RunRequest, observer: Any, cancel: Cancel) -> Ended:
        end = self.ends[min(self.calls, len(self.ends) - 1)]
        self.calls += 1
        if isinstance(end, Exception):
            raise end
        return end

    def on_retry(self, attempt: int, reason: str, delay: float) -> None:
        self.told.append((attempt, reason))


@pytest.fixture
def cancel() -> Iterator[Cancel]:
    with contextlib.closing(Cancel()) as cancel:
        yield cancel


def run(
    inner: Inner, cancel: Cancel, *, idempotent: bool = False, guard: Guard | None = None
) -> Ended:
    policy = RetryPolicy(first_seconds=0.001, most_seconds=0.001)
    runner = ResilientRunner(
        inner=inner,
        guard=guard or Guard("`runsc`", policy),
        admission=Admission(runs=1, memory_bytes=1 << 40),
    )
    request = RunRequest(spec=compiled(), script=b"", idempotent=idempotent)
    return runner.run(request, inner, cancel)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("end", "idempotent", "calls"),
    [
        (unstarted(), False, 3),
        (unstarted(), True, 3),
        (died(), False, 1),
        (died(), True, 3),
        (died(violations=(TRIED,)), True, 1),  # who was caught gets no second try
        (FINE, True, 1),
        (replace(FINE, result=replace(RESULT, exit_code=1)), True, 1),
        (replace(FINE, result=replace(RESULT, violations=(TRIED,))), True, 1),
        (replace(FINE, cause="time"), True, 1),
        (replace(FINE, cause="cancelled"), True, 1),
        (replace(FINE, cause="memory"), True, 1),
    ],
)
def test_what_is_tried_again(cancel: Cancel, end: Ended, idempotent: bool, calls: int) -> None:
    inner = Inner([end])
    assert run(inner, cancel, idempotent=idempotent) is end
    assert inner.calls == calls
    assert [attempt for attempt, _ in inner.told] == list(range(1, calls))


@pytest.mark.parametrize("error", [CapabilityError("no"), SandboxTimeout("no"), ValueError("no")])
def test_what_is_raised_otherwise_comes_out_as_it_is(cancel: Cancel, error: Exception) -> None:
    cause = KeyError("inner")
    error.__cause__ = cause
    inner = Inner([error])
    with pytest.raises(type(error)) as caught:
        run(inner, cancel, idempotent=True)
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert inner.calls == 1


@pytest.mark.parametrize("later", [unstarted("broken"), SandboxStartError("broken")])
def test_a_try_that_had_begun_is_the_one_that_counts(
    cancel: Cancel, later: Ended | Exception
) -> None:
    """Something of the script ran: nobody is told that nothing did."""
    begun = died(stdout=b"half")
    inner = Inner([begun, later])
    ended = run(inner, cancel, idempotent=True)
    assert ended is begun
    assert ended.fault is not None
    assert ended.fault.result is begun.result
    assert ended.fault.details["retry"] == "broken"
    assert inner.calls == 3


def test_the_last_try_that_had_begun_counts(cancel: Cancel) -> None:
    ends = [died(stdout=b"1"), died(stdout=b"2"), died(stdout=b"3")]
    inner = Inner(list(ends))
    assert run(inner, cancel, idempotent=True) is ends[-1]
    assert inner.calls == 3


@pytest.mark.parametrize(
    ("end", "opens"),
    [
        (unstarted("runsc exited 128"), True),
        (unstarted("mkdir /x: No space left on device"), False),
        (SandboxStartError("the run could not be set up"), False),
        (died(), False),
    ],
)
def test_only_a_runtime_that_does_not_start_opens_the_circuit(
    cancel: Cancel, end: Ended | Exception, opens: bool
) -> None:
    guard = Guard("`runsc`", RetryPolicy(attempts=1, failures=2))
    for _ in range(2):
        with contextlib.suppress(SandboxStartError):
            run(Inner([end]), cancel, guard=guard)
    assert guard.open is opens
    if opens:
        inner = Inner([FINE])
        with pytest.raises(CircuitOpenError, match="128") as caught:
            run(inner, cancel, guard=guard)
        assert inner.calls == 0
        assert isinstance(caught.value.__cause__, SandboxStartError)
    else:
        assert run(Inner([FINE]), cancel, guard=guard) is FINE


def test_who_gives_up_does_not_wait_for_the_next_try(cancel: Cancel) -> None:
    guard = Guard("`runsc`", RetryPolicy(first_seconds=30, most_seconds=30, total_seconds=60))
    cancel.set()
    inner = Inner([unstarted()])
    run(inner, cancel, guard=guard)
    assert inner.calls == 3
