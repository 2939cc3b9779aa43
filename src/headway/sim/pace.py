"""How long simulated steps take: the step-time model, with the scatter that was measured around it.

One random number is drawn for every step, whether it was stepped or skipped, so that both ways give
the same times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from headway.latency.model import StepTimeModel, regime
from headway.latency.residuals import Residuals
from headway.latency.shape import StepShape


class Pace:
    """Durations in seconds; without `random` exactly those that the model predicts."""

    def __init__(self, model: StepTimeModel, residuals: Residuals, random: Random | None) -> None:
        self.model = model
        self._residuals = residuals
        self._random = random

    def step(self, shape: StepShape) -> float:
        """One step's duration."""
        seconds = self.model.predict(shape)
        if self._random is None:
            return seconds
        return seconds * self._residuals.draw(self._random, regime(shape))

    def decodes(
        self, shape: StepShape, steps: int, *, near_growth: int, expected: float
    ) -> Iterator[float]:
        """Durations of steps that all decode the same sequences, the first of them `shape`.

        `near_growth` of the contexts are still within the model's sliding window, where they stay.
        After about `expected` seconds the caller will stop asking.
        """
        ahead = 1
        while steps > 0:
            ahead = min(steps, ahead)
            predicted = self._predict(shape, ahead, near_growth)
            for seconds in predicted:
                expected -= seconds
                if self._random is None:
                    yield seconds
                else:
                    yield seconds * self._residuals.draw(self._random, "decode")
            steps -= ahead
            if steps:
                shape = later(shape, ahead, near_growth)
            ahead = int(max(0.0, min(expected / predicted[-1], steps))) + 1

    def _predict(self, shape: StepShape, steps: int, near_growth: int) -> list[float]:
        if near_growth in (0, shape.decodes):
            return self.model.predict_decodes(shape, steps)
        return [self.model.predict(later(shape, step, near_growth)) for step in range(steps)]


def later(shape: StepShape, steps: int, near_growth: int) -> StepShape:
    """The shape so many decode steps later: every context is a token longer with each of them."""
    if not steps:
        return shape
    return replace(
        shape,
        decode_context=shape.decode_context + steps * shape.decodes,
        decode_context_window=shape.decode_context_window + steps * near_growth,
    )
