"""Residuals: draws have the spread that was seen, and the mean that total time needs."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.model import POINTS, Regime, Residuals, interpolated, residuals_of

Seen = list[tuple[Regime, float, float]]


def mean_of_draws(residuals: Residuals, regime: Regime) -> float:
    random = Random(0)
    return sum(residuals.draw(random, regime) for _ in range(20_000)) / 20_000


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0.001, 10)), min_size=8, max_size=50))
def test_the_mean_of_draws_is_measured_over_predicted_time(
    pairs: list[tuple[float, float]],
) -> None:
    found = residuals_of([("decode", measured, predicted) for measured, predicted in pairs])
    points = found.decode
    assert len(points) == POINTS
    assert list(points) == sorted(points)
    mean = sum(a + b for a, b in pairwise(points)) / 2 / (POINTS - 1)
    total = sum(m for m, _ in pairs) / sum(p for _, p in pairs)
    assert mean == pytest.approx(total)


def test_draws_have_the_spread_that_was_seen() -> None:
    random = Random(1)
    seen: Seen = [("decode", random.uniform(0.8, 1.2), 1.0) for _ in range(2000)]
    found = residuals_of(seen)
    assert found.quantile("decode", 0.05) == pytest.approx(0.82, abs=0.02)
    assert found.quantile("decode", 0.95) == pytest.approx(1.18, abs=0.02)
    assert mean_of_draws(found, "decode") == pytest.approx(1.0, abs=0.01)
    draws = [found.draw(random, "decode") for _ in range(500)]
    assert 0.79 < min(draws) < max(draws) < 1.21


def test_each_regime_has_its_own_and_a_rare_one_borrows() -> None:
    seen: Seen = [("prefill", 9.0, 1.0)]
    for _ in range(50):
        seen += [("decode", 1.0, 1.0), ("mixed", 2.0, 1.0)]
    found = residuals_of(seen)
    assert mean_of_draws(found, "decode") == pytest.approx(1.0)
    assert mean_of_draws(found, "mixed") == pytest.approx(2.0)
    assert mean_of_draws(found, "prefill") == pytest.approx(159 / 101, rel=0.02)


def test_nothing_seen_strays_nowhere() -> None:
    nothing = residuals_of([])
    assert nothing.draw(Random(0), "mixed") == 1.0
    assert nothing.quantile("mixed", 0.9) == 1.0


def test_interpolation_between_neighbours() -> None:
    assert interpolated([1.0, 2.0, 4.0], 0.75) == 3.0
    assert interpolated([7.0], 0.3) == 7.0
    assert interpolated([1.0, 2.0], 1.0) == 2.0
