"""A recording tells what the engine did: every plan, every request, and no time spent waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.recording.format import EngineLine, RequestLine, SliceLine, StepLine
from headway.recording.reader import recorded_tokens
from headway.recording.recorder import TOLD_TOGETHER
from tests.recording.engine import STEP_SECONDS, recorded_house
from tests.scheduling.fake_runner import reference
from tests.scheduling.house import limits_of, request_of

CYCLE = STEP_SECONDS + 1.0


def test_steps_are_told_as_they_were_planned() -> None:
    house, memory = recorded_house()
    house.add(request_of(prompt=(1, 2, 3, 4, 5), max_tokens=3))
    house.drain()
    assert [step.slices for step in memory.steps] == [
        (SliceLine(1, 0, 5, True),),
        (SliceLine(1, 5, 1, True),),
        (SliceLine(1, 6, 1, True),),
    ]
    assert [step.at for step in memory.steps] == [0.0, CYCLE, 2 * CYCLE]
    assert [step.run for step in memory.steps] == [0.5, 0.5, 0.5]


def test_a_cycle_lasts_to_the_next_plan_and_the_last_one_to_the_end_of_its_step() -> None:
    house, memory = recorded_house()
    house.add(request_of(max_tokens=2))
    house.drain()
    house.clock.seconds += 100.0
    house.add(request_of("b", max_tokens=1))
    house.drain()
    assert [step.cycle for step in memory.steps] == [CYCLE, STEP_SECONDS, STEP_SECONDS]


def test_a_wait_that_the_policy_wants_is_in_no_cycle() -> None:
    house, memory = recorded_house(policy="dynamic", wait=30.0, limits=limits_of(seqs=2))
    house.add(request_of("a", max_tokens=1))
    house.drain()
    house.add(request_of("b", max_tokens=1, arrival=house.clock.seconds))
    house.drain()
    assert [step.cycle for step in memory.steps] == [STEP_SECONDS, STEP_SECONDS]
    assert memory.steps[1].at - memory.steps[0].at > 30.0


def test_a_request_is_told_when_it_has_ended() -> None:
    house, memory = recorded_house()
    house.add(request_of("a", prompt=(7, 8), max_tokens=2, priority=3, group="g", arrival=0.125))
    house.step()
    house.add(request_of("b", prompt=(1, 2, 3), max_tokens=1, stop=(99,)))
    house.drain()
    first, second = memory.requests["a"], memory.requests["b"]
    assert (first.seq, first.step, first.end_step) == (1, 1, 2)
    assert (first.prompt_tokens, first.output_tokens, first.max_tokens) == (2, 2, 2)
    assert (first.priority, first.group, first.arrival, first.finish) == (3, "g", 0.125, "length")
    assert (second.seq, second.step, second.end_step) == (2, 2, 2)
    assert (first.stops, second.stops) == (False, True)


def test_a_refused_request_has_no_sequence() -> None:
    house, memory = recorded_house()
    house.add(request_of("a", prompt=()))
    house.add(request_of("b"))
    house.engine.add(request_of("b"))
    house.drain()
    refused = [line for line in memory.lines if isinstance(line, RequestLine) and line.seq == 0]
    assert [(line.id, line.finish, line.end_step) for line in refused] == [
        ("a", "error", 0),
        ("b", "error", 0),
    ]
    assert memory.requests["b"].seq == 1


def test_a_request_that_was_complete_takes_a_number_and_no_step() -> None:
    house, memory = recorded_house()
    house.add(request_of("a", max_tokens=2, generated=(5, 6)))
    house.add(request_of("b", max_tokens=3, generated=(5,)))
    house.drain()
    line = memory.requests["a"]
    assert (line.seq, line.end_step, line.resumed, line.output_tokens) == (1, 0, 2, 2)
    resumed = memory.requests["b"]
    assert (resumed.seq, resumed.resumed, resumed.output_tokens) == (2, 1, 3)
    assert memory.steps[0].slices == (SliceLine(2, 0, 4, True),)


def test_an_abort_ends_the_cycle_and_the_request() -> None:
    house, memory = recorded_house()
    house.add(request_of("a", max_tokens=9))
    house.step()
    house.abort("a")
    house.abort("nobody")
    line = memory.requests["a"]
    assert (line.finish, line.end_step, line.output_tokens) == ("abort", 1, 1)
    assert [step.cycle for step in memory.steps] == [CYCLE]
    house.add(request_of("b", max_tokens=1))
    house.step()
    assert memory.steps[-1].ended == (1,)


def test_digests_are_of_full_blocks_and_shared_with_equal_beginnings() -> None:
    house, memory = recorded_house(block_size=4)
    prompt = tuple(range(10))
    house.add(request_of("a", prompt=prompt, max_tokens=3))
    house.add(request_of("b", prompt=(*prompt[:8], 40), max_tokens=1))
    house.add(request_of("c", prompt=prompt, max_tokens=1, cache_salt="apart"))
    house.drain()
    first, second, third = (memory.requests[name].hashes for name in "abc")
    assert len(first) == 3
    assert second == first[:2]
    assert not set(third) & set(first)
    assert all(len(digest) == 16 for digest in first)


def test_without_prefix_caching_only_groups_have_digests() -> None:
    house, memory = recorded_house(prefix_caching=False)
    house.add(request_of("a", prompt=tuple(range(8)), max_tokens=1))
    house.add(request_of("b", prompt=tuple(range(8)), max_tokens=1, group="g"))
    house.drain()
    assert memory.requests["a"].hashes == ()
    assert len(memory.requests["b"].hashes) == 2


def test_lines_are_flushed_when_there_is_nothing_to_do_and_every_second() -> None:
    house, memory = recorded_house()
    assert memory.flushed == [1]
    house.add(request_of(max_tokens=3))
    for _ in range(3):
        house.step()
    # The second and the third step began more than a second after the flush before them.
    assert memory.flushed[1:] == [2, 4, 5]
    assert len(memory.lines) == 5


def test_short_steps_are_kept_and_told_together_but_not_many() -> None:
    house, memory = recorded_house(step_seconds=0.001)
    house.add(request_of(max_tokens=50))
    told = []
    for _ in range(50):
        house.engine.step()
        told.append(len(memory.steps))
    assert all(step - count <= TOLD_TOGETHER + 1 for step, count in enumerate(told, 1))
    assert len(set(told)) == 50 // TOLD_TOGETHER + 2  # none, every sixteen, and all when idle
    assert [step.step for step in memory.steps] == list(range(1, 51))


def test_an_id_that_comes_again_before_its_end_was_told_is_another_request() -> None:
    house, memory = recorded_house(step_seconds=0.001)
    house.add(request_of("other", max_tokens=9))
    for most in (1, 2):
        house.engine.add(request_of("again", max_tokens=most))
        for _ in range(most):
            house.engine.step()
    house.engine.abort("other")
    lines = [line for line in memory.lines if isinstance(line, RequestLine)]
    assert [(line.id, line.seq, line.output_tokens, line.end_step) for line in lines] == [
        ("again", 2, 1, 1),
        ("again", 3, 2, 3),
        ("other", 1, 3, 3),
    ]


requests = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.lists(st.integers(0, 2), min_size=1, max_size=20),
        st.integers(1, 12),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(requests, st.booleans(), st.sampled_from([0.0, 0.05, 1.0]))
def test_every_plan_and_every_token_is_accounted_for(
    asked: list[tuple[int, list[int], int, bool]], caching: bool, pause: float
) -> None:
    """Whatever is asked, also with preemptions and stop tokens, and at whatever pace it is told."""
    house, memory = recorded_house(
        step_seconds=0.001, blocks=14, prefix_caching=caching, first_guess=1
    )
    house.pause = pause
    for number, (wait, prompt, most, stops) in enumerate(asked):
        for _ in range(wait):
            house.step()
        house.add(
            request_of(
                str(number), prompt=tuple(prompt), max_tokens=most, stop=(3, 4) if stops else ()
            )
        )
    house.drain()
    planned = [
        tuple(SliceLine(p.seq, p.start, len(p.tokens), p.sample) for p in plan.slices)
        for plan in house.runner.plans
    ]
    assert [step.slices for step in memory.steps] == planned
    assert [step.ended for step in memory.steps] == [plan.ended for plan in house.runner.plans]
    for number, (_, prompt, most, stops) in enumerate(asked):
        line = memory.requests[str(number)]
        answer = reference(prompt, max_tokens=most, stop=(3, 4) if stops else ())
        assert line.output_tokens == len(answer)
        assert len(recorded_tokens(line, 4)) == len(prompt) + len(answer)
        assert line.step <= line.end_step
    kinds = [type(line) for line in memory.lines]
    assert kinds.count(EngineLine) == 1
    assert kinds.count(StepLine) == len(planned)
