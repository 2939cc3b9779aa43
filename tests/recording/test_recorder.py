"""A recording tells what the engine did: every plan, every request, and no time spent waiting."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headway.recording.format import EngineLine, RequestLine, SliceLine, StepLine, recorded_tokens
from headway.recording.recorder import STEPS_WRITTEN_TOGETHER
from tests.recording.engine import STEP_SECONDS, recorded_harness
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import limits_of, request_of

CYCLE = STEP_SECONDS + 1.0


def test_steps_are_told_as_they_were_planned() -> None:
    harness, memory = recorded_harness()
    harness.add(request_of(prompt=(1, 2, 3, 4, 5), max_tokens=3))
    harness.drain()
    assert [step.slices for step in memory.steps] == [
        (SliceLine(1, 0, 5, 1),),
        (SliceLine(1, 5, 1, 1),),
        (SliceLine(1, 6, 1, 1),),
    ]
    assert [step.at for step in memory.steps] == [0.0, CYCLE, 2 * CYCLE]
    assert [step.run for step in memory.steps] == [0.5, 0.5, 0.5]


def test_a_cycle_lasts_to_the_next_plan_and_the_last_one_to_the_end_of_its_step() -> None:
    harness, memory = recorded_harness()
    harness.add(request_of(max_tokens=2))
    harness.drain()
    harness.clock.seconds += 100.0
    harness.add(request_of("b", max_tokens=1))
    harness.drain()
    assert [step.cycle for step in memory.steps] == [CYCLE, STEP_SECONDS, STEP_SECONDS]


def test_a_wait_that_the_policy_wants_is_in_no_cycle() -> None:
    harness, memory = recorded_harness(policy="dynamic", wait=30.0, limits=limits_of(seqs=2))
    harness.add(request_of("a", max_tokens=1))
    harness.drain()
    harness.add(request_of("b", max_tokens=1, arrival=harness.clock.seconds))
    harness.drain()
    assert [step.cycle for step in memory.steps] == [STEP_SECONDS, STEP_SECONDS]
    assert memory.steps[1].at - memory.steps[0].at > 30.0


def test_a_request_is_told_when_it_has_ended() -> None:
    harness, memory = recorded_harness()
    request = request_of("a", prompt=(7, 8), max_tokens=2, priority=3, group="g", arrival=0.125)
    harness.add(replace(request, tenant="t", caller="c"))
    harness.step()
    harness.add(request_of("b", prompt=(1, 2, 3), max_tokens=1, stop=(99,)))
    harness.drain()
    first, second = memory.requests["a"], memory.requests["b"]
    assert (first.seq, first.step, first.end_step) == (1, 1, 2)
    assert (first.prompt_tokens, first.output_tokens, first.max_tokens) == (2, 2, 2)
    assert (first.priority, first.group, first.arrival, first.finish) == (3, "g", 0.125, "length")
    assert (first.tenant, first.caller, second.tenant, second.caller) == ("t", "c", "", "")
    assert (second.seq, second.step, second.end_step) == (2, 2, 2)
    assert (first.stops, second.stops) == (False, True)


def test_a_refused_request_has_no_sequence() -> None:
    harness, memory = recorded_harness()
    harness.add(request_of("a", prompt=()))
    harness.add(request_of("b"))
    harness.engine.add(request_of("b"))
    harness.drain()
    refused = [line for line in memory.lines if isinstance(line, RequestLine) and line.seq == 0]
    assert [(line.id, line.finish, line.end_step) for line in refused] == [
        ("a", "error", 0),
        ("b", "error", 0),
    ]
    assert memory.requests["b"].seq == 1


def test_a_request_that_was_complete_takes_a_number_and_no_step() -> None:
    harness, memory = recorded_harness()
    harness.add(request_of("a", max_tokens=2, generated=(5, 6)))
    harness.add(request_of("b", max_tokens=3, generated=(5,)))
    harness.drain()
    line = memory.requests["a"]
    assert (line.seq, line.end_step, line.resumed, line.output_tokens) == (1, 0, 2, 2)
    resumed = memory.requests["b"]
    assert (resumed.seq, resumed.resumed, resumed.output_tokens) == (2, 1, 3)
    assert memory.steps[0].slices == (SliceLine(2, 0, 4, 1),)


def test_an_abort_ends_the_cycle_and_the_request() -> None:
    harness, memory = recorded_harness()
    harness.add(request_of("a", max_tokens=9))
    harness.step()
    harness.abort("a")
    harness.abort("nobody")
    line = memory.requests["a"]
    assert (line.finish, line.end_step, line.output_tokens) == ("abort", 1, 1)
    assert [step.cycle for step in memory.steps] == [CYCLE]
    harness.add(request_of("b", max_tokens=1))
    harness.step()
    assert memory.steps[-1].ended == (1,)


def test_digests_are_of_full_blocks_and_shared_with_equal_beginnings() -> None:
    harness, memory = recorded_harness(block_size=4)
    prompt = tuple(range(10))
    harness.add(request_of("a", prompt=prompt, max_tokens=3))
    harness.add(request_of("b", prompt=(*prompt[:8], 40), max_tokens=1))
    harness.add(request_of("c", prompt=prompt, max_tokens=1, cache_salt="apart"))
    harness.drain()
    first, second, third = (memory.requests[name].hashes for name in "abc")
    assert len(first) == 3
    assert second == first[:2]
    assert not set(third) & set(first)
    assert all(len(digest) == 16 for digest in first)


def test_digests_of_a_resumed_request_are_those_of_the_whole_one() -> None:
    harness, memory = recorded_harness(block_size=4)
    prompt = tuple(range(6))
    made = tuple(reference(prompt, max_tokens=7))
    harness.add(request_of("whole", prompt=prompt, max_tokens=7))
    harness.drain()
    harness.add(request_of("resumed", prompt=prompt, max_tokens=7, generated=made[:3]))
    harness.add(request_of("complete", prompt=prompt, max_tokens=7, generated=made))
    harness.drain()
    whole = memory.requests["whole"].hashes
    assert len(whole) == 3  # 6 and 7 tokens, in blocks of 4
    assert memory.requests["resumed"].hashes == whole
    assert memory.requests["complete"].hashes == whole


def test_without_prefix_caching_only_groups_have_digests() -> None:
    harness, memory = recorded_harness(prefix_caching=False)
    harness.add(request_of("a", prompt=tuple(range(8)), max_tokens=1))
    harness.add(request_of("b", prompt=tuple(range(8)), max_tokens=1, group="g"))
    harness.drain()
    assert memory.requests["a"].hashes == ()
    assert len(memory.requests["b"].hashes) == 2


def test_lines_are_flushed_when_there_is_nothing_to_do_and_every_second() -> None:
    harness, memory = recorded_harness()
    assert memory.flushed == [1]
    harness.add(request_of(max_tokens=3))
    for _ in range(3):
        harness.step()
    # The second and the third step began more than a second after the flush before them.
    assert memory.flushed[1:] == [2, 4, 5]
    assert len(memory.lines) == 5


def test_short_steps_are_kept_and_told_together_but_not_many() -> None:
    harness, memory = recorded_harness(step_seconds=0.001)
    harness.add(request_of(max_tokens=50))
    told = []
    for _ in range(50):
        harness.engine.step()
        told.append(len(memory.steps))
    assert all(step - count <= STEPS_WRITTEN_TOGETHER + 1 for step, count in enumerate(told, 1))
    assert (
        len(set(told)) == 50 // STEPS_WRITTEN_TOGETHER + 2
    )  # none, every sixteen, and all when idle
    assert [step.step for step in memory.steps] == list(range(1, 51))


def test_an_id_that_comes_again_before_its_end_was_told_is_another_request() -> None:
    harness, memory = recorded_harness(step_seconds=0.001)
    harness.add(request_of("other", max_tokens=9))
    for most in (1, 2):
        harness.engine.add(request_of("again", max_tokens=most))
        for _ in range(most):
            harness.engine.step()
    harness.engine.abort("other")
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
    harness, memory = recorded_harness(
        step_seconds=0.001, blocks=14, prefix_caching=caching, first_guess=1
    )
    harness.pause = pause
    for number, (wait, prompt, most, stops) in enumerate(asked):
        for _ in range(wait):
            harness.step()
        harness.add(
            request_of(
                str(number), prompt=tuple(prompt), max_tokens=most, stop=(3, 4) if stops else ()
            )
        )
    harness.drain()
    planned = [
        tuple(SliceLine(p.seq, p.start, len(p.tokens), p.outputs) for p in plan.slices)
        for plan in harness.runner.plans
    ]
    assert [step.slices for step in memory.steps] == planned
    assert [step.ended for step in memory.steps] == [plan.ended for plan in harness.runner.plans]
    for number, (_, prompt, most, stops) in enumerate(asked):
        line = memory.requests[str(number)]
        answer = reference(prompt, max_tokens=most, stop=(3, 4) if stops else ())
        assert line.output_tokens == len(answer)
        assert len(recorded_tokens(line, 4)) == len(prompt) + len(answer)
        assert line.step <= line.end_step
    kinds = [type(line) for line in memory.lines]
    assert kinds.count(EngineLine) == 1
    assert kinds.count(StepLine) == len(planned)
