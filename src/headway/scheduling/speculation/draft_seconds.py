"""How much longer a step takes by its drafts: by the step-time model, and by what steps took.

The model knows what further tokens cost by the machine's limits, and learns from all steps. But
steps with drafts are few at first and of a kind of their own: their further rows may fall between
the sizes that kernels are good at, and what a grammar allows is found out for each of them on a
processor's own time. So what such steps took beyond those without is compared with what the model
had said, by the number of sequences and by whether grammars were among them, and later predictions
are multiplied by the ratio.
"""

from __future__ import annotations

from typing import NamedTuple

from headway.steptime.fit import STALL
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape

LEAST_SHARE = 0.005
"""Of the seconds of a step of the decodes alone: no draft is predicted to cost less, for a model
may see none of it."""
FEWEST, MOST = 0.2, 32.0
"""The ratio's bounds."""
MEMORY = 32
"""Steps that the ratio is a mean of."""
BELIEVED = 2.0
"""So many steps count the model's own predictions, at first."""


class StepClass(NamedTuple):
    """Steps of one class cost alike more, or less, than the model says."""

    size: int
    """Of the number of sequences that decode: its bits."""
    constrained: bool
    """Whether a grammar is among those with drafts."""


def step_class(decodes: int, *, constrained: bool) -> StepClass:
    """The class of a step."""
    return StepClass(decodes.bit_length(), constrained)


class _Ratio:
    """Measured over predicted seconds of drafts."""

    __slots__ = ("measured", "predicted")

    def __init__(self, predicted: float) -> None:
        self.measured = self.predicted = BELIEVED * predicted

    def learn(self, measured: float, predicted: float) -> None:
        kept = 1.0 - 1.0 / MEMORY
        self.measured = self.measured * kept + measured
        self.predicted = self.predicted * kept + predicted

    @property
    def value(self) -> float:
        return min(max(self.measured / self.predicted, FEWEST), MOST)


class DraftSeconds:
    """Seconds of steps with and without drafts; `times` is what predicts steps."""

    def __init__(self, times: StepTimes) -> None:
        self.times = times
        self._ratios: dict[StepClass, _Ratio] = {}
        self._plain: dict[int, float] = {}
        """By the size of a class: measured over predicted seconds of its steps without drafts."""

    def plain(self, shape: StepShape) -> float:
        """Seconds that a step without drafts is expected to take."""
        return self.times.predict(shape)

    def further(
        self, plain: float, shape: StepShape, drafts: int, kind: StepClass, *, alone: float
    ) -> float:
        """Seconds that a step takes beyond the `plain` ones of it without its drafts, which are so
        many; `shape` is the one with them. Its decodes `alone` would take so long."""
        said = self._said(plain, shape, LEAST_SHARE * drafts * alone)
        ratio = self._ratios.get(kind)
        return said if ratio is None else said * ratio.value

    def learn(
        self, plain: float, shape: StepShape, drafts: int, kind: StepClass, seconds: float
    ) -> None:
        """A step of nothing but decodes took so long; see `further`. Of a stall, only as much is
        learned as a step may be wrong about: one tells little, and many are no stalls."""
        if seconds <= 0.0:
            return
        usual = self._plain.get(kind.size, 1.0)
        if not drafts:
            took = min(seconds / plain, STALL)
            self._plain[kind.size] = usual + (took - usual) / MEMORY
            return
        said = self._said(plain, shape, LEAST_SHARE * drafts * plain)
        ratio = self._ratios.get(kind)
        if ratio is None:
            ratio = self._ratios[kind] = _Ratio(said)
        most = STALL * (usual * plain + said * max(ratio.value, 1.0))
        ratio.learn(min(seconds, most) - usual * plain, said)

    def _said(self, plain: float, shape: StepShape, least: float) -> float:
        return max(self.times.predict(shape) - plain, least)
