"""A Prometheus histogram in which equal values are counted together.

All sequences of a step get their tokens at the same time, so most of a step's values are equal, and
to observe each by itself costs a lock or two a token.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client import Histogram


class CountedHistogram(Histogram):
    """As `prometheus_client`'s, whose counts it keeps them in."""

    def observe_equal(self, amount: float, count: int) -> None:
        """Observe the same amount so many times."""
        self._sum.inc(amount * count)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(count)
