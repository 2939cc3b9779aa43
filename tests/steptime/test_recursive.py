"""Recursive least squares: what is found, what is kept when nothing tells of it, and no blow-up."""

from __future__ import annotations

from math import isfinite
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.recursive import RecursiveLeastSquares

NOISE = 0.03**2

positive = st.floats(1e-6, 1e6)


def run(
    squares: RecursiveLeastSquares,
    truth: tuple[float, ...],
    steps: int,
    *,
    seen: tuple[int, ...] = (0, 1, 2),
    seed: int = 0,
    spread: float = 0.0,
) -> None:
    """Steps of 10 ms that depend on the `seen` coefficients only."""
    random = Random(seed)
    for _ in range(steps):
        parts = [random.uniform(0.0, 1.0) if i in seen else 0.0 for i in range(len(truth))]
        total = sum(a * b for a, b in zip(parts, truth, strict=True))
        total *= random.lognormvariate(0.0, spread)
        squares.learn([part / total for part in parts], NOISE, 0.01)


def test_the_truth_is_found() -> None:
    squares = RecursiveLeastSquares((1.0, 1.0, 1.0))
    run(squares, (3.0, 0.5, 1.2), 500)
    assert squares.coefficients == pytest.approx((3.0, 0.5, 1.2), rel=0.02)


def test_at_first_an_error_is_put_down_to_the_speed() -> None:
    squares = RecursiveLeastSquares((1.0, 1.0, 1.0))
    run(squares, (3.0, 3.0, 3.0), 4, seen=(0,))
    first, *others = squares.coefficients
    assert first == pytest.approx(3.0, rel=0.05)
    assert others == pytest.approx((2.4, 2.4), rel=0.1)


def test_a_coefficient_that_nothing_tells_of_follows_the_speed_alone() -> None:
    squares = RecursiveLeastSquares((1.0, 1.0, 1.0))
    run(squares, (2.0, 1.0, 4.0), 500)
    run(squares, (2.0, 1.0, 4.0), 20_000, seen=(0, 1), spread=0.05, seed=1)
    assert squares.coefficients[2] == pytest.approx(4.0, rel=0.15)
    run(squares, (2.4, 1.2, 4.8), 500, seen=(0, 1), seed=2)
    assert squares.coefficients[2] == pytest.approx(4.8, rel=0.15)


def test_a_coefficient_at_zero_is_left_again() -> None:
    squares = RecursiveLeastSquares((1.0, 1.0, 1.0))
    run(squares, (2.0, 0.0, 1.0), 500)
    assert squares.coefficients[1] == pytest.approx(0.0, abs=0.03)
    run(squares, (2.0, 1.0, 1.0), 5000, seed=1)
    assert squares.coefficients[1] > 0.5


def test_uncertainty_grows_up_to_a_bound() -> None:
    """Otherwise one noisy step after an hour would overthrow what is known of its kind."""
    squares = RecursiveLeastSquares((1.0, 1.0, 1.0))
    run(squares, (1.0, 1.0, 1.0), 500)
    run(squares, (1.0, 1.0, 1.0), 30_000, seen=(0, 1))
    squares.learn((0.0, 0.0, 1.0 / 1.2), NOISE, 0.01)
    assert 1.0 < squares.coefficients[2] < 1.25
    assert squares.coefficients[0] == pytest.approx(1.0, abs=0.03)


@given(st.lists(st.tuples(st.lists(positive, min_size=3, max_size=3), positive), max_size=60))
def test_coefficients_are_finite_and_never_negative(
    steps: list[tuple[list[float], float]],
) -> None:
    squares = RecursiveLeastSquares((1.0, 0.0, 2.0))
    for row, seconds in steps:
        squares.learn(row, NOISE, seconds)
        assert all(isfinite(each) and each >= 0.0 for each in squares.coefficients)


def test_reopened_it_believes_the_next_steps() -> None:
    squares = RecursiveLeastSquares((1.0, 1.0, 1.0))
    run(squares, (1.0, 1.0, 1.0), 1000)
    squares.reopen()
    run(squares, (4.0, 4.0, 4.0), 2, seed=1)
    assert squares.coefficients == pytest.approx((4.0, 4.0, 4.0), rel=0.1)
