"""A margin is exceeded as seldom as was asked for: whatever the noise, and after it changed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.conformal import LEAST, MOST, Margin


def misses(margin: Margin, steps: int, spread: float, seed: int, level: float = 1.0) -> float:
    """The share of steps, `level` times as long as predicted on average, that exceeds it."""
    random, before = Random(seed), margin.misses
    for _ in range(steps):
        margin.learn(level * random.lognormvariate(0.0, spread))
    return (margin.misses - before) / steps


@pytest.mark.parametrize("target", [0.01, 0.02, 0.1])
@pytest.mark.parametrize("spread", [0.01, 0.05, 0.15])
def test_the_target_is_met_on_stationary_noise(target: float, spread: float) -> None:
    margin = Margin(target)
    misses(margin, 1000, spread, 1)
    assert misses(margin, 20_000, spread, 2) == pytest.approx(target, rel=0.15)


def test_the_margin_is_the_quantile_of_the_noise() -> None:
    margin = Margin(0.02)
    misses(margin, 3000, 0.05, 3)
    assert margin.value == pytest.approx(1.108, abs=0.03)


def test_after_a_drift_the_target_is_met_again() -> None:
    margin = Margin(0.02)
    misses(margin, 3000, 0.03, 4)
    calm = margin.value
    assert misses(margin, 400, 0.03, 5, level=1.15) < 0.06
    assert misses(margin, 5000, 0.03, 6, level=1.15) == pytest.approx(0.02, abs=0.005)
    assert misses(margin, 5000, 0.03, 7) == pytest.approx(0.02, abs=0.005)
    assert margin.value == pytest.approx(calm, abs=0.03)


@given(st.lists(st.floats(0.0, 1e9), max_size=300))
def test_the_margin_stays_within_its_bounds(ratios: list[float]) -> None:
    margin = Margin(0.02)
    for ratio in ratios:
        margin.learn(ratio)
        assert LEAST <= margin.value <= MOST
    assert margin.steps == len(ratios)


def test_what_no_margin_mends_leaves_the_largest_and_is_left_again() -> None:
    margin = Margin(0.02)
    assert misses(margin, 1000, 0.02, 8, level=2.0) == 1.0
    assert margin.value == MOST
    misses(margin, 2000, 0.02, 9)
    assert margin.value < 1.15
