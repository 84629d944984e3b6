"""A runner that waits for a place, tries again what may help, and stops asking the broken."""

from __future__ import annotations

import errno
import os
import select
from dataclasses import dataclass
from typing import Final

from omnibase.core.resilience import Guard
from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.runner import Cancel, Ended, Observer, RunRequest, SandboxRunner
from omnibase.errors import SandboxError, SandboxStartError

__all__ = ["ResilientRunner"]

_FULL: Final = os.strerror(errno.ENOSPC).lower()  # as the runtime complains, too


class _Faulted(Exception):
    """A run whose sandbox failed, as the exception that a guard needs."""

    def __init__(self, ended: Ended, fault: SandboxError) -> None:
        super().__init__(fault.message)
        self.ended = ended
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ResilientRunner:
    """Runs through another runner; see `SandboxRunner`.

    A run is tried again only if nothing of the script ran, or if it is idempotent
    and the sandbox itself failed: never for what the script did. Only a runtime that
    does not start opens the circuit, so that neither a script nor a full disk opens it
    for others. If a try that had begun fails, and those after it do not begin, it is the
    one that counts.

    Attributes:
        inner: Does the runs.
        guard: Of its runtime.
        admission: Places for runs.
    """

    inner: SandboxRunner
    guard: Guard
    admission: Admission

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`.

        Raises:
            CircuitOpenError: The runtime failed too often of late.
            SandboxTimeout: There was no place within the run's ``wall_seconds``.
        """
        spec = request.spec
        begun: list[_Faulted] = []

        def work() -> Ended:
            with self.admission.place(spec.memory_bytes, spec.wall_seconds, cancel):
                ended = self.inner.run(request, observer, cancel)
            if ended.fault is not None:
                faulted = _Faulted(ended, ended.fault)
                if ended.fault.result is not None:
                    begun.append(faulted)
                raise faulted
            return ended

        def may_repeat(error: Exception) -> bool:
            if isinstance(error, _Faulted):
                if error.ended.result.violations:
                    return False
                return request.idempotent or isinstance(error.fault, SandboxStartError)
            return isinstance(error, SandboxStartError)

        def on_retry(attempt: int, error: Exception, delay: float) -> None:
            observer.on_retry(attempt, str(error), delay)

        try:
            return self.guard.call(
                work,
                may_repeat=may_repeat,
                blame=_blame,
                on_retry=on_retry,
                sleep=lambda seconds: _pause(cancel, seconds),
                within_seconds=spec.wall_seconds,
            )
        except _Faulted as faulted:
            if begun and begun[-1] is not faulted:
                return _unrepeated(begun[-1], faulted.fault)
            return faulted.ended
        except SandboxError as error:
            if not begun:
                raise
            return _unrepeated(begun[-1], error)


def _unrepeated(faulted: _Faulted, error: SandboxError) -> Ended:
    faulted.fault.details["retry"] = error.message
    return faulted.ended


def _blame(error: Exception) -> Exception | None:
    """Returns what the runtime is to blame for: not for what its host could not give it."""
    if not isinstance(error, _Faulted) or not isinstance(error.fault, SandboxStartError):
        return None
    return None if _FULL in error.fault.message.lower() else error.fault


def _pause(cancel: Cancel, seconds: float) -> None:
    """Waits, but not for a caller that has given up."""
    poller = select.poll()
    poller.register(cancel, select.POLLIN)
    poller.poll(seconds * 1000)
