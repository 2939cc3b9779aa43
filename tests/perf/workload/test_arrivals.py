"""Arrivals: rates, burstiness, ramps, and that time never runs backwards."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from random import Random
from statistics import fmean, pstdev
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.workload.synthetic import Arrivals, at_once, gamma, ramp


def times(arrivals: Arrivals, count: int, seed: int = 5) -> list[float]:
    return list(islice(arrivals(Random(seed)), count))


def gaps(arrivals: Arrivals, count: int = 20_000) -> list[float]:
    return [after - before for before, after in pairwise(times(arrivals, count + 1))]


def test_all_at_once() -> None:
    assert times(at_once, 3) == [0, 0, 0]
    assert times(gamma(math.inf), 3) == [0, 0, 0]


def test_poisson_gaps_vary_as_much_as_their_mean() -> None:
    found = gaps(gamma(4))
    assert fmean(found) == pytest.approx(0.25, rel=0.03)
    assert pstdev(found) == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize(("burstiness", "variation"), [(0.25, 2.0), (4, 0.5)])
def test_burstiness_is_the_shape_of_the_gaps(burstiness: float, variation: float) -> None:
    found = gaps(gamma(4, burstiness))
    assert fmean(found) == pytest.approx(0.25, rel=0.05)
    assert pstdev(found) / fmean(found) == pytest.approx(variation, rel=0.05)


def test_infinite_burstiness_is_even() -> None:
    assert times(gamma(4, math.inf), 4) == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(("growth", "middle"), [("linear", 5.5), ("exponential", math.sqrt(10))])
def test_a_ramp_grows_from_its_first_rate_to_its_last(
    growth: Literal["linear", "exponential"], middle: float
) -> None:
    found = gaps(ramp(1, 10, 101, growth, math.inf), 150)
    assert 1 / found[0] == pytest.approx(1)
    assert 1 / found[50] == pytest.approx(middle)
    assert 1 / found[100] == pytest.approx(10)
    assert 1 / found[149] == pytest.approx(10)


def test_a_ramp_of_one_request_is_no_division_by_zero() -> None:
    assert times(ramp(1, 2, 1), 1) == [0]


@given(
    st.one_of(
        st.builds(gamma, st.floats(1e-3, 1e6), st.floats(1e-3, 1e3)),
        st.builds(
            ramp,
            st.floats(1e-3, 1e4),
            st.floats(1e-3, 1e4),
            st.integers(1, 50),
            st.sampled_from(["linear", "exponential"]),
        ),
    ),
    st.integers(0, 1000),
)
def test_times_begin_at_zero_never_fall_and_repeat(arrivals: Arrivals, seed: int) -> None:
    found = times(arrivals, 40, seed)
    assert found[0] == 0
    assert all(before <= after < math.inf for before, after in pairwise(found))
    assert found == times(arrivals, 40, seed)


@pytest.mark.parametrize("rate", [0, -1, math.nan])
def test_rates_are_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        gamma(rate)
    with pytest.raises(ValueError, match="above 0"):
        ramp(1, rate, 5)


def test_burstiness_is_above_zero_and_a_ramp_is_finite() -> None:
    with pytest.raises(ValueError, match="burstiness is above 0"):
        gamma(1, 0)
    with pytest.raises(ValueError, match="burstiness is above 0"):
        ramp(1, 2, 5, "linear", -1)
    with pytest.raises(ValueError, match="finite"):
        ramp(1, math.inf, 5)
