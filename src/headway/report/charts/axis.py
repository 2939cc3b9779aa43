"""Where a value stands on an axis, and which round values are written beside it.

Places are shares of the axis' length, 0 to 1, so that a drawing can have any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

_MOST_POWERS = 6

Write = Callable[[float], str]


class Tick(NamedTuple):
    """A value that is written: where, and how."""

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """From `low` to `high`; a logarithmic one has `low` above 0."""

    low: float
    high: float
    log: bool
    label: str
    ticks: tuple[Tick, ...] = ()

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`; values outside are put at the nearer end."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))


def axis_of(
    values: Iterable[float], *, label: str, write: Write, log_from: float = math.inf, steps: int = 5
) -> Axis:
    """An axis that shows all values: from 0, or by powers where they span `log_from` times.

    Values that are not above 0 keep an axis linear. Without any values it runs from 0 to 1.
    """
    found = [value for value in values if math.isfinite(value)]
    low, high = min(found, default=0.0), max(found, default=1.0)
    if low > 0 and high / low >= log_from:
        return _powers(low, high, label, write)
    return linear(high if high > 0 else 1.0, label=label, write=write, steps=steps)


def linear(high: float, *, label: str, write: Write, steps: int = 5, exact: bool = False) -> Axis:
    """From 0 to a round value at or above `high` (which is above 0), or to `high` itself."""
    step = _round_step(high / steps)
    count = math.floor(high / step + 1e-9) if exact else math.ceil(high / step - 1e-9)
    top = high if exact else step * count
    ticks = tuple(Tick(step * mark / top, write(step * mark)) for mark in range(count + 1))
    return Axis(low=0.0, high=top, log=False, label=label, ticks=ticks)


def _round_step(step: float) -> float:
    """The first of 1, 2, 2.5, 5, 10 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= step * (1 - 1e-9))


def _powers(low: float, high: float, label: str, write: Write) -> Axis:
    """Between values of 1, 2 and 5 times powers of ten, as many of them written as fit."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    values = [mark * 10.0**exponent for exponent in exponents for mark in (1, 2, 5)]
    below = max(value for value in values if value <= low * (1 + 1e-9))
    above = min(value for value in values if value >= high * (1 - 1e-9))
    span = math.log(above / below)
    kept = [value for value in values if below <= value <= above]
    if len(kept) > _MOST_POWERS:
        kept = [value for value in kept if value in values[::3]]
    kept = kept[:: -(-len(kept) // _MOST_POWERS)]
    ticks = tuple(Tick(math.log(value / below) / span, write(value)) for value in kept)
    return Axis(low=below, high=above, log=True, label=label, ticks=ticks)
