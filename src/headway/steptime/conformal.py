"""A margin on predictions that is exceeded as seldom as wanted, whatever the errors look like.

Adaptive conformal inference (Gibbs and Candès, 2021) on the ratio of measured to predicted: after a
miss the margin rises by a step, else it falls by so much less that the two balance at the wanted
share of misses. No distribution is assumed, and after a change of the errors the margin finds its
place again. The unit of all this is the ratios' mean deviation from 1, which is followed too, so
that a machine that proves steady is not planned for as a restless one.
"""

from __future__ import annotations

LEAST, MOST = 1.0, 1.5
"""A margin's bounds. With a larger one a scheduler would leave the machine idle for a few steps'
sake; where this one does not suffice the prediction is wrong, and no margin can mend it."""
_START = 3.0
"""Deviations that the margin lies above 1 at first."""
_STEP = 0.5
"""Deviations by which a miss raises it."""
_MEMORY = 200
"""Steps over which deviations are averaged, about."""
_LEAST_DEVIATION = 1e-3
"""So that a simulated machine without noise leaves the margin something to move by."""


class Margin:
    """A factor on predictions that a share `target` (0 to 1) of all measured values exceeds."""

    __slots__ = ("_deviation", "_reach", "misses", "steps", "target", "value")

    def __init__(self, target: float) -> None:
        self.target = target
        self.steps = 0
        self.misses = 0
        """How many of these steps took longer than the prediction times the margin."""
        self._deviation = 0.1
        self._reach = _START
        """How many deviations the margin lies above 1."""
        self.value = 1.0 + self._reach * self._deviation

    def learn(self, ratio: float) -> None:
        """A step that was predicted before it was measured: measured over predicted."""
        self.steps += 1
        missed = ratio > self.value
        self.misses += missed
        off = min(max(abs(ratio - 1.0), _LEAST_DEVIATION), MOST - LEAST)
        self._deviation += (off - self._deviation) / min(self.steps + 8, _MEMORY)
        most = (MOST - LEAST) / self._deviation
        self._reach = min(max(self._reach + _STEP * (missed - self.target), 0.0), most)
        self.value = min(LEAST + self._reach * self._deviation, MOST)
