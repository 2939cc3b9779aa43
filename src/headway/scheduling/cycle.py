"""Cycles: how long each step took in truth, told to whatever predicts steps.

A cycle lasts from one plan to the next, so it holds all that a sequence waits for between two
tokens: computing, and the engine's own share. The last one before the end of work has no end that
says anything, and is not told.
"""

from __future__ import annotations

from collections.abc import Collection

from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape, step_shape
from headway.types import Slice


class Cycle:
    """The step under way. Without `step_times` nobody is told."""

    def __init__(self, step_times: StepTimes | None) -> None:
        self.step_times = step_times
        self._shape: StepShape | None = None
        self._began = 0.0

    def begin(
        self, decodes: Collection[int], others: Collection[Slice], now: float, *, apart: float = 0.0
    ) -> None:
        """A step was planned `now`: decodes of sequences with so many tokens computed, and slices
        of other kinds. So many seconds of its cycle are `apart`: no part of the step."""
        if self.step_times is not None:
            self._shape = step_shape(decodes, others, self.step_times.window)
            self._began = now + apart

    def end(self, now: float) -> float | None:
        """The next plan begins: seconds of the step, which are told; None where nobody is told."""
        if self.step_times is None or self._shape is None:
            return None
        seconds = now - self._began
        self.step_times.learn(self._shape, seconds)
        self._shape = None
        return seconds

    def forget(self) -> None:
        """There is no more work: until the next plan, time passes that no step took."""
        self._shape = None
