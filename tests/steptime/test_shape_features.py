"""Features: worked out by hand, and what holds of any step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.steptime.shape import (
    StepShape,
    decodes_after,
    features,
    roofline_seconds,
    shape_of,
    weights_read,
)
from headway.types import Slice
from tests.steptime.world import MACHINE, SIZES, WINDOWED, decodes, part, slices


def test_a_small_decode_step_is_bound_by_reading() -> None:
    found = features(decodes(100, 200), SIZES, MACHINE)
    assert found.compute == pytest.approx(4e-3)
    assert found.lm_head == pytest.approx(2e-3)
    # 40 ms of weights hide behind 4 ms of compute, 5 ms of the head behind 2 ms.
    assert found.memory == pytest.approx(36e-3 + 3e-3)
    assert found.memory_half_rate == pytest.approx(32e-3 + 1e-3)
    assert found.decode_cache == pytest.approx(300 * 10 * 1e5 / 1e11)
    assert found.prefill_attention == found.prefill_cache == found.mixed == 0.0


def test_a_long_prompt_hides_the_reading_of_weights() -> None:
    found = features(shape_of([part(0, 50, outputs=0)]), SIZES, MACHINE)
    assert found.compute == pytest.approx(0.1)
    assert found.memory == found.memory_half_rate == found.lm_head == 0.0
    assert found.prefill_attention == pytest.approx(50 * 51 / 2 * 10 * 1e6 / 1e12)
    assert found.prefill_cache == pytest.approx(50 * 10 * 1e5 / 1e11)


def test_a_mixed_step_counts_the_smaller_kind() -> None:
    few = features(shape_of([part(9, 1), part(0, 30)]), SIZES, MACHINE)
    many = features(shape_of([part(9, 1)] * 5 + [part(0, 3)]), SIZES, MACHINE)
    assert few.mixed == pytest.approx(2e-3)
    assert many.mixed == pytest.approx(6e-3)


def test_layers_with_a_window_read_no_more_than_it() -> None:
    long = features(decodes(100, window=16), WINDOWED, MACHINE)
    assert long.decode_cache == pytest.approx((4 * 100 + 6 * 16) * 1e5 / 1e11)


@given(start=st.integers(0, 40), count=st.integers(1, 40), window=st.none() | st.integers(1, 40))
def test_contexts_are_those_of_each_token(start: int, count: int, window: int | None) -> None:
    contexts = range(start + 1, start + count + 1)
    near = [min(context, window) if window else 0 for context in contexts]
    # All positions that any token of the slice attends to: the last token's window, and one more
    # for each token before it, as far as there are any.
    seen = [range(context)[-size:] for context, size in zip(contexts, near, strict=True)]
    read = {position for each in seen for position in each}
    found = shape_of([part(start, count)], window)
    assert (found.tokens, found.sequences, found.rows) == (count, 1, 1)
    if count == 1:
        assert (found.decodes, found.decode_context) == (1, start + 1)
        assert found.decode_context_window == near[0]
        assert (found.prefill_pairs, found.prefill_context) == (0, 0)
        assert (found.prefill_pairs_window, found.prefill_context_window) == (0, 0)
    else:
        assert (found.decodes, found.decode_context, found.decode_context_window) == (0, 0, 0)
        assert (found.prefill_pairs, found.prefill_context) == (sum(contexts), contexts[-1])
        assert found.prefill_pairs_window == sum(near)
        assert found.prefill_context_window == (len(read) if window else 0)


@given(slices(), st.none() | st.integers(1, 40))
def test_a_shape_grows_slice_by_slice(parts: list[Slice], window: int | None) -> None:
    shape = StepShape()
    for each in parts:
        shape = shape.with_slice(each.start, len(each.tokens), each.outputs, window)
    assert shape == shape_of(parts, window)
    assert shape.sequences == len(parts)
    assert shape.rows == sum(each.outputs for each in parts)
    assert shape.tokens == sum(len(each.tokens) for each in parts)


@given(st.lists(st.integers(0, 50)), st.none() | st.integers(1, 40))
def test_many_decodes_are_counted_as_each_of_them(computed: list[int], window: int | None) -> None:
    assert decodes_after(computed, window) == shape_of([part(each, 1) for each in computed], window)


def test_a_step_reads_the_experts_that_its_tokens_choose() -> None:
    mixture = replace(SIZES, expert_bytes=3e9, expert_share=0.25)
    assert weights_read(1, mixture) == pytest.approx(1e9 + 3e9 * 0.25)
    assert weights_read(2, mixture) == pytest.approx(1e9 + 3e9 * (1 - 0.75**2))
    assert weights_read(500, mixture) == pytest.approx(4e9)
    assert weights_read(1, SIZES) == SIZES.layer_bytes


def test_the_limit_of_a_decode_step_is_bandwidth_and_that_of_a_prompt_arithmetic() -> None:
    assert roofline_seconds(decodes(1000), SIZES, MACHINE) == pytest.approx(
        (4e9 + 5e8 + 1000 * 10 * 1e5) / 1e11
    )
    prompt = shape_of([part(0, 200)])
    pairs = 200 * 201 / 2
    assert roofline_seconds(prompt, SIZES, MACHINE) == pytest.approx(
        (200 * 2e9 + 1e9 + pairs * 10 * 1e6) / 1e12
    )


@given(slices())
def test_features_are_never_negative_and_the_limit_is_below_their_sum(parts: list[Slice]) -> None:
    for sizes in (SIZES, WINDOWED):
        shape = shape_of(parts, sizes.window)
        found = features(shape, sizes, MACHINE)
        assert min(found) >= 0.0
        # Decodes' attention FLOPs are the one thing that no feature has: memory time exceeds them.
        assert roofline_seconds(shape, sizes, MACHINE) <= sum(found) * 1.000001


@given(slices(), slices())
def test_more_work_never_has_a_lower_limit(some: list[Slice], more: list[Slice]) -> None:
    least = roofline_seconds(shape_of(some), SIZES, MACHINE)
    assert least <= roofline_seconds(shape_of(some + more), SIZES, MACHINE)
