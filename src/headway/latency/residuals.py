"""How far steps stray from the model: measured over predicted time, as it was seen, by regime.

A simulator that draws from these has the spread of a real machine, but for its stalls, and in the
long run its total time. Kept as quantiles, since their shape is anything but normal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.latency.model import REGIMES, Regime

POINTS = 129
"""Quantiles that are kept of a regime, evenly spaced from the least to the most."""
_FEW = 8


class Uniform(Protocol):
    """A source of numbers in [0, 1), such as `random.Random`."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """Quantiles of measured/predicted by regime; an empty regime strays nowhere."""

    decode: tuple[float, ...] = ()
    mixed: tuple[float, ...] = ()
    prefill: tuple[float, ...] = ()

    def of(self, regime: Regime) -> tuple[float, ...]:
        points: tuple[float, ...] = getattr(self, regime)
        return points

    def draw(self, random: Uniform, regime: Regime) -> float:
        """A factor on a predicted time, distributed as those that were seen."""
        points = self.of(regime)
        if not points:
            return 1.0
        place = random.random() * (len(points) - 1)
        below = int(place)
        low = points[below]
        return low + (points[below + 1] - low) * (place - below)

    def quantile(self, regime: Regime, share: float) -> float:
        """The factor that this share (0 to 1) of all draws does not exceed."""
        points = self.of(regime)
        return interpolated(points, share) if points else 1.0


def residuals_of(seen: Iterable[tuple[Regime, float, float]]) -> Residuals:
    """From (regime, measured seconds, predicted seconds) of many steps.

    A regime's factors are scaled so that their mean is its measured over its predicted total time.
    A regime of which little was seen borrows from all steps.
    """
    steps = list(seen)
    if not steps:
        return Residuals()
    everything = _quantiles(steps)
    found: dict[Regime, tuple[float, ...]] = {}
    for regime in REGIMES:
        own = [step for step in steps if step[0] == regime]
        found[regime] = _quantiles(own) if len(own) >= _FEW else everything
    return Residuals(decode=found["decode"], mixed=found["mixed"], prefill=found["prefill"])


def interpolated(ascending: Sequence[float], share: float) -> float:
    """The quantile of ascending values, with linear interpolation between neighbours."""
    place = share * (len(ascending) - 1)
    below = min(int(place), len(ascending) - 1)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


def _quantiles(steps: Sequence[tuple[Regime, float, float]]) -> tuple[float, ...]:
    ratios = sorted(measured / predicted for _, measured, predicted in steps)
    points = [interpolated(ratios, n / (POINTS - 1)) for n in range(POINTS)]
    # A draw runs evenly along the lines between points, so this is the mean of draws.
    mean = (sum(points) - (points[0] + points[-1]) / 2) / (POINTS - 1)
    total = sum(step[1] for step in steps) / sum(step[2] for step in steps)
    return tuple(point * total / mean for point in points)
