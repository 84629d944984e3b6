"""Counting violations: the first of each kind at once, the rest as numbers.

Bounded in both directions: a guest that repeats itself costs a counter, one
that never repeats itself costs `MAX_DISTINCT` rows and then a counter too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from omnibase.core.sandbox.monitor.attempts import Attempt, Evidence, Violation

__all__ = ["MAX_DISTINCT", "Ledger"]

MAX_DISTINCT: Final = 256


class Ledger:
    """Violations of one run, in order of first sight.

    Args:
        scrub: Takes secret values out of what the script chose.
    """

    def __init__(self, scrub: Callable[[str], str] = str) -> None:
        self._scrub = scrub
        self._rows: dict[tuple[str | None, str, str, int], Violation] = {}
        self._repeats: dict[tuple[str | None, str, str, int], tuple[int, float]] = {}
        self.overflow = 0

    def add(self, attempt: Attempt, now: float, evidence: Evidence = "kernel") -> Violation | None:
        """Records an attempt; returns a violation if it is the first of its kind."""
        resource = self._scrub(attempt.resource)
        capability = None if attempt.capability is None else self._scrub(attempt.capability)
        if capability and capability == attempt.capability and resource != attempt.resource:
            # A name that was taken out of the path, as a command's is, may be a part of a value.
            kind = capability.partition(":")[0]
            capability = f"{kind}:{posixpath.basename(resource)}"
        attempt = replace(
            attempt,
            capability=capability,
            resource=resource,
            process_name=self._scrub(attempt.process_name),
        )
        key = attempt.key
        if key in self._rows:
            self.repeat(key, now)
            return None
        if len(self._rows) >= MAX_DISTINCT:
            self.overflow += 1
            return None
        violation = Violation(
            capability=attempt.capability,
            operation=attempt.operation,
            resource=attempt.resource,
            errno=attempt.errno,
            pid=attempt.pid,
            process_name=attempt.process_name,
            first_seen=now,
            last_seen=now,
            evidence=evidence,
            reason=attempt.reason,
        )
        self._rows[key] = violation
        return violation

    def repeat(self, key: tuple[str | None, str, str, int], now: float) -> None:
        """Counts one more of a kind that is known."""
        count, _ = self._repeats.get(key, (0, now))
        self._repeats[key] = (count + 1, now)

    def violations(self) -> tuple[Violation, ...]:
        """All kinds, with their counts."""
        result = []
        for key, row in self._rows.items():
            count, last = self._repeats.get(key, (0, row.last_seen))
            result.append(replace(row, count=1 + count, last_seen=last) if count else row)
        return tuple(result)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)
