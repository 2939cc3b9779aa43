"""The shape of each policy, on requests of which every step can be followed by hand."""

from __future__ import annotations

from headway.config import PolicyName
from headway.scheduling.stats import Idle
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of


def crowd(
    policy: PolicyName, lengths: list[int], *, seats: int, wait: float = 3.0
) -> EngineHarness:
    """Requests of 3 prompt tokens and so many generated ones, all there at once."""
    harness = make_harness(policy, limits=limits_of(seqs=seats), wait=wait)
    for index, length in enumerate(lengths):
        harness.add(request_of(f"r{index}", max_tokens=length, prompt=(index, 2, 3)))
    return harness


def widths(harness: EngineHarness) -> list[int]:
    """Sequences in each step until nobody is left."""
    harness.drain()
    return [len(plan.slices) for plan in harness.runner.plans]


def test_sequential_runs_one_at_a_time() -> None:
    harness = crowd("sequential", [2, 3, 1], seats=4)
    assert widths(harness) == [1] * 6
    assert [plan.slices[0].seq for plan in harness.runner.plans] == [1, 1, 2, 2, 2, 3]


def test_static_waits_for_its_slowest_and_counts_idle_slots() -> None:
    harness = crowd("static", [1, 4, 2, 2], seats=2)
    idle = []
    while harness.engine.has_work:
        harness.step()
        idle.append(harness.engine.stats().idle_slots)
    assert [len(plan.slices) for plan in harness.runner.plans] == [2, 1, 1, 1, 2, 2]
    assert idle == [0, 1, 1, 1, 0, 0]


def test_static_seats_its_whole_batch_beyond_the_token_budget() -> None:
    harness = make_harness("static", limits=limits_of(seqs=3, tokens=4, partial=1))
    for index in range(4):
        harness.add(request_of(f"r{index}", max_tokens=3, prompt=(index, 2, 3, 4)))
    harness.step()
    stats = harness.engine.stats()
    assert (stats.running, stats.waiting, stats.step_tokens) == (3, 1, 4)


def test_continuous_refills_a_slot_at_once() -> None:
    harness = crowd("continuous", [1, 4, 2, 2], seats=2)
    assert widths(harness) == [2, 2, 2, 2, 1]
    assert harness.engine.stats().idle_slots == 0


def test_continuous_mixes_decodes_with_chunks_of_a_prompt() -> None:
    harness = make_harness("continuous", limits=limits_of(tokens=4))
    harness.add(request_of("short", max_tokens=5, prompt=(1, 2)))
    harness.step()
    harness.add(request_of("long", max_tokens=1, prompt=tuple(range(10, 18)), arrival=1.0))
    harness.drain()
    shapes = [[len(piece.tokens) for piece in plan.slices] for plan in harness.runner.plans]
    assert shapes == [[2], [1, 3], [1, 3], [1, 2], [1]]


def test_continuous_admits_nobody_for_whom_there_is_no_token() -> None:
    harness = make_harness("continuous", limits=limits_of(tokens=4, partial=1))
    for index in range(3):
        harness.add(request_of(f"r{index}", max_tokens=3, prompt=(index, 2, 3, 4)))
    harness.step()
    stats = harness.engine.stats()
    assert (stats.running, stats.waiting, stats.step_tokens) == (1, 2, 4)


def test_decodes_come_before_a_prompt_that_is_ahead_of_them_in_the_queue() -> None:
    harness = make_harness("continuous", limits=limits_of(tokens=4, partial=1))
    harness.add(request_of("low", max_tokens=5, prompt=(1, 2), priority=1))
    harness.step()
    harness.add(request_of("high", max_tokens=1, prompt=tuple(range(10, 22)), arrival=1.0))
    harness.drain()
    shapes = [{part.seq: len(part.tokens) for part in p.slices} for p in harness.runner.plans]
    assert shapes[1:5] == [{1: 1, 2: 3}] * 4


def test_dynamic_departs_when_its_oldest_has_waited() -> None:
    harness = crowd("dynamic", [1, 1], seats=4, wait=3.0)
    assert harness.step() == Idle(until=3.0)
    assert harness.clock.seconds == 3.0
    assert harness.step() is None
    assert len(harness.ends) == 2


def test_dynamic_departs_at_once_when_full() -> None:
    harness = crowd("dynamic", [1, 2, 1], seats=2, wait=3.0)
    assert harness.step() is None
    assert [len(plan.slices) for plan in harness.runner.plans] == [2]


def test_dynamic_takes_nobody_on_board_between_departures() -> None:
    harness = crowd("dynamic", [1, 3], seats=2)
    harness.step()
    harness.add(request_of("late", max_tokens=1, arrival=1.0))
    harness.step()
    stats = harness.engine.stats()
    assert (stats.running, stats.waiting, stats.idle_slots) == (1, 1, 1)


def test_smaller_priority_boards_first_whatever_came_first() -> None:
    harness = make_harness("sequential")
    harness.add(request_of("low", max_tokens=1, priority=1))
    harness.add(request_of("high", max_tokens=1, priority=0, arrival=5.0))
    harness.step()
    assert list(harness.ends) == ["high"]


def prompts_in_steps(partial: int, *lengths: int, tokens: int = 12) -> list[list[int]]:
    """Sizes of the slices of each step while prompts of these lengths are computed."""
    harness = make_harness("continuous", limits=limits_of(tokens=tokens, partial=partial))
    for index, length in enumerate(lengths):
        prompt = tuple(range(100 * index, 100 * index + length))
        harness.add(request_of(f"r{index}", max_tokens=1, prompt=prompt, arrival=float(index)))
    harness.drain()
    return [[len(piece.tokens) for piece in plan.slices] for plan in harness.runner.plans]


def test_with_one_partial_prefill_a_short_prompt_waits_behind_a_long_one() -> None:
    assert prompts_in_steps(1, 30, 4) == [[12], [12], [6, 4]]


def test_with_two_partial_prefills_a_short_prompt_passes_a_long_one() -> None:
    assert prompts_in_steps(2, 30, 4) == [[8, 4], [12], [10]]


def test_partial_prefills_share_a_step_up_to_their_cap() -> None:
    assert prompts_in_steps(2, 30, 30, 30)[0] == [6, 6]
    assert prompts_in_steps(3, 30, 30, 30)[0] == [4, 4, 4]
    # A thirteenth token goes to the first, not to a fourth that would be partial too.
    assert prompts_in_steps(3, 30, 30, 30, 30, tokens=13)[0] == [5, 4, 4]


def test_nothing_is_left_over_where_there_is_one_to_take_it() -> None:
    assert prompts_in_steps(4, 30) == [[12], [12], [6]]
    assert prompts_in_steps(3, 7, 2) == [[7, 2]]
