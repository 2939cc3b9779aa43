"""The step-time model: coefficients over the features, and the scatter of real steps around it.

Predicting is on the path of every simulated step, so all that depends on model and machine alone is
multiplied out beforehand. A decode step's time grows with its contexts by a constant slope, by
which a run of them is predicted at once. Residuals are measured over predicted time, kept as
quantiles for each regime since their distribution is anything but normal; a simulator that draws
from them has the spread of a real machine, but for its stalls, and in the long run its total time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from headway.steptime.shape import (
    FIXED,
    PER_SEQUENCE,
    PRIOR,
    Features,
    ModelSizes,
    PeakRates,
    StepShape,
    roofline_seconds,
    weights_read,
)

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


Regime = Literal["decode", "mixed", "prefill"]
REGIMES: tuple[Regime, ...] = ("decode", "mixed", "prefill")


def regime(shape: StepShape) -> Regime:
    """Whether a step decodes only, computes prompts only, or both."""
    if shape.decodes == shape.sequences:
        return "decode"
    return "mixed" if shape.decodes else "prefill"


class StepTimeModel:
    """Predicts the seconds of steps of one model on one machine. Immutable."""

    def __init__(
        self,
        sizes: ModelSizes,
        machine: PeakRates,
        coefficients: Features = PRIOR,
    ) -> None:
        self.sizes = sizes
        self.machine = machine
        self.coefficients = coefficients
        c, rate, bandwidth = coefficients, machine.flops_per_second, machine.bandwidth
        self._fixed = c.fixed * FIXED
        self._sequence = c.sequences * PER_SEQUENCE
        self._token = sizes.flops_per_token / rate
        self._row = sizes.lm_head_flops / rate
        self._weights = sizes.layer_bytes / bandwidth
        self._row_weights = sizes.lm_head_bytes / bandwidth
        self._few_experts = sizes.expert_bytes > 0.0
        position, pair = (
            sizes.kv_bytes_per_position / bandwidth,
            sizes.attention_flops_per_pair / rate,
        )
        full, near = sizes.full_layers, sizes.window_layers
        self._decode_slope = c.decode_cache * position * full
        self._decode_slope_near = c.decode_cache * position * near
        self._pair = c.prefill_attention * pair * full
        self._pair_near = c.prefill_attention * pair * near
        self._prefill = c.prefill_cache * position * full
        self._prefill_near = c.prefill_cache * position * near

    def predict(self, shape: StepShape) -> float:
        """Seconds of a cycle with this step."""
        return self._without_decode_contexts(shape) + self._decode_contexts(
            shape.decode_context, shape.decode_context_window
        )

    def predict_decodes(self, shape: StepShape, steps: int) -> list[float]:
        """Seconds of `steps` decode steps in a row, of which `shape` is the first.

        Every context grows by one token a step, and the results are the very ones of `predict`.
        Only where the model has a sliding window and some sequence reaches its end within these
        steps are they a little high.
        """
        base = self._without_decode_contexts(shape)
        context, near, grow = shape.decode_context, shape.decode_context_window, shape.decodes
        if self._decode_slope_near == 0.0:
            slope, nothing = self._decode_slope, 0.0 * near
            return [base + (slope * (context + n * grow) + nothing) for n in range(steps)]
        most = grow * (self.sizes.window or 0)
        return [
            base + self._decode_contexts(context + n * grow, min(near + n * grow, most))
            for n in range(steps)
        ]

    def ideal(self, shape: StepShape) -> float:
        """Seconds that the machine's limits allow at best."""
        return roofline_seconds(shape, self.sizes, self.machine)

    def _decode_contexts(self, context: int, near: int) -> float:
        return self._decode_slope * context + self._decode_slope_near * near

    def _without_decode_contexts(self, shape: StepShape) -> float:
        c, tokens, rows = self.coefficients, shape.tokens, shape.rows
        compute, lm_head = tokens * self._token, rows * self._row
        seconds = (
            self._fixed
            + shape.sequences * self._sequence
            + c.compute * compute
            + c.lm_head * lm_head
        )
        weights = self._weights
        if self._few_experts:
            weights = weights_read(tokens, self.sizes) / self.machine.bandwidth
        seconds += self._exposed(weights, compute)
        if rows:
            seconds += self._exposed(self._row_weights, lm_head)
        prefills = tokens - shape.decodes
        if prefills:
            seconds += (
                self._pair * shape.prefill_pairs
                + self._pair_near * shape.prefill_pairs_window
                + self._prefill * shape.prefill_context
                + self._prefill_near * shape.prefill_context_window
                + c.mixed * self._token * min(shape.decodes, prefills)
            )
        return seconds

    def _exposed(self, memory: float, compute: float) -> float:
        """Seconds of memory time that so much compute time does not hide."""
        c = self.coefficients
        if memory <= compute:
            return 0.0
        seconds = c.memory * (memory - compute)
        if memory > 2 * compute:
            seconds += c.memory_half_rate * (memory - 2 * compute)
        return seconds
