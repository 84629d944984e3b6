"""Sampling in turns, percentiles, and how much of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Scale = Literal["full", "quick", "smoke"]
"""For the page, for two minutes, and for a test that it works at all."""
_T = TypeVar("_T")


def pick(scale: Scale, full: _T, quick: _T, smoke: _T) -> _T:
    """Returns the value for a scale."""
    return {"full": full, "quick": quick, "smoke": smoke}[scale]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Durations of one thing, in seconds."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the samples took no longer."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The 95th percentile, by nearest rank."""
        return percentile(self.seconds, 95)

    @property
    def p99(self) -> float:
        """The 99th percentile, by nearest rank."""
        return percentile(self.seconds, 99)


def percentile(values: Sequence[float], percent: int) -> float:
    """Returns a percentile, by nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, min(len(ranked) - 1, -(-percent * len(ranked) // 100) - 1))]


def in_turns(
    subjects: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2
) -> dict[str, Sample]:
    """Runs all subjects round by round, so that drift of the machine hits each alike."""
    for _ in range(warm_up):
        for call in subjects.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, call in subjects.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: Sample(name=name, seconds=tuple(values)) for name, values in taken.items()}
