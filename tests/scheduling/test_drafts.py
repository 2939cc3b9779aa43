"""Drafts: however many a runner accepts, the sequences are those of one token a step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.admission import LengthEstimate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.fast_forward import FastForward
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.scheduler import Scheduler
from headway.scheduling.speculation.speculation import AllDrafts, Speculation
from headway.scheduling.stats import Idle
from headway.types import Sampled, StepPlan, StepResult, TokenEvent, TokenLogprobs
from tests.scheduling.fake_runner import VOCABULARY, reference
from tests.scheduling.harness import limits_of, make_harness, request_of
from tests.scheduling.proposers import Fixed, Guesser, Picky
from tests.scheduling.test_every_policy import (
    Scene,
    every_policy,
    modest,
    play,
    scenes,
    undisturbed,
)


@every_policy
@modest
@given(scene=scenes(aborts=False), seed=st.integers(0, 9))
def test_sequences_are_those_of_one_token_a_step(policy: str, scene: Scene, seed: int) -> None:
    harness, plain = play(scene, policy, Guesser(seed)), play(scene, policy)
    assert harness.tokens == plain.tokens
    for request in scene.requests:
        assert harness.tokens[request.id] == undisturbed(request)
        one, other = harness.ends[request.id], plain.ends[request.id]
        assert (one.finish, one.stop_reason) == (other.finish, other.stop_reason)


@every_policy
@modest
@given(scene=scenes(aborts=False), seed=st.integers(0, 9))
def test_what_is_computed_is_stored_once_but_for_drafts(
    policy: str, scene: Scene, seed: int
) -> None:
    harness = play(scene, policy, Guesser(seed))
    stats = harness.scheduler.stats()
    stored = sum(len(r.prompt) + len(harness.tokens[r.id]) - 1 for r in scene.requests)
    cached = sum(event.cached_tokens for event in harness.firsts.values())
    again = harness.runner.recomputed - harness.runner.hit_later
    wrong = stats.draft_tokens - stats.accepted_tokens
    assert stats.computed_tokens == harness.runner.computed
    assert stats.computed_tokens == stored - cached + again + wrong


@every_policy
@modest
@given(scene=scenes(), seed=st.integers(0, 9))
def test_aborts_and_drafts_lose_nothing(policy: str, scene: Scene, seed: int) -> None:
    harness = play(scene, policy, Guesser(seed))
    assert set(harness.ends) == {request.id for request in scene.requests}
    for request in scene.requests:
        got = harness.tokens.get(request.id, [])
        assert got == undisturbed(request)[: len(got)]


def test_right_drafts_come_in_one_event_and_save_steps() -> None:
    prompt = (1, 2, 3)
    truth = reference(prompt, max_tokens=9)
    harness = make_harness(proposer=Fixed(tuple(truth[1:4])))
    harness.add(request_of(prompt=prompt, max_tokens=9))
    harness.step()
    (event,) = _events(harness.engine.step())
    assert event.tokens == tuple(truth[1:5])
    plan = harness.runner.plans[-1]
    assert (plan.slices[0].outputs, plan.slices[0].tokens) == (4, tuple(truth[:4]))
    (seq,) = harness.scheduler._queues.running
    assert (seq.computed, len(seq.tokens)) == (3 + 4, 3 + 5)
    stats = harness.scheduler.stats()
    assert (stats.drafts, stats.draft_tokens, stats.accepted_tokens) == (1, 3, 3)
    assert stats.accepted_per_position[:4] == (1, 1, 1, 0)


@pytest.mark.parametrize(("drafts", "admitted"), [((), True), ((5,), False)])
def test_only_where_there_are_drafts_do_sequences_count_with_all_they_may_become(
    drafts: tuple[int, ...], admitted: bool
) -> None:
    """A third sequence fits as the first is about to leave, if the second cannot get ahead."""
    harness = make_harness(proposer=Fixed(drafts), blocks=28)
    for name, steps in (("a", 18), ("b", 20), ("c", 1)):
        harness.add(request_of(name, prompt=(ord(name) - 90,), max_tokens=40))
        for _ in range(steps):
            harness.step()
    assert {"a", "b"} == harness.tokens.keys() - {"c"}
    assert "a" not in harness.ends
    assert ("c" in harness.tokens) == admitted
    harness.drain()


def test_wrong_drafts_are_taken_back() -> None:
    prompt = (1, 2, 3)
    truth = reference(prompt, max_tokens=9)
    wrong = (truth[2] + 1) % VOCABULARY
    harness = make_harness(proposer=Fixed((truth[1], wrong, truth[3])))
    harness.add(request_of(prompt=prompt, max_tokens=9))
    harness.step()
    (event,) = _events(harness.engine.step())
    assert event.tokens == (truth[1], truth[2])
    (seq,) = harness.scheduler._queues.running
    assert (seq.computed, len(seq.tokens)) == (3 + 2, 3 + 3)
    assert harness.scheduler.stats().accepted_per_position[:2] == (1, 0)
    harness.hear([event])
    harness.drain()
    assert harness.tokens["a"][-6:] == truth[-6:]


def test_a_stop_token_cuts_what_was_accepted() -> None:
    prompt = (1, 2, 3)
    truth = reference(prompt, max_tokens=9)
    stop = next(token for n, token in enumerate(truth) if n > 1 and token not in truth[:n])
    at = truth.index(stop)
    harness = make_harness(proposer=Fixed(tuple(truth[1:8])))
    harness.add(request_of(prompt=prompt, max_tokens=9, stop=(stop,)))
    harness.step()
    (event,) = _events(harness.engine.step())
    assert event.tokens == tuple(truth[1 : at + 1])
    assert (event.finish, event.stop_reason) == ("stop", stop)
    assert harness.scheduler.pool.free == harness.scheduler.pool.num_blocks


def test_accepted_blocks_are_hit_by_the_next_request() -> None:
    prompt = tuple(range(6))
    truth = reference(prompt, max_tokens=9)
    harness = make_harness(proposer=Fixed(tuple(truth[1:9])))
    harness.add(request_of(prompt=prompt, max_tokens=9))
    harness.drain()
    assert len(harness.runner.plans) == 2
    harness.add(request_of("b", prompt=(*prompt, *truth), max_tokens=1))
    harness.drain()
    assert harness.firsts["b"].cached_tokens == 12  # of 14 that were computed, in blocks of 4


def test_logprobs_are_those_of_the_tokens_that_count() -> None:
    scheduler = _decoding(Fixed((5, 5)), stop=(6,))
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    logprobs = tuple(TokenLogprobs(token=t, logprob=-1.0, rank=1) for t in (5, 6, 7))
    sampled = Sampled(seq=1, tokens=(5, 6, 7), logprobs=logprobs)
    (event,) = scheduler.commit(plan, StepResult(step=plan.step, sampled=[sampled]), 0.0)
    assert (event.tokens, event.logprobs) == ((5, 6), logprobs[:2])


@pytest.mark.parametrize("tokens", [(), (5, 5, 5, 5)])
def test_as_many_tokens_as_outputs_at_most(tokens: tuple[int, ...]) -> None:
    scheduler = _decoding(Fixed((5, 5)))
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    result = StepResult(step=plan.step, sampled=[Sampled(seq=1, tokens=tokens)])
    with pytest.raises(ValueError, match="3 outputs"):
        scheduler.commit(plan, result, 0.0)


def test_drafts_are_within_the_step_the_length_and_the_free_blocks() -> None:
    cases = [
        ({"limits": limits_of(tokens=3)}, 20, 2),
        ({}, 5, 3),  # the last token is never fed back
        ({"blocks": 2}, 5, 3),
        ({"blocks": 9}, 20, 8),
    ]
    for options, most, expected in cases:
        harness = make_harness(proposer=Fixed((0,) * 8), **options)  # type: ignore[arg-type]
        harness.add(request_of(max_tokens=most))
        harness.step()
        harness.step()
        assert harness.runner.plans[1].slices[0].outputs == 1 + expected


def test_steps_with_drafts_are_not_skipped() -> None:
    assert _decoding(Fixed((5,))).fast_forward_steps(0.0, 9) == FastForward(0)


def _decoding(proposer: Fixed, *, stop: tuple[int, ...] = ()) -> Scheduler:
    scheduler = Scheduler(
        policy=Continuous(),
        pool=BlockPool(num_blocks=9, block_size=4),
        limits=limits_of(),
        lengths=LengthEstimate(),
        speculation=Speculation([proposer], AllDrafts()),
    )
    scheduler.add(request_of(max_tokens=20, stop=stop))
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    scheduler.commit(plan, StepResult(step=1, sampled=[Sampled(seq=1, tokens=(5,))]), 0.0)
    return scheduler


def _events(news: list[TokenEvent] | Idle) -> list[TokenEvent]:
    assert isinstance(news, list)
    return news


def test_only_those_that_may_have_drafts_are_asked_about() -> None:
    harness = make_harness(proposer=Picky((5,)))
    for seed in (0, 1):
        harness.add(request_of(str(seed), prompt=(1, 2, 3 + seed), max_tokens=9, seed=seed))
    harness.step()
    harness.step()
    assert [part.outputs for part in harness.runner.plans[-1].slices] == [2, 1]
    harness.drain()


def test_only_steps_of_few_sequences_have_drafts() -> None:
    speculation = Speculation([Fixed((5,))], AllDrafts(), most_sequences=1)
    harness = make_harness(speculation=speculation)
    harness.add(request_of("a", prompt=(1, 2, 3), max_tokens=9))
    harness.step()
    harness.step()
    assert [part.outputs for part in harness.runner.plans[-1].slices] == [2]
    harness.add(request_of("b", prompt=(1, 2, 4), max_tokens=9))
    harness.step()
    harness.step()
    assert [part.outputs for part in harness.runner.plans[-1].slices] == [1, 1]
    harness.drain()
