"""What admission expects: peaks of lockstep growth, learnt lengths, and when it asks anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.admission import FEWEST, WINDOW, LengthEstimate, blocks_for, peak_blocks
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.fast_forward import FastForward
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.scheduler import Scheduler
from headway.types import Sampled, StepPlan, StepResult
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import limits_of, make_harness, request_of


def test_a_last_block_that_is_partly_filled_counts_whole() -> None:
    # Two sequences end with 6 stored tokens each: 2 blocks of 4 for each, not 3 for both.
    assert peak_blocks([(3, 4), (3, 4)], 4) >= 4


@given(
    growing=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), max_size=6),
    block_size=st.integers(1, 8),
)
def test_the_peak_is_never_below_what_lockstep_growth_takes(
    growing: list[tuple[int, int]], block_size: int
) -> None:
    peak = peak_blocks(growing, block_size)
    for step in range(1, 21):
        left = [stored for remaining, stored in growing if remaining >= step]
        assert sum(blocks_for(stored + step, block_size) for stored in left) <= peak


def test_one_that_has_computed_its_prompt_makes_room_for_who_waits() -> None:
    # While b computes its prompt it counts with its final 5 blocks: with a's 3 and c's 2 that is
    # one more than there are. Once it decodes it counts as it grows, and a will be gone in time.
    harness = make_harness(blocks=10, prefix_caching=False, limits=limits_of(tokens=6))
    harness.add(request_of("a", prompt=(1,) * 4, max_tokens=8))
    harness.step()
    harness.step()
    harness.add(request_of("b", prompt=(2,) * 12, max_tokens=12))
    harness.add(request_of("c", prompt=(3,) * 4, max_tokens=4))
    harness.drain()
    sizes = [{part.seq: len(part.tokens) for part in p.slices} for p in harness.runner.plans]
    assert sizes[2:6] == [{1: 1, 2: 5}, {1: 1, 2: 5}, {1: 1, 2: 2}, {1: 1, 2: 1, 3: 4}]


def test_lengths_of_long_ago_are_forgotten() -> None:
    lengths = LengthEstimate()
    for length in [1000] * WINDOW + [10] * (WINDOW - 1):
        lengths.learn(length)
    assert lengths.remaining(0) == 10
    for _ in range(WINDOW // 4):
        lengths.learn(500)
    assert lengths.remaining(0) == 500


def learnt_from(lengths: LengthEstimate) -> bool:
    """Whether an estimate with a first guess of 100 has changed."""
    return lengths.remaining(0) != 100


def test_lengths_are_learnt_from_answers_that_stopped() -> None:
    lengths = LengthEstimate(first_guess=100)
    harness = make_harness(lengths=lengths)
    stop = reference((1, 2, 3), max_tokens=3)[-1]
    for number in range(FEWEST):
        assert not learnt_from(lengths)
        harness.add(request_of(f"r{number}", max_tokens=9, stop=(stop,)))
        harness.drain()
    assert lengths.remaining(0) == 3


def test_nothing_is_learnt_from_answers_that_were_cut_off() -> None:
    lengths = LengthEstimate(first_guess=100)
    harness = make_harness(lengths=lengths, spoiled=lambda entry: entry.sampling.seed == 1)
    for number in range(FEWEST):
        harness.add(request_of(f"capped {number}", max_tokens=2))
        harness.add(request_of(f"capped with a stop {number}", max_tokens=2, stop=(-1,)))
        harness.add(request_of(f"broken {number}", max_tokens=9, stop=(-1,), seed=1))
        harness.add(request_of(f"given up {number}", max_tokens=9, stop=(-1,)))
        harness.step()
        harness.abort(f"given up {number}")
        harness.drain()
    assert not learnt_from(lengths)


@pytest.mark.parametrize(("stop", "learns"), [((7,), True), ((-1,), False)])
def test_skipped_steps_teach_what_made_ones_do(stop: tuple[int, ...], learns: bool) -> None:
    lengths = LengthEstimate(first_guess=100)
    scheduler = Scheduler(
        policy=Continuous(),
        pool=BlockPool(num_blocks=64, block_size=4),
        limits=limits_of(),
        lengths=lengths,
    )
    for number in range(FEWEST):
        scheduler.add(request_of(f"r{number}", max_tokens=3, stop=stop))
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    sampled = [Sampled(seq=part.seq, tokens=(5,)) for part in plan.slices]
    scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 0.0)
    quiet = scheduler.fast_forward_steps(0.0, 2)
    assert quiet == FastForward(2)
    scheduler.fast_forward(quiet, {part.seq: [5, 7] for part in plan.slices}, 2.0)
    assert learnt_from(lengths) is learns
