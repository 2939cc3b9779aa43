"""The model's quick sums against the plain ones, and runs of decodes against single steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.model import regime
from headway.steptime.shape import features, shape_of
from headway.types import Slice
from tests.steptime.world import MACHINE, SIZES, TRUTH, WINDOWED, decodes, model, part, slices

MIXTURE = replace(SIZES, expert_bytes=3e9, expert_share=0.25)


@given(slices())
def test_a_prediction_is_the_sum_of_features_times_coefficients(parts: list[Slice]) -> None:
    for sizes in (SIZES, WINDOWED, MIXTURE):
        shape = shape_of(parts, sizes.window)
        each = zip(features(shape, sizes, MACHINE), TRUTH, strict=True)
        assert model(sizes).predict(shape) == pytest.approx(sum(a * b for a, b in each))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), st.integers(0, 20))
def test_a_run_of_decodes_is_bit_for_bit_its_steps(contexts: list[int], steps: int) -> None:
    for sizes in (SIZES, MIXTURE):
        times = model(sizes)
        run = times.predict_decodes(decodes(*contexts), steps)
        single = [
            times.predict(decodes(*(context + n for context in contexts))) for n in range(steps)
        ]
        assert run == single


@pytest.mark.parametrize("contexts", [(3, 5), (40, 90)])
def test_a_run_within_or_beyond_the_window_is_exact(contexts: tuple[int, ...]) -> None:
    times = model(WINDOWED)
    run = times.predict_decodes(decodes(*contexts, window=16), 10)
    assert run == [
        times.predict(decodes(*(context + n for context in contexts), window=16)) for n in range(10)
    ]


def test_a_run_that_reaches_the_window_is_a_little_high_and_never_low() -> None:
    times = model(WINDOWED)
    run = times.predict_decodes(decodes(10, 30, window=16), 30)
    single = [times.predict(decodes(10 + n, 30 + n, window=16)) for n in range(30)]
    assert all(high >= true for high, true in zip(run, single, strict=True))
    assert run[-1] == single[-1]
    assert run[0] == single[0]


def test_regimes() -> None:
    assert regime(decodes(5, 6)) == "decode"
    assert regime(shape_of([part(4, 1), part(0, 9)])) == "mixed"
    assert regime(shape_of([part(0, 9), part(0, 4)])) == "prefill"


def test_the_ideal_is_below_what_the_prior_predicts() -> None:
    shape = decodes(5, 6)
    assert 0.0 < model().ideal(shape) < model().predict(shape)
