"""Retries and a circuit breaker around what may fail for a while, on well-kept libraries.

Both libraries are imported at the first failure: what works pays for neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from omnibase.errors import CircuitOpenError

if TYPE_CHECKING:
    from circuitbreaker import CircuitBreaker  # type: ignore[import-untyped]

__all__ = ["Guard", "RetryPolicy"]

T = TypeVar("T")
OnRetry = Callable[[int, Exception, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how fast something is tried again, and when that is given up.

    Waits double from ``first_seconds`` to ``most_seconds``, each with up to
    ``first_seconds`` of jitter, so that many callers do not come back at once.

    Attributes:
        attempts: Tries in all, the first included; 1 for none again.
        first_seconds: Wait before the second.
        most_seconds: Longest wait.
        total_seconds: No try begins later than this after the first failure.
        failures: Failed tries in a row that open the circuit.
        recovery_seconds: The circuit stays open so long; then one caller probes.
    """

    attempts: int = 3
    first_seconds: float = 0.1
    most_seconds: float = 2.0
    total_seconds: float = 10.0
    failures: int = 6
    recovery_seconds: int = 15


class Guard:
    """Guards one thing that may fail, e.g. a runtime; threads share it.

    Args:
        name: What is guarded, for messages.
        policy: How often it is tried.
    """

    def __init__(self, name: str, policy: RetryPolicy | None = None) -> None:
        self._name = name
        self._policy = policy or RetryPolicy()
        self._lock = threading.Lock()
        self._breaker: CircuitBreaker | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether calls are refused now."""
        return self._breaker is not None and bool(self._breaker.opened)

    def call(
        self,
        work: Callable[[], T],
        *,
        may_repeat: Callable[[Exception], bool],
        blame: Callable[[Exception], Exception | None],
        on_retry: OnRetry = lambda attempt, error, delay: None,
        sleep: Callable[[float], None] = time.sleep,
        within_seconds: float | None = None,
    ) -> T:
        """Does the work, again if that may help.

        Args:
            work: What to do.
            may_repeat: Whether it may be done again after an error.
            blame: The guarded thing's fault in an error, if there is one.
            on_retry: Told the number of the try that failed, why, and the wait in
                seconds, before it.
            sleep: Waits.
            within_seconds: Bounds ``total_seconds`` further.

        Returns:
            What the work returned.

        Raises:
            CircuitOpenError: It failed too often of late; nothing was tried. The
                last cause is its ``__cause__``.
            Exception: What the last try raised, unchanged.
        """
        try:
            return self._once(work, blame)
        except Exception as error:
            if self._policy.attempts < 2 or not may_repeat(error):
                raise
            first = [error]

        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            stop_after_delay,
            wait_exponential,
            wait_random,
        )

        def attempt() -> T:
            if first:
                raise first.pop()
            return self._once(work, blame)

        def told(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            if isinstance(error, Exception) and state.next_action is not None:
                on_retry(state.attempt_number, error, state.next_action.sleep)

        def repeats(error: BaseException) -> bool:
            return isinstance(error, Exception) and may_repeat(error)

        policy = self._policy
        total = min(policy.total_seconds, within_seconds or policy.total_seconds)
        again = Retrying(
            retry=retry_if_exception(repeats),
            stop=stop_after_attempt(policy.attempts) | stop_after_delay(total),
            wait=wait_exponential(multiplier=policy.first_seconds, max=policy.most_seconds)
            + wait_random(0, policy.first_seconds),
            sleep=sleep,
            before_sleep=told,
            reraise=True,
        )
        return again(attempt)

    def _once(self, work: Callable[[], T], blame: Callable[[Exception], Exception | None]) -> T:
        probing = self._enter()
        try:
            outcome = work()
        except Exception as error:
            self._leave(probing, blame(error))
            raise
        except BaseException:
            self._leave(probing, None)
            raise
        self._leave(probing, None, worked=True)
        return outcome

    def _enter(self) -> bool:
        """Refuses while the circuit is open; returns whether this call is its probe."""
        with self._lock:
            if self._breaker is None or self._breaker.closed:
                return False
            if self._breaker.opened or self._probing:
                last = self._breaker.last_failure
                raise CircuitOpenError(
                    f"{self._name} failed {self._breaker.failure_count} times in a row, the last "
                    f"time because {last}",
                    details={"retry_after_seconds": max(0, self._breaker.open_remaining)},
                    hint="run `omnibase doctor`; it is tried again by itself in "
                    f"{max(1, self._breaker.open_remaining)} s",
                ) from last
            self._probing = True
            return True

    def _leave(self, probing: bool, failure: Exception | None, worked: bool = False) -> None:
        with self._lock:
            if probing:
                self._probing = False
            if failure is not None:
                breaker = self._breaker = self._breaker or self._new_breaker()
                breaker.__exit__(type(failure), failure, None)
            elif self._breaker is not None and worked:
                self._breaker.reset()

    def _new_breaker(self) -> CircuitBreaker:
        from circuitbreaker import CircuitBreaker

        return CircuitBreaker(
            failure_threshold=self._policy.failures,
            recovery_timeout=self._policy.recovery_seconds,
            name=self._name,
        )
