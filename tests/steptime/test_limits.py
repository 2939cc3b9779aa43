"""Rates that steps prove too low: raised by what was reached, and only by enough steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.steptime.limits import STEPS, StepLimit, best_of
from headway.steptime.shape import PeakRates, roofline_time
from headway.types import Slice
from tests.steptime.world import MACHINE, SIZES

DECODE = [Slice(seq=1, start=99, tokens=range(1), blocks=(), outputs=1)]
PREFILL = [Slice(seq=1, start=0, tokens=range(1000), blocks=(), outputs=1)]


def play(limit: StepLimit, slices: list[Slice], seconds: float, steps: int = STEPS) -> float:
    """So many equal steps; the least time of the next."""
    for _ in range(steps):
        limit(slices)
        limit.took(seconds)
    return limit(slices)


def test_the_least_time_is_the_rooflines() -> None:
    limit = StepLimit(SIZES, MACHINE)
    least = roofline_time(SIZES, MACHINE)
    for slices in (DECODE, PREFILL, DECODE * 9):
        assert limit(slices) == least(slices) > 0


def test_steps_at_the_limit_prove_nothing() -> None:
    limit = StepLimit(SIZES, MACHINE)
    least = limit(DECODE)
    assert play(limit, DECODE, least * 1.0001, 5 * STEPS) == least
    assert limit.rates == MACHINE


@pytest.mark.parametrize(
    ("slices", "raised", "other"),
    [(DECODE, "bandwidth", "flops_per_second"), (PREFILL, "flops_per_second", "bandwidth")],
)
def test_faster_steps_raise_the_rate_that_bounds_them(
    slices: list[Slice], raised: str, other: str
) -> None:
    told: list[PeakRates] = []
    limit = StepLimit(SIZES, MACHINE, on_raised=told.append)
    seconds = limit(slices) / 1.55
    assert play(limit, slices, seconds) == pytest.approx(seconds)
    assert getattr(limit.rates, raised) == pytest.approx(1.55 * getattr(MACHINE, raised))
    assert getattr(limit.rates, other) == getattr(MACHINE, other)
    assert told == [limit.rates]
    # Slower steps afterwards take nothing back, and tell nothing.
    play(limit, slices, 10 * seconds, 3 * STEPS)
    assert told == [limit.rates]
    assert limit(slices) == pytest.approx(seconds)


def test_a_few_odd_steps_are_no_proof() -> None:
    limit = StepLimit(SIZES, MACHINE)
    least = limit(DECODE)
    play(limit, DECODE, least / 1.5, STEPS // 4)
    assert play(limit, DECODE, least * 1.5, STEPS - STEPS // 4) == least


def test_a_little_more_is_taken_but_not_worth_a_file() -> None:
    told: list[PeakRates] = []
    limit = StepLimit(SIZES, MACHINE, on_raised=told.append)
    seconds = limit(DECODE) / 1.006
    assert play(limit, DECODE, seconds) == pytest.approx(seconds)
    assert told == []
    play(limit, DECODE, seconds / 1.006)
    assert len(told) == 1, "together they are"


def test_a_clock_that_stands_still_proves_nothing() -> None:
    limit = StepLimit(SIZES, MACHINE)
    play(limit, DECODE, 0.0, 2 * STEPS)
    assert limit.rates == MACHINE


def test_the_best_of_two_measurements() -> None:
    one = replace(MACHINE, bandwidth=1.0)
    other = replace(MACHINE, flops_per_second=2.0)
    assert best_of(one, other) == best_of(other, one) == MACHINE
