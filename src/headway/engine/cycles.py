"""How long the engine was busy, and how long its steps would have taken at the machine's limits.

A cycle lasts from one plan to the next, or to the end of work: what a step costs in truth, with the
engine's own share. The two sums together say how much of the machine is used; waiting counts in
neither.
"""

from __future__ import annotations

from collections.abc import Callable

from headway.types import StepPlan


class Cycles:
    """Sums over all cycles that have ended, in seconds; `ideal` foretells a plan's least time."""

    def __init__(self, ideal: Callable[[StepPlan], float] | None = None) -> None:
        self.busy = 0.0
        self.ideal = 0.0
        """0 where the machine's limits are not known."""
        self._ideal_of = ideal
        self._began: float | None = None
        self._least = 0.0

    def begin(self, plan: StepPlan, now: float) -> None:
        """A step was planned `now`, which ends the cycle before it."""
        self.end(now)
        self._began = now
        self._least = self._ideal_of(plan) if self._ideal_of is not None else 0.0

    def end(self, now: float) -> None:
        """There is nothing more to compute; harmless where that was known."""
        if self._began is not None:
            self.busy += now - self._began
            self.ideal += self._least
            self._began = None
