"""Passes of prompts: their shapes, and from where on a larger one pays no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.perf.sim.roofline import known_device, known_model, roofline_profile
from headway.steptime.model import StepTimeModel
from headway.steptime.passes import (
    MOST,
    PROMPT,
    WORTH,
    hiding_tokens,
    pass_curve,
    pass_shape,
    percent_of_arithmetic,
)
from headway.steptime.shape import Features, ModelSizes, PeakRates, StepShape

SIZES = ModelSizes(
    name="by hand",
    flops_per_token=1000.0,
    layer_bytes=100_000.0,
    lm_head_flops=0.0,
    lm_head_bytes=0.0,
    attention_flops_per_pair=0.0,
    kv_bytes_per_position=0.0,
    full_layers=2,
)
MACHINE = PeakRates(device="by hand", flops_per_second=1e6, bandwidth=1e6)
"""A token's arithmetic takes a millisecond, reading the weights a tenth of a second."""
IDEAL = replace(Features(*[0.0] * 10), compute=1.0, memory=1.0)
"""Nothing takes time but arithmetic and what of reading it does not hide."""


def model(coefficients: Features = IDEAL, **sizes: Any) -> StepTimeModel:
    return StepTimeModel(replace(SIZES, **sizes), MACHINE, coefficients)


def test_arithmetic_hides_the_weights_where_both_take_equally_long() -> None:
    curve = pass_curve("mine", model())
    assert curve.hides == 100
    assert percent_of_arithmetic(25, model()) == pytest.approx(25.0)
    assert percent_of_arithmetic(100, model()) == pytest.approx(100.0)
    # Below, every token more is free, so 80 % are reached at 80 of 100 tokens.
    assert curve.best == pytest.approx(100.0)
    assert curve.worth == 80
    assert percent_of_arithmetic(curve.worth, model()) >= WORTH * curve.best
    assert percent_of_arithmetic(curve.worth - 1, model()) < WORTH * curve.best
    assert curve.tokens[0] == 1
    assert curve.tokens[-1] == MOST
    assert len(curve.tokens) == len(curve.percent)


def test_what_every_pass_costs_makes_larger_ones_worth_it() -> None:
    # A second more for each pass: arithmetic is 80 % of the best, 8192 / 9192, from 2481 on.
    curve = pass_curve("mine", model(replace(IDEAL, fixed=1000.0)))
    assert curve.hides == 100, "that is a matter of weights alone"
    assert curve.worth == pytest.approx(2485, abs=15)
    assert curve.best == pytest.approx(100 * 8192 / 9192, abs=0.1)


def test_passes_that_are_faster_than_the_rate_count_as_at_the_limit() -> None:
    fast = model(replace(IDEAL, compute=0.5))
    assert percent_of_arithmetic(MOST, fast) == 100.0


def test_weights_that_nothing_hides_are_said_so() -> None:
    heavy = model(layer_bytes=1e9)
    curve = pass_curve("mine", heavy)
    assert hiding_tokens(heavy) is None
    assert curve.hides is None
    assert f"longer than the arithmetic of {MOST:,} tokens" in curve.text
    assert hiding_tokens(model(layer_bytes=1000.0 * MOST)) == MOST
    assert hiding_tokens(model(layer_bytes=1.0)) == 1


def test_of_few_experts_small_passes_read_less() -> None:
    # All experts are read from some 100 tokens on; fewer tokens read fewer of them.
    mixture = model(expert_bytes=99_000.0, expert_share=0.01)
    hides = hiding_tokens(mixture)
    assert hides is not None
    assert hides < 100


def test_an_h100_with_8b_hides_its_weights_from_about_300_tokens() -> None:
    profile = roofline_profile(known_device("h100"), known_model("llama-3.1-8b"))
    curve = pass_curve("8B on an H100", profile.step_times())
    assert curve.hides is not None
    assert 280 < curve.hides < 310
    assert 300 < curve.worth < 500
    assert curve.text.startswith("Prompts laid end to end in one pass, 8B on an H100: from 296 ")
    assert "64 % of the arithmetic limit" in curve.text


@given(tokens=st.integers(1, MOST), window=st.none() | st.integers(1, 100))
def test_a_pass_is_prompts_of_nearly_equal_length(tokens: int, window: int | None) -> None:
    prompts = -(-tokens // PROMPT)
    expected = StepShape()
    for number in range(prompts):
        length = tokens // prompts + (number < tokens % prompts)
        assert length <= PROMPT
        expected = expected.with_slice(0, length, 1, window)
    assert pass_shape(tokens, window) == expected
