"""A plain decode is committed in the loop, and nothing that makes it less plain is passed over."""

from __future__ import annotations

import pytest

from headway.scheduling.scheduler import Scheduler
from headway.types import Sampled, StepPlan, StepResult, TokenEvent, TokenLogprobs
from tests.scheduling.harness import make_harness, request_of
from tests.scheduling.proposers import Fixed

FIRST, SECOND = 5, 6


def decoding(max_tokens: int = 20, stop: tuple[int, ...] = ()) -> Scheduler:
    """Two sequences of 5 tokens, of which the first was generated, in blocks of 4."""
    scheduler = make_harness().scheduler
    for name, start in (("a", 10), ("b", 20)):
        prompt = tuple(range(start, start + 4))
        scheduler.add(request_of(name, prompt=prompt, max_tokens=max_tokens, stop=stop))
    told = step(scheduler, Sampled(seq=1, tokens=(FIRST,)), Sampled(seq=2, tokens=(FIRST,)))
    assert [event.scheduled_at for event in told] == [0.0, 0.0]
    return scheduler


def step(scheduler: Scheduler, *sampled: Sampled) -> list[TokenEvent]:
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    told = scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 1.0)
    scheduler.check()
    return told


def test_an_event_has_the_token_with_its_logprobs_and_nothing_else() -> None:
    scheduler = decoding()
    logprobs = (TokenLogprobs(token=SECOND, logprob=-1.0, rank=1),)
    told = step(
        scheduler,
        Sampled(seq=1, tokens=(SECOND,), logprobs=logprobs),
        Sampled(seq=2, tokens=(FIRST,)),
    )
    assert told == [
        TokenEvent(id="a", tokens=(SECOND,), logprobs=logprobs),
        TokenEvent(id="b", tokens=(FIRST,)),
    ]
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    assert [(part.start, tuple(part.tokens)) for part in plan.slices] == [(5, (6,)), (5, (5,))]
    assert scheduler.stats().computed_tokens == 10


def test_an_event_counts_the_drafts_and_those_that_were_right() -> None:
    scheduler = make_harness(proposer=Fixed((SECOND, 7, 9)), step_times=None).scheduler
    scheduler.add(request_of("a", prompt=(1, 2), max_tokens=40))
    (first,) = step(scheduler, Sampled(seq=1, tokens=(FIRST,)))
    assert (first.draft_tokens, first.accepted_tokens) == (0, 0)
    seen = 0
    for wanted in (2, 0, 3):
        plan = scheduler.plan(0.0)
        assert isinstance(plan, StepPlan)
        (part,) = plan.slices
        drafts = part.tokens[1:]
        right = drafts[:wanted]
        sampled = Sampled(seq=1, tokens=(*right, 8))
        (event,) = scheduler.commit(plan, StepResult(step=plan.step, sampled=[sampled]), 1.0)
        assert event.tokens == (*right, 8)
        assert (event.draft_tokens, event.accepted_tokens) == (len(drafts), len(right))
        seen += len(drafts)
    assert seen == scheduler.stats().draft_tokens > 0


def test_a_stop_token_the_last_token_and_an_error_end_a_sequence() -> None:
    stopped, going = step(
        decoding(stop=(SECOND,)), Sampled(seq=1, tokens=(SECOND,)), Sampled(seq=2, tokens=(FIRST,))
    )
    assert (stopped.finish, stopped.stop_reason, going.finish) == ("stop", SECOND, None)
    scheduler = decoding(max_tokens=2)
    full = step(scheduler, Sampled(seq=1, tokens=(SECOND,)), Sampled(seq=2, error="it broke"))
    assert [(event.finish, event.error) for event in full] == [
        ("length", None),
        ("error", "it broke"),
    ]
    assert not scheduler.has_work
    (last, _) = step(decoding(max_tokens=3), *(Sampled(seq=n, tokens=(SECOND,)) for n in (1, 2)))
    assert last.finish is None


def test_the_decode_that_fills_a_block_makes_it_a_hit() -> None:
    scheduler = decoding()
    for token in (30, 31, 32, 33):
        assert scheduler.pool.cached == 0
        step(scheduler, Sampled(seq=1, tokens=(token,)), Sampled(seq=2, tokens=(token,)))
    scheduler.abort("a")
    assert scheduler.pool.cached == 2  # the prompt, and four generated tokens


def test_one_that_was_aborted_since_the_plan_is_passed_over() -> None:
    scheduler = decoding()
    plan = scheduler.plan(0.0)
    assert isinstance(plan, StepPlan)
    scheduler.abort("a")
    sampled = [Sampled(seq=number, tokens=(SECOND,)) for number in (1, 2)]
    told = scheduler.commit(plan, StepResult(step=plan.step, sampled=sampled), 1.0)
    assert [event.id for event in told] == ["b"]


def test_a_result_in_another_order_is_refused() -> None:
    sampled = [Sampled(seq=number, tokens=(SECOND,)) for number in (2, 1)]
    with pytest.raises(ValueError, match="sequence 1 sampled, 2 came back"):
        step(decoding(), *sampled)


def test_an_error_in_the_middle_ends_a_sequence() -> None:
    failed, going = step(
        decoding(), Sampled(seq=1, error="it broke"), Sampled(seq=2, tokens=(FIRST,))
    )
    assert (failed.finish, failed.error, going.finish) == ("error", "it broke", None)


def test_a_preemption_is_told_though_but_one_token_was_computed_again() -> None:
    scheduler = decoding()
    queues = scheduler._queues
    queues.preempt(queues.by_request["a"])
    again = [Sampled(seq=number, tokens=(SECOND,)) for number in (2, 1)]
    told = step(scheduler, *again)
    assert [(event.id, event.preemptions) for event in told] == [("b", 0), ("a", 1)]
