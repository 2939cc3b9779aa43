"""A step under construction counts as `shape_of` does, and finds the largest chunk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.policy.pacing.step_load import StepLoad
from headway.steptime.shape import StepShape, decodes_after, shape_of
from headway.types import Slice
from tests.scheduling.policy.pacing.views import LinearTimes

pieces = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200), st.booleans()), max_size=6)


@given(pieces, st.lists(st.integers(0, 300), max_size=6), st.sampled_from([None, 64]))
def test_it_counts_what_the_shape_of_the_plan_counts(
    prefills: list[tuple[int, int, bool]], decodes: list[int], window: int | None
) -> None:
    times = LinearTimes()
    times.window = window
    load = StepLoad(times, decodes_after(decodes, window))
    slices = [Slice(seq=0, start=start, tokens=(0,), blocks=(), outputs=1) for start in decodes]
    for start, count, ends in prefills:
        load.prefill(start, count, ends=ends)
        slices.append(Slice(seq=0, start=start, tokens=(0,) * count, blocks=(), outputs=int(ends)))
    assert load.shape == shape_of(slices, window)


@given(
    start=st.integers(0, 500),
    todo=st.integers(1, 4000),
    most=st.integers(0, 5000),
    budget=st.floats(0, 0.5),
    decodes=st.integers(0, 50),
)
def test_a_chunk_keeps_the_budget_and_is_nearly_the_largest(
    start: int, todo: int, most: int, budget: float, decodes: int
) -> None:
    load = StepLoad(LinearTimes(), decodes_after([49] * decodes))
    count = load.largest_chunk(start, todo, most, budget)
    assert 0 <= count <= min(todo, most)
    if count:
        assert load.with_prefill(start, count, ends=count == todo).bound <= budget
    if count < min(todo, most):
        more = count + max(1, count // 16) + 1
        assert load.with_prefill(start, min(more, todo, most)).bound > budget * 0.999


@given(todo=st.integers(1, 4000), tight=st.floats(0, 0.5), more=st.floats(0, 0.5))
def test_a_tighter_budget_never_enlarges_a_chunk(todo: int, tight: float, more: float) -> None:
    load = StepLoad(LinearTimes(), StepShape())
    small = load.largest_chunk(0, todo, 8192, tight)
    large = load.largest_chunk(0, todo, 8192, tight + more)
    # The search stops within a few per cent of the largest.
    assert small <= large + max(1, large // 16)


def test_trying_changes_nothing() -> None:
    load = StepLoad(LinearTimes(), decodes_after([50]))
    before = load.shape
    load.largest_chunk(0, 100, 50, 0.02)
    load.with_prefill(0, 100)
    assert load.shape == before
