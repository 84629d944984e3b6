"""Running a hostile script, and asking what became of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnibase import (
    CapabilitySet,
    EventBus,
    ExecutionContext,
    OmniBaseError,
    RunResult,
    SandboxViolationError,
    Violation,
)
from omnibase.asked import Authority, Options
from omnibase.call import Call
from omnibase.core.events import CollectingSink, Event, SandboxViolation
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.spec import Mask

SCRIPTS = Path(__file__).parent / "scripts"

DEFAULT_MEMORY = 50_000_000
# The kernel charges what must not fail past a cgroup's limit, and each CPU in batches of
# 64 pages (MEMCG_CHARGE_BATCH).
OVERSHOOT = 64 * 4096 * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        result: The result, returned or attached to the error.
        error: What `omnibase.run` raised.
        events: What was on the bus.
    """

    result: RunResult | None
    error: OmniBaseError | None
    events: tuple[Event, ...]

    @property
    def finished(self) -> RunResult:
        """The result of a run that has one."""
        assert self.result is not None, self.error
        return self.result

    @property
    def stdout(self) -> str:
        """Standard output, decoded."""
        return self.finished.stdout.decode("utf-8", "replace")

    @property
    def report(self) -> dict[str, Any]:
        """The JSON object that the script printed as its last line."""
        lines = self.stdout.splitlines()
        assert lines, (self.error, self.finished.stderr)
        report = json.loads(lines[-1])
        assert isinstance(report, dict)
        return report

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What the caller is told."""
        return self.finished.violations

    def reported(self, payload: type[Any]) -> list[Any]:
        """Payloads of one type on the bus."""
        return [event.data for event in self.events if isinstance(event.data, payload)]

    def assert_violation(
        self,
        capability: str | None = None,
        *,
        operation: str | None = None,
        evidence: str = "kernel",
    ) -> Violation:
        """Fails unless the attempt is told to the caller *and* is on the bus."""

        def wanted(item: Violation | SandboxViolation) -> bool:
            named = item.capability == capability if capability is not None else True
            return named and (operation is None or item.operation == operation)

        found = [violation for violation in self.violations if wanted(violation)]
        told = [(v.capability, v.operation, v.errno_name) for v in self.violations]
        assert found, f"{capability or operation} is not among {told}"
        assert any(wanted(event) for event in self.reported(SandboxViolation))
        assert found[0].evidence == evidence
        return found[0]

    def assert_raised(self) -> SandboxViolationError:
        """Fails unless the run ended as a violation."""
        assert isinstance(self.error, SandboxViolationError), self.error
        assert self.error.violations == self.violations
        return self.error

    def assert_clean(self) -> None:
        """Fails unless the script ended well and tried nothing beyond its grants."""
        assert self.error is None, (self.error, self.result)
        assert self.finished.exit_code == 0, self.finished.stderr
        assert self.finished.violations == ()
        assert self.finished.trace_dropped == 0
        assert self.reported(SandboxViolation) == []


class SandboxFixture:
    """``sandbox(name, caps, **quotas)`` runs ``scripts/<name>.py``."""

    def __call__(
        self,
        script: str,
        caps: Iterable[str] = (),
        *,
        args: Iterable[str] = (),
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        masks: tuple[Mask, ...] = (),
        **quotas: Any,
    ) -> Outcome:
        """Runs a script to its end.

        Args:
            script: Name of a file in `scripts/`, without its suffix.
            caps: Capabilities granted.
            args: Its arguments.
            stdin: Its standard input.
            env: Its environment.
            masks: Subtrees taken out of the granted ones.
            **quotas: Of the `ExecutionContext`.
        """
        source = (SCRIPTS / f"{script}.py").read_bytes()
        return self.source(
            source, caps, args=args, stdin=stdin, env=env, masks=masks, **quotas
        )  # fmt: skip

    def source(
        self,
        source: bytes,
        caps: Iterable[str] = (),
        *,
        args: Iterable[str] = (),
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        masks: tuple[Mask, ...] = (),
        **quotas: Any,
    ) -> Outcome:
        """Runs source code; see `__call__`."""

        def run(bus: EventBus) -> RunResult:
            options = Options(
                args=args, stdin=stdin, env=env, context=ExecutionContext(**quotas), bus=bus
            )
            call = Call(
                "script.py", source, CapabilitySet.parse(caps), options, Authority(masks=masks)
            )
            with contextlib.closing(Cancel()) as cancel:
                return call.execute(cancel)

        return observed(run)


def observed(run: Callable[[EventBus], RunResult]) -> Outcome:
    """Runs something with a bus of its own, and tells what came of it."""
    bus, sink = EventBus(), CollectingSink()
    bus.subscribe(sink)
    result: RunResult | None = None
    error: OmniBaseError | None = None
    try:
        result = run(bus)
    except OmniBaseError as raised:
        error, result = raised, getattr(raised, "result", None)
    finally:
        bus.close()
    return Outcome(result, error, sink.events)
