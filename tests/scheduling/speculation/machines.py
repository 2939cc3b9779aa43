"""Machines whose steps take a known time, and what believes to know it."""

from __future__ import annotations

from collections.abc import Callable

from headway.steptime.shape import StepShape


def seconds_of(tokens: int) -> float:
    """A step of so many tokens: reading weights hides some of them, then each costs its own."""
    return 2e-3 + 1e-4 * tokens + 3e-4 * max(0, tokens - 6)


class KnownTimes:
    """`StepTimes` by the number of tokens; learns nothing."""

    def __init__(
        self, seconds: Callable[[int], float] = seconds_of, *, margin: float = 1.2
    ) -> None:
        self.window: int | None = None
        self._seconds = seconds
        self._margin = margin
        self.learned: list[tuple[StepShape, float]] = []

    def predict(self, shape: StepShape) -> float:
        return self._seconds(shape.tokens)

    def bound(self, shape: StepShape) -> float:
        return self.predict(shape) * self._margin

    def learn(self, shape: StepShape, seconds: float) -> None:
        self.learned.append((shape, seconds))


class Believed(KnownTimes):
    """What a step's further tokens cost is off by a factor."""

    def __init__(self, factor: float, seconds: Callable[[int], float] = seconds_of) -> None:
        super().__init__(seconds)
        self._factor = factor

    def predict(self, shape: StepShape) -> float:
        plain = self._seconds(shape.sequences)
        return plain + self._factor * (self._seconds(shape.tokens) - plain)
