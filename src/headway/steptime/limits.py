"""The least time of steps at the machine's peak rates, which rise where steps prove them too low.

Peak rates are measured in some tenths of a second, perhaps beside other work, and may come out too
low. Steps that were computed faster than the rates allow are a measurement too, and a better one:
over enough of them, the FLOPs and bytes that they needed over the time they took are rates that the
machine has reached.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace

from headway.logs import line
from headway.steptime.shape import ModelSizes, PeakRates, shape_of, work_of
from headway.types import Slice

STEPS = 64
"""Steps whose time proves a rate; few enough to be alike, too many for one odd reading."""
WORTH_KEEPING = 1.01
"""By so much a rate must have risen since `on_raised` was told."""

logger = logging.getLogger(__name__)


class StepLimit:
    """Call it with a step's slices for the least seconds; then tell it how long the step `took`.

    `on_raised` is told of rates that turned out to be too low, with the better ones.
    """

    def __init__(
        self,
        sizes: ModelSizes,
        rates: PeakRates,
        *,
        on_raised: Callable[[PeakRates], None] | None = None,
    ) -> None:
        self.rates = rates
        self._sizes = sizes
        self._on_raised = on_raised
        self._told = rates
        self._work = (0.0, 0.0)
        self._steps = 0
        self._flops = self._read = self._seconds = 0.0

    def __call__(self, slices: Collection[Slice]) -> float:
        sizes, rates = self._sizes, self.rates
        flops, read = self._work = work_of(shape_of(slices, sizes.window), sizes)
        return max(flops / rates.flops_per_second, read / rates.bandwidth)

    def took(self, seconds: float) -> None:
        """The step that was asked about last took so long, from its plan to the next."""
        flops, read = self._work
        self._flops += flops
        self._read += read
        self._seconds += seconds
        self._steps += 1
        if self._steps == STEPS:
            if self._seconds > 0:
                self._learn(self._flops / self._seconds, self._read / self._seconds)
            self._steps = 0
            self._flops = self._read = self._seconds = 0.0

    def _learn(self, flops_per_second: float, bandwidth: float) -> None:
        """Rates that were reached."""
        old = self.rates
        if flops_per_second <= old.flops_per_second and bandwidth <= old.bandwidth:
            return
        self.rates = best_of(
            old, replace(old, flops_per_second=flops_per_second, bandwidth=bandwidth)
        )
        risen = max(
            self.rates.flops_per_second / self._told.flops_per_second,
            self.rates.bandwidth / self._told.bandwidth,
        )
        if self._on_raised is not None and risen >= WORTH_KEEPING:
            self._told = self.rates
            logger.info(
                line(
                    "peak_rates_exceeded",
                    flops_per_second=self.rates.flops_per_second,
                    bandwidth=self.rates.bandwidth,
                )
            )
            self._on_raised(self.rates)


def best_of(one: PeakRates, other: PeakRates) -> PeakRates:
    """The higher of both rates: whatever disturbs a measurement can only make it lower."""
    return replace(
        one,
        flops_per_second=max(one.flops_per_second, other.flops_per_second),
        bandwidth=max(one.bandwidth, other.bandwidth),
    )
