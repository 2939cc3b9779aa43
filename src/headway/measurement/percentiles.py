"""Percentiles with linear interpolation between neighbours, as numpy's default has them.

Of a list of values, or of values counted: a simulation of a hundred thousand requests has too many
inter-token times to keep. Infinite values are allowed: a request that never ended took forever.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Distribution:
    """Sorted values, each with how many values up to and including it there are."""

    values: Sequence[float]
    totals: Sequence[int]

    @property
    def count(self) -> int:
        return self.totals[-1] if self.totals else 0

    @property
    def mean(self) -> float:
        """Of at least one value."""
        return math.fsum(value * n for value, n in self._counted()) / self.count

    @property
    def deviation(self) -> float:
        """Standard deviation of the values themselves, not of a population behind them."""
        mean = self.mean
        squares = math.fsum((value - mean) ** 2 * n for value, n in self._counted())
        return math.sqrt(squares / self.count)

    def percentile(self, p: float) -> float:
        """Of at least one value; `p` is from 0 to 100."""
        if not 0 <= p <= 100:
            raise ValueError(f"percentiles are from 0 to 100, not {p}")
        if not self.count:
            raise ValueError("no values to take a percentile of")
        place = (self.count - 1) * p / 100
        below = math.floor(place)
        low = self.values[bisect_right(self.totals, below)]
        high = self.values[bisect_right(self.totals, min(below + 1, self.count - 1))]
        # Equal neighbours may be infinite, and infinity less itself is no number.
        return low if low == high or place == below else low + (high - low) * (place - below)

    def _counted(self) -> Iterable[tuple[float, int]]:
        before = 0
        for value, total in zip(self.values, self.totals, strict=True):
            yield value, total - before
            before = total


def of_values(values: Iterable[float]) -> Distribution:
    """Each value counts once."""
    ordered = sorted(values)
    return Distribution(ordered, range(1, len(ordered) + 1))


def of_counts(counts: Mapping[int, int] | Mapping[float, int]) -> Distribution:
    """Values and how often each occurs."""
    ordered = sorted((value, n) for value, n in counts.items() if n > 0)
    return Distribution([value for value, _ in ordered], [*accumulate(n for _, n in ordered)])


def percentile(values: Iterable[float], p: float) -> float:
    """The `p`th percentile, 0 to 100; raises `ValueError` where there are no values."""
    return of_values(values).percentile(p)


def weighted_percentile(counts: Mapping[int, int] | Mapping[float, int], p: float) -> float:
    """The `p`th percentile of values that occur so many times; `ValueError` if there are none."""
    return of_counts(counts).percentile(p)
