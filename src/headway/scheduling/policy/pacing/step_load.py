"""A step under construction: what is in it so far, and what more it may take within its time."""

from __future__ import annotations

from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape


class StepLoad:
    """Counts what sequences add to a step, beginning with `shape`, and predicts its seconds."""

    __slots__ = ("_times", "_window", "shape")

    def __init__(self, times: StepTimes, shape: StepShape) -> None:
        self._times = times
        self._window = times.window
        self.shape = shape

    def prefill(self, start: int, count: int, *, ends: bool) -> None:
        """Some sequence computes `count` tokens from position `start`; `ends`: its last known."""
        self.shape = self.shape.with_slice(start, count, ends, self._window)

    @property
    def tokens(self) -> int:
        """New tokens."""
        return self.shape.tokens

    @property
    def seconds(self) -> float:
        """What the step is expected to take."""
        return self._times.predict(self.shape)

    @property
    def bound(self) -> float:
        """What it nearly certainly does not exceed."""
        return self._times.bound(self.shape)

    def with_prefill(self, start: int, count: int, *, ends: bool = True) -> StepLoad:
        """This load and a prefill."""
        return StepLoad(self._times, self.shape.with_slice(start, count, ends, self._window))

    def largest_chunk(self, start: int, todo: int, most: int, budget: float) -> int:
        """The most tokens, up to `todo` and `most`, of a prefill from `start` that keep the budget
        of seconds; 0 where none does."""
        high = min(todo, most)
        if high < 1:
            return 0
        if self.with_prefill(start, high, ends=high == todo).bound <= budget:
            return high
        low = 0
        while high - low > max(1, low // 32):  # a few per cent are as good as a token
            middle = (low + high) // 2
            if self.with_prefill(start, middle, ends=False).bound <= budget:
                low = middle
            else:
                high = middle
        return low
