"""The step-time model that a scheduler plans with: it learns from every step that it predicted.

It starts from a kept profile or, without one, from the machine's limits: a prior that may be off by
a factor, which some ten steps put right. From then on the coefficients follow by recursive least
squares, and the machine's speed, which wanders by a tenth within seconds, is part of them
(`recursive`). A scheduler plans with a bound: the prediction times a margin that is exceeded as
seldom as it was asked for (`conformal`). Knows no clock and draws nothing: the same steps give the
same model.

What is learned, and what is not:

- A step of more than three times its prediction is a stall; it is counted and not learned, nor
  does it move the margin. But where stalls come several in a row, or are more than every fifth step
  of a regime, the machine has become slower. Then all coefficients are held for as uncertain as at
  the start, and steps are learned again, until the predictions fit.
- No step is too fast by accident: one that took less than predicted is always learned, with full
  weight. So an over-estimate does not last. A scheduler may avoid the steps that seem too long, but
  features are shared by steps of all sizes: the smaller ones that it plans instead come out faster
  than predicted too, and the estimate of the larger ones sinks with theirs.
- While the predictions of a regime are off by more than half on average, its margin is the largest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from operator import mul
from typing import Protocol

from headway.errors import InvalidRequest
from headway.steptime.conformal import MOST, Margin
from headway.steptime.fit import STALL
from headway.steptime.model import REGIMES, Regime, StepTimeModel, interpolated, regime
from headway.steptime.recursive import UNKNOWN_OWN, UNKNOWN_TOGETHER, RecursiveLeastSquares
from headway.steptime.shape import PRIOR, Features, ModelSizes, PeakRates, StepShape, feature_row

MISS_RATE = 0.02
SHORTEST, LONGEST = 1e-6, 86_400.0
"""Seconds between which predictions are made and steps are believed."""
OFF = 0.5
"""Mean relative error from which predictions are not relied on."""
KNOWN = 0.3
"""How far the coefficients of a kept profile may be off, together and each on its own."""
FEW = 8
"""Steps of a regime before one of it counts as a stall."""
BELIEVED = 5.0
"""Stalls in a row that are believed."""
RECENT = 256
"""Steps over which errors are told."""
TOLERABLE = 0.1
"""Share of the time of these that steps may take whose predictions are not relied on, before none
are: kinds of steps that are rare, and that nobody knows therefore, matter little."""
_FORGIVEN = 0.25
"""Of a stall, by each step of the regime that was none."""
_FARTHEST = 10.0
"""A step counts as at most so many times as slow, or fast, as predicted: one after the other they
lead anywhere, and none leads there alone."""


class StepTimes(Protocol):
    """What a scheduler asks of a model of its steps' times. Seconds are those of cycles."""

    window: int | None
    """The sliding window of the model, for `shape_of`."""

    def predict(self, shape: StepShape) -> float:
        """The expected seconds of a step: more than 0."""
        ...

    def bound(self, shape: StepShape) -> float:
        """Seconds that a step seldom exceeds."""
        ...

    def learn(self, shape: StepShape, seconds: float) -> None:
        """A step took so long, from its plan to the next one or to the end of work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeStatus:
    """How well steps of one regime are predicted."""

    steps: int
    """That were learned."""
    misses: int
    """How many of them took longer than their bound."""
    margin: float
    """What predictions are multiplied by to give bounds."""
    error: float
    """Mean relative error over some fifty steps."""
    reliable: bool
    """False where that is so large that the margin is the largest."""

    @property
    def miss_rate(self) -> float:
        return self.misses / self.steps if self.steps else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineStatus:
    """What the model has learned. Errors are |predicted / measured - 1|, stalls left out."""

    steps: int
    """That were learned."""
    stalls: int
    """That were not, because they took too long."""
    mean: float
    """Error over the last `RECENT` steps."""
    p95: float
    gain: float
    """How many times as long as in the last minutes steps like the last one take now."""
    coefficients: Features
    """How many times as long as the machine's limits allow each part of a step takes now."""
    regimes: Mapping[Regime, RegimeStatus]


class OnlineStepTimes:
    """`StepTimes` of one model on one machine.

    `coefficients` are those of a kept profile; None is the prior. Of all steps but stalls a share
    `miss_rate` (between 0 and 1) is to exceed its bound; raises `InvalidRequest` for another one.
    """

    def __init__(
        self,
        sizes: ModelSizes,
        rates: PeakRates,
        coefficients: Features | None = None,
        *,
        miss_rate: float = MISS_RATE,
    ) -> None:
        if not 0.0 < miss_rate < 1.0:
            raise InvalidRequest("miss_rate must be between 0 and 1", field="miss_rate")
        known = coefficients is not None
        self.window = sizes.window
        self._sizes = sizes
        self._rates = rates
        self._model = StepTimeModel(sizes, rates, coefficients or PRIOR)
        self._squares = RecursiveLeastSquares(
            tuple(self._model.coefficients),
            together=KNOWN if known else UNKNOWN_TOGETHER,
            own=KNOWN if known else UNKNOWN_OWN,
        )
        self._regimes = {
            name: _RegimeErrors(Margin(miss_rate), 0.2 if known else 1.0) for name in REGIMES
        }
        self._stalls = 0
        self._recent: deque[tuple[Regime, float, float]] = deque(maxlen=RECENT)
        """Steps: seconds and error."""
        self._usual = _Usual()

    def predict(self, shape: StepShape) -> float:
        return max(self._model.predict(shape), SHORTEST)

    def bound(self, shape: StepShape) -> float:
        margin = self._regimes[regime(shape)].margin
        return max(self._model.predict(shape), SHORTEST) * margin

    def learn(self, shape: StepShape, seconds: float) -> None:
        """Steps of no tokens, or of no time, as on a virtual clock, tell nothing."""
        if not (shape.tokens and seconds > 0.0):
            return
        seconds = min(seconds, LONGEST)
        predicted = self.predict(shape)
        name = regime(shape)
        known = self._regimes[name]
        if known.stalled(seconds > STALL * predicted):
            self._stalls += 1
            if known.suspicion < BELIEVED:
                return
            known.suspicion = 0.0
            self._squares.reopen()
        seconds = min(max(seconds, predicted / _FARTHEST), predicted * _FARTHEST)
        noise = known.learn(seconds / predicted)
        self._recent.append((name, seconds, abs(predicted / seconds - 1.0)))
        row = [each / seconds for each in feature_row(shape, self._sizes, self._rates)]
        self._squares.learn(row, noise, seconds)
        coefficients = self._squares.coefficients
        self._usual.learn(coefficients, row, seconds)
        self._model = StepTimeModel(self._sizes, self._rates, Features(*coefficients))

    @property
    def reliable(self) -> bool:
        """False while too much of the time goes into steps whose predictions are far off."""
        off = total = 0.0
        for name, seconds, _ in self._recent:
            total += seconds
            if not self._regimes[name].reliable:
                off += seconds
        return off <= TOLERABLE * total

    @property
    def status(self) -> OnlineStatus:
        errors = sorted(error for _, _, error in self._recent)
        return OnlineStatus(
            steps=sum(each.steps for each in self._regimes.values()),
            stalls=self._stalls,
            mean=sum(errors) / len(errors) if errors else 0.0,
            p95=interpolated(errors, 0.95) if errors else 0.0,
            gain=self._usual.gain(self._squares.coefficients),
            coefficients=self._model.coefficients,
            regimes={name: each.status() for name, each in self._regimes.items()},
        )


class _RegimeErrors:
    """What is known of the errors of one regime: their size, the margin over them, and stalls."""

    _MEMORY = 100
    _LEAST_NOISE = 0.02
    _TYPICAL = 2.5
    """Errors of up to so many standard deviations count in full."""

    def __init__(self, margin: Margin, error: float) -> None:
        self.suspicion = 0.0
        self._margin = margin
        self._error = error
        self._noise = 0.1**2

    @property
    def steps(self) -> int:
        return self._margin.steps

    @property
    def reliable(self) -> bool:
        return self._error <= OFF

    @property
    def margin(self) -> float:
        return self._margin.value if self._error <= OFF else MOST

    def stalled(self, too_long: bool) -> bool:
        """Whether a step is to count as a stall; keeps account of how many there are."""
        if too_long and self.steps >= FEW:
            self.suspicion += 1.0
            return True
        self.suspicion = max(0.0, self.suspicion - _FORGIVEN)
        return False

    def learn(self, ratio: float) -> float:
        """A step's measured over predicted time; returns the variance to learn it with.

        Too long a step counts as the noisier the longer it took: its influence is bounded (Huber).
        """
        self._margin.learn(ratio)
        off = 1.0 - 1.0 / ratio
        self._error += (abs(off) - self._error) / min(self.steps + 4, 50)
        typical = self._TYPICAL**2 * self._noise
        square = off * off
        noise = self._noise
        if off > 0.0 and square > typical and self.steps > FEW:
            noise *= (square / typical) ** 0.5
        change = (min(square, typical) - self._noise) / min(self.steps + 4, self._MEMORY)
        self._noise = max(self._noise + change, self._LEAST_NOISE**2)
        return noise

    def status(self) -> RegimeStatus:
        return RegimeStatus(
            steps=self.steps,
            misses=self._margin.misses,
            margin=self.margin,
            error=self._error,
            reliable=self.reliable,
        )


class _Usual:
    """The coefficients as they were on average over some minutes of work."""

    _SECONDS = 300.0

    def __init__(self) -> None:
        self._coefficients: list[float] = []
        self._row: list[float] = []
        self._seconds = 0.0

    def learn(self, coefficients: list[float], row: list[float], seconds: float) -> None:
        self._seconds = min(self._seconds + seconds, self._SECONDS)
        share = min(seconds / self._seconds, 1.0)
        self._row = row
        self._coefficients = [
            old + share * (new - old)
            for old, new in zip(self._coefficients or coefficients, coefficients, strict=True)
        ]

    def gain(self, coefficients: list[float]) -> float:
        usual = sum(map(mul, self._row, self._coefficients))
        return sum(map(mul, self._row, coefficients)) / usual if usual > 0.0 else 1.0


def step_times_of(sizes: ModelSizes, rates: PeakRates | None) -> OnlineStepTimes | None:
    """The model of an engine that starts; None where nothing is known of its machine."""
    return None if rates is None else OnlineStepTimes(sizes, rates)
