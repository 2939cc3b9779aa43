"""Fits a step-time model to measured cycles: non-negative, relative, robust, and in plain Python.

Errors are relative, so that a short step counts as much as a long one. Coefficients are drawn
slightly towards their prior, scaled to the data, which decides what these leave open (a workload
without prefills says nothing about them). Steps that took several times as long as predicted are
stalls: a neighbour on the core, a page from disk. They are counted and not learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headway.errors import InvalidRequest
from headway.steptime.model import StepTimeModel, interpolated
from headway.steptime.shape import PRIOR, Features, ModelSizes, PeakRates, StepShape, features

STALL = 3.0
"""A step that takes so many times its prediction has stalled."""
LEAST_STEPS = 20
MOST_STEPS = 20_000
"""Of more steps, some evenly spread ones are learned from; errors are those of all."""
_RIDGE = 1e-5
_ROUNDS = 12
_SWEEPS = 3000
_TYPICAL = 0.08
"""Relative errors up to here are squared, larger ones weigh less."""

Measured = tuple[StepShape, float]
"""A step and the seconds of its cycle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Relative errors |predicted / measured - 1| over some steps."""

    steps: int
    mean: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well a model fits the steps that it was made from; stalls are counted apart."""

    steps: int
    mean: float
    p95: float
    stalls: int


def fit(
    steps: Iterable[Measured], sizes: ModelSizes, machine: PeakRates
) -> tuple[StepTimeModel, Fit]:
    """The model that fits these steps best; raises `InvalidRequest` for too few of them."""
    measured = [(shape, seconds) for shape, seconds in steps if seconds > 0.0 and shape.tokens]
    if len(measured) < LEAST_STEPS:
        raise InvalidRequest(
            f"{len(measured)} steps are too few for a fit, which needs {LEAST_STEPS}: "
            "record a longer run",
            field="steps",
        )
    rows = [
        (tuple(each / seconds for each in features(shape, sizes, machine)), 1.0)
        for shape, seconds in measured[:: -(-len(measured) // MOST_STEPS)]
    ]
    coefficients = prior = _level(rows)
    for _ in range(_ROUNDS):
        before = coefficients
        coefficients = _nonnegative(rows, _weights(rows, coefficients), prior, before)
        if max(abs(new - old) for new, old in zip(coefficients, before, strict=True)) < 1e-4:
            break
    model = StepTimeModel(sizes, machine, Features(*coefficients))
    kept = [
        (shape, seconds) for shape, seconds in measured if seconds <= STALL * model.predict(shape)
    ]
    errors = errors_of(model, kept)
    return model, Fit(
        steps=errors.steps,
        mean=errors.mean,
        p95=errors.p95,
        stalls=len(measured) - len(kept),
    )


def errors_of(model: StepTimeModel, steps: Iterable[Measured]) -> Errors:
    """The model's errors on steps; those of none are 0."""
    found = sorted(abs(model.predict(shape) / seconds - 1.0) for shape, seconds in steps)
    if not found:
        return Errors(steps=0, mean=0.0, p95=0.0)
    return Errors(steps=len(found), mean=sum(found) / len(found), p95=interpolated(found, 0.95))


Row = tuple[tuple[float, ...], float]
"""Features over measured seconds, and what they should add up to."""


def _level(rows: Sequence[Row]) -> list[float]:
    """The prior, scaled to the steps' middle.

    So the first look for stalls is fair, and what the data leave open is taken to be as far from
    the machine's limits as the rest.
    """
    ratios = sorted(1.0 / max(_predicted(row, PRIOR), 1e-12) for row, _ in rows)
    scale = interpolated(ratios, 0.5)
    return [scale * each for each in PRIOR]


def _weights(rows: Sequence[Row], coefficients: Sequence[float]) -> list[float]:
    """1 for what fits, less the farther it is off, nothing for stalls."""
    found = []
    for row, wanted in rows:
        predicted = _predicted(row, coefficients)
        if wanted > STALL * predicted:
            found.append(0.0)
            continue
        off = abs(predicted - wanted)
        found.append(1.0 if off <= _TYPICAL else _TYPICAL / off)
    return found


def _nonnegative(
    rows: Sequence[Row], weights: Sequence[float], prior: Sequence[float], start: Sequence[float]
) -> list[float]:
    """Least squares with no coefficient below 0, by coordinate descent on the normal equations."""
    size = len(prior)
    gram = [[0.0] * size for _ in range(size)]
    right = [0.0] * size
    for (row, wanted), weight in zip(rows, weights, strict=True):
        if weight == 0.0:
            continue
        for i, value in enumerate(row):
            if value == 0.0:
                continue
            scaled = weight * value
            right[i] += scaled * wanted
            line = gram[i]
            for j in range(i, size):
                line[j] += scaled * row[j]
    total = max(sum(weights), 1.0)
    for i in range(size):
        for j in range(i):
            gram[i][j] = gram[j][i]
    # A pull of the same size on every coefficient, in units in which a step's time is 1.
    pull = _RIDGE * total / (max(prior) ** 2)
    for i in range(size):
        gram[i][i] += pull
        right[i] += pull * prior[i]
    return _descend(gram, right, list(start))


def _descend(
    gram: Sequence[Sequence[float]], right: Sequence[float], found: list[float]
) -> list[float]:
    size = len(found)
    for _ in range(_SWEEPS):
        change = 0.0
        for i in range(size):
            line = gram[i]
            pulled = right[i] - sum(line[j] * found[j] for j in range(size)) + line[i] * found[i]
            new = max(0.0, pulled / line[i])
            change = max(change, abs(new - found[i]))
            found[i] = new
        if change < 1e-7:
            break
    return found


def _predicted(row: Sequence[float], coefficients: Iterable[float]) -> float:
    return sum(value * each for value, each in zip(row, coefficients, strict=True))
