"""Bounds of questions: what is not decided within them is not decided."""

from __future__ import annotations

__all__ = ["MAX_STEPS", "Meter", "Undecided"]

MAX_STEPS = 60_000
"""Transitions or evaluations that one question may take (some 0.3 s) before it is given up."""


class Undecided(Exception):
    """A question is too complex to be answered within the bound."""


class Meter:
    """Counts steps, for one question or for several together."""

    def __init__(self, left: int = MAX_STEPS, whole: Meter | None = None) -> None:
        self.left, self.whole = left, whole

    def spend(self, steps: int) -> None:
        """Takes steps off; raises `Undecided` if there are none left."""
        self.left -= steps
        if self.left < 0:
            raise Undecided("it is too complex to be decided within the bound")
        if self.whole is not None:
            self.whole.spend(steps)
