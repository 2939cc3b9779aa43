"""A Prometheus histogram that costs next to nothing while nobody looks at it.

`prometheus_client` takes locks and walks through the buckets for every value. All of ours come on
one event loop, many of them with every step, and most values of a step are equal: its sequences get
their tokens at the same time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client import Histogram
from prometheus_client.samples import Sample


class CountedHistogram(Histogram):
    """As `prometheus_client`'s, which has the counts from when they are collected.

    For one thread; there are no locks.
    """

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:  # noqa: ARG002
        """Observe an amount. There are no exemplars."""
        self.observe_equal(amount, 1)

    def observe_equal(self, amount: float, count: int) -> None:
        """Observe the same amount so many times."""
        self._counts[bisect_left(self._upper_bounds, amount)] += count
        self._total += amount * count

    def _metric_init(self) -> None:
        super()._metric_init()
        self._counts = [0] * len(self._upper_bounds)
        """Of each bucket, since the last collection."""
        self._total = 0.0

    def _child_samples(self) -> Iterable[Sample]:
        for bucket, count in zip(self._buckets, self._counts, strict=True):
            bucket.inc(count)
        self._sum.inc(self._total)
        self._counts = [0] * len(self._upper_bounds)
        self._total = 0.0
        return super()._child_samples()
