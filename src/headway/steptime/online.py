"""What plans steps by their times: predictions that learn from every step."""

from __future__ import annotations

from typing import Protocol

from headway.steptime.shape import StepShape


class StepTimes(Protocol):
    """Predicts the seconds of a cycle, from one plan to the next, and learns from each."""

    @property
    def window(self) -> int | None:
        """The model's sliding window, for `shape_of`; None if it has none."""
        ...

    def predict(self, shape: StepShape) -> float:
        """The seconds that are expected."""
        ...

    def bound(self, shape: StepShape) -> float:
        """Seconds that nearly every such cycle keeps."""
        ...

    def learn(self, shape: StepShape, seconds: float) -> None:
        """A cycle with this step is over."""
        ...
