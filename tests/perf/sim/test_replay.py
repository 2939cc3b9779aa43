"""A recording planned anew gives the same plans, and a difference is found and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headway.config import PolicyName
from headway.errors import InvalidRequest
from headway.perf.sim.replay import measured, predict, recorded_workload, replay
from headway.recording.format import Recording
from headway.scheduling.drafts import Proposer
from headway.scheduling.speculation.paying import PayingDrafts
from headway.scheduling.speculation.speculation import Speculation
from headway.types.engine import PolicyConfig
from tests.perf.sim.setups import profile_of
from tests.recording.engine import recorded_harness
from tests.scheduling.harness import EngineHarness, limits_of, request_of
from tests.scheduling.proposers import Guesser
from tests.scheduling.speculation.machines import KnownTimes
from tests.scheduling.test_every_policy import Scene, every_shipped_policy, modest, scenes

LONG = tuple(range(16))


def recorded(
    scene: Scene,
    policy: PolicyName,
    proposer: Proposer | None = None,
    speculation: Speculation | None = None,
) -> Recording:
    """What a recorder wrote of a random afternoon."""
    harness, memory = recorded_harness(
        policy=policy,
        proposer=proposer,
        speculation=speculation,
        blocks=scene.blocks,
        limits=scene.limits,
        prefix_caching=scene.prefix_caching,
    )
    coming = list(scene.arrivals)
    for step in range(21):
        while coming and coming[0][0] <= step:
            harness.add(coming.pop(0)[1])
        if step in scene.aborts:
            harness.abort(scene.aborts[step])
        harness.step()
    harness.drain()
    return memory.recording


@every_shipped_policy
@settings(modest, max_examples=40)
@given(scene=scenes())
def test_every_plan_is_the_recorded_one(policy: PolicyName, scene: Scene) -> None:
    recording = recorded(scene, policy)
    outcome = replay(recording)
    assert outcome.difference is None
    assert outcome.steps == outcome.recorded == len(recording.steps)


def a_recording(*, lengths: tuple[int, ...] = (3, 9, 5), **options: int) -> Recording:
    harness, memory = recorded_harness(**options)
    _ask(harness, lengths)
    harness.drain()
    return memory.recording


def _ask(harness: EngineHarness, lengths: tuple[int, ...]) -> None:
    for number, length in enumerate(lengths):
        prompt = (*LONG, *([number] * (number + 1)))
        harness.add(request_of(f"r{number}", prompt=prompt, max_tokens=length, seed=number))
        harness.step()


def _changed(recording: Recording, **changes: Any) -> Recording:
    """The recording with another scheduler in its header."""
    scheduler = replace(recording.engine.scheduler, **changes)
    return replace(recording, engine=replace(recording.engine, scheduler=scheduler))


def test_another_scheduler_than_the_recorded_one_is_found_out() -> None:
    recording = a_recording()
    outcome = replay(_changed(recording, limits=limits_of(seqs=1)))
    assert not outcome.identical
    assert outcome.steps < outcome.recorded
    assert outcome.difference is not None
    assert outcome.difference.startswith(f"step {outcome.steps + 1}: ")


def test_a_changed_step_is_found_where_it_is() -> None:
    recording = a_recording()
    for place, change in (
        (2, {"slices": recording.steps[1].slices}),
        (3, {"ended": (77,)}),
        (1, {"idle_slots": 9}),
        (1, {"waiting": 9}),
    ):
        steps = list(recording.steps)
        steps[place] = replace(steps[place], **change)
        outcome = replay(replace(recording, steps=tuple(steps)))
        assert outcome.steps == place
        assert outcome.difference is not None
        assert f"step {place + 1}" in outcome.difference


def test_what_was_still_running_when_the_recording_ends_is_left_out() -> None:
    recording = a_recording()
    last = max(recording.requests, key=lambda line: line.seq)
    cut = replace(recording, requests=tuple(r for r in recording.requests if r is not last))
    outcome = replay(cut)
    assert outcome.identical
    assert outcome.steps < outcome.recorded


def test_a_policy_that_there_is_not_is_refused() -> None:
    recording = a_recording()
    with pytest.raises(InvalidRequest, match="oracle"):
        replay(_changed(recording, policy=PolicyConfig(name="oracle")))
    with pytest.raises(InvalidRequest, match="static has no 'wait'"):
        replay(_changed(recording, policy=PolicyConfig(name="static", options={"wait": 1.0})))


def test_the_recorded_workload_keeps_lengths_times_and_shared_beginnings() -> None:
    recording = a_recording()
    requests = recorded_workload(recording).requests
    assert [request.output for request in requests] == [3, 9, 5]
    assert [request.prompt_tokens for request in requests] == [17, 18, 19]
    assert len({request.segments[:4] for request in requests}) == 1, (
        "four blocks of 16 equal tokens"
    )
    assert len({request.segments[4:] for request in requests}) == 3


def test_an_answer_that_stopped_may_be_longer_as_far_as_the_scheduler_knows() -> None:
    harness, memory = recorded_harness()
    harness.add(request_of(prompt=(1, 2, 3), max_tokens=40, stop=tuple(range(25))))
    harness.drain()
    (request,) = recorded_workload(memory.recording).requests
    assert request.cap == 40
    assert 1 <= request.output < 40


def test_a_run_whose_steps_take_what_the_profile_says_is_predicted_exactly() -> None:
    recording = a_recording()
    # On the recorded clock every step is over a second and a quarter after it began.
    coefficients = replace(profile_of().coefficients, fixed=1250.0)
    steps = [replace(s, at=1.25 * n, cycle=1.25) for n, s in enumerate(recording.steps)]
    requests = [
        replace(line, arrival=1.25 * (line.step - 1) - (0.5 if line.step > 1 else 0.0))
        for line in recording.requests
    ]
    even = replace(recording, steps=tuple(steps), requests=tuple(requests))
    outcome = predict(even, profile_of(coefficients))
    records, duration, gaps = measured(even)
    assert duration == outcome.duration
    assert dict(gaps) == dict(outcome.gaps)
    for real, simulated in zip(records, outcome.records, strict=True):
        assert (real.sent, real.ttft, real.latency) == (
            simulated.sent,
            simulated.ttft,
            simulated.latency,
        )
        assert real.cached_tokens == simulated.cached_tokens
        assert real.output_tokens == simulated.output_tokens


@every_shipped_policy
@settings(modest, max_examples=20)
@given(scene=scenes(aborts=False), seed=st.integers(0, 9))
def test_drafts_are_recorded_and_planned_again(policy: PolicyName, scene: Scene, seed: int) -> None:
    recording = recorded(scene, policy, Guesser(seed))
    # Without any draft a recording does not say that there was who could have proposed some.
    assume(any(step.given for step in recording.steps))
    assert replay(recording).difference is None
    given = {line.seq: line.output_tokens for line in recording.requests}
    records, _, _ = measured(recording)
    assert sorted(each.output_tokens for each in records) == sorted(given.values())
    drafts = sum(p.outputs - 1 for step in recording.steps for p in step.slices if p.outputs > 1)
    assert sum(each.draft_tokens for each in records) <= drafts
    for each in records:
        assert each.accepted_tokens <= min(each.draft_tokens, max(0, each.output_tokens - 1))


@every_shipped_policy
@settings(modest, max_examples=20)
@given(scene=scenes(), seed=st.integers(0, 9))
def test_drafts_that_were_chosen_are_planned_again(
    policy: PolicyName, scene: Scene, seed: int
) -> None:
    """What was known of drafts and of seconds when they were chosen is not recorded."""
    rule = PayingDrafts(KnownTimes(lambda tokens: 1.0 + 0.05 * tokens))
    recording = recorded(scene, policy, speculation=Speculation([Guesser(seed)], rule))
    assume(any(step.given for step in recording.steps))
    assert replay(recording).difference is None
