"""The mechanism by example: refusals, ends, prefix hits, held sequences, preemption."""

from __future__ import annotations

import math

import pytest

from headway.errors import InvalidRequest, RequestTooLarge
from headway.scheduling.admission import LengthEstimate, peak_blocks
from headway.scheduling.sequence import new_sequence, token_event
from headway.types.objectives import parse_objectives
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import limits_of, make_harness, request_of

LONG = tuple(range(16))


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "field"),
    [(256, 1, "prompt"), (250, 7, "max_tokens"), (40, 10, "prompt"), (10, 40, "max_tokens")],
)
def test_what_can_never_fit_is_refused_on_arrival(prompt: int, max_tokens: int, field: str) -> None:
    harness = make_harness(blocks=8)  # 32 tokens
    request = request_of(prompt=(1,) * prompt, max_tokens=max_tokens)
    with pytest.raises(RequestTooLarge) as refusal:
        harness.scheduler.add(request)
    assert refusal.value.field == field


def test_what_just_fits_is_served() -> None:
    harness = make_harness(blocks=8)
    harness.add(request_of(prompt=(1,) * 23, max_tokens=10))  # the last token is not stored
    harness.drain()
    assert len(harness.tokens["a"]) == 10


def test_an_empty_prompt_and_an_id_in_use_are_refused() -> None:
    harness = make_harness()
    with pytest.raises(InvalidRequest, match="empty"):
        harness.scheduler.add(request_of(prompt=()))
    harness.add(request_of())
    with pytest.raises(InvalidRequest, match="is running"):
        harness.scheduler.add(request_of())


def test_a_stop_token_on_the_last_place_is_a_stop() -> None:
    last = reference((1, 2, 3), max_tokens=3)[-1]
    before = reference((1, 2, 3), max_tokens=3)[:-1]
    assert last not in before
    harness = make_harness()
    harness.add(request_of(max_tokens=3, stop=(last,)))
    harness.drain()
    assert (harness.ends["a"].finish, harness.ends["a"].stop_reason) == ("stop", last)
    assert harness.tokens["a"] == [*before, last]


def test_a_resumed_request_that_was_complete_ends_at_once() -> None:
    harness = make_harness()
    harness.add(request_of(max_tokens=2, generated=(5, 6)))
    assert harness.ends["a"].finish == "length"
    assert not harness.engine.has_work


def test_a_repeated_prompt_hits_all_but_its_last_block() -> None:
    harness = make_harness()
    for name in ("a", "b"):
        harness.add(request_of(name, prompt=LONG, max_tokens=1))
        harness.drain()
    stats = harness.engine.stats()
    assert harness.firsts["b"].cached_tokens == 12
    assert (stats.prefix_queries, stats.prefix_hits) == (32, 12)


def test_other_salts_and_prompt_logprobs_do_not_hit() -> None:
    harness = make_harness()
    harness.add(request_of("a", prompt=LONG, max_tokens=1))
    harness.drain()
    harness.add(request_of("b", prompt=LONG, max_tokens=1, cache_salt="mine"))
    harness.add(request_of("c", prompt=LONG, max_tokens=1, prompt_logprobs=0))
    harness.drain()
    assert harness.firsts["b"].cached_tokens == harness.firsts["c"].cached_tokens == 0
    assert harness.engine.stats().prefix_queries == 32  # the third does not even ask


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_a_group_computes_its_prompt_once(prefix_caching: bool) -> None:
    harness = make_harness(prefix_caching=prefix_caching, limits=limits_of(tokens=8))
    prompt = (*LONG, 99)
    for copy in range(4):
        harness.add(request_of(f"a-{copy}", prompt=prompt, max_tokens=1, seed=copy, group="a"))
    harness.drain()
    assert harness.runner.computed == 17 + 3  # the others compute their last token only


def test_without_prefix_caching_strangers_share_nothing() -> None:
    harness = make_harness(prefix_caching=False)
    for name in ("a", "b"):
        harness.add(request_of(name, prompt=LONG, max_tokens=1))
        harness.drain()
    assert harness.runner.computed == 32
    assert harness.engine.stats().prefix_queries == 0


def test_followers_go_on_when_their_leader_is_aborted() -> None:
    harness = make_harness(limits=limits_of(tokens=4))
    for name in ("leader", "second", "third"):
        harness.add(request_of(name, prompt=LONG, max_tokens=2))
    harness.step()
    harness.abort("leader")
    harness.drain()
    assert harness.tokens["second"] == harness.tokens["third"] == reference(LONG, max_tokens=2)
    assert harness.runner.computed == 16 + 4 + 2  # the sealed block, the rest once, a tail, decodes


def test_one_that_is_more_urgent_than_its_leader_waits_for_it_and_hits() -> None:
    harness = make_harness(limits=limits_of(tokens=8))
    prompt = tuple(range(20))
    harness.add(request_of("leader", prompt=prompt, max_tokens=2, priority=1))
    harness.step()
    harness.add(request_of("urgent", prompt=prompt, max_tokens=2, arrival=1.0))
    harness.drain()
    read = [(part.seq, part.start) for plan in harness.runner.plans for part in plan.slices]
    assert [start for seq, start in read if seq == 1] == [0, 8, 16, 20]
    assert next(start for seq, start in read if seq == 2) == 16
    assert harness.tokens["urgent"] == harness.tokens["leader"]


def test_a_wrong_guess_costs_the_latest_a_preemption_and_nobody_a_token() -> None:
    harness = make_harness(blocks=8, first_guess=1)
    for index in range(3):
        harness.add(request_of(str(index), prompt=(index,) * 4, max_tokens=20, stop=(-1,)))
    harness.drain()
    assert harness.engine.stats().preemptions > 0
    assert list(harness.ends) == ["0", "1", "2"], "the older never lose to the younger"
    for index in range(3):
        assert harness.tokens[str(index)] == reference((index,) * 4, max_tokens=20)


def test_bad_contents_are_not_hit() -> None:
    harness = make_harness(spoiled=lambda entry: entry.sampling.seed == 1)
    harness.add(request_of("bad", prompt=LONG, max_tokens=1, seed=1))
    harness.drain()
    harness.add(request_of("good", prompt=LONG, max_tokens=1))
    harness.drain()
    assert harness.ends["bad"].finish == "error"
    assert harness.firsts["good"].cached_tokens == 0


def test_aborting_the_unknown_is_nothing() -> None:
    assert make_harness().scheduler.abort("nobody") is None


def test_peak_lies_at_a_departure() -> None:
    # 1-token blocks: 2 stored and 1 to go, 1 stored and 5 to go: 3 + 2 at first, 6 at the end.
    assert peak_blocks([(1, 2), (5, 1)], 1) == 6
    assert peak_blocks([(1, 9), (5, 1)], 1) == 12
    assert peak_blocks([], 4) == 0


def test_lengths_are_learnt_from_enough_endings() -> None:
    lengths = LengthEstimate(first_guess=100)
    assert lengths.remaining(0) == 100
    for length in range(1, 11):
        lengths.learn(length)
    assert lengths.remaining(0) == 8
    assert lengths.remaining(20) == 10


def due_after(
    *, first: float, tokens: int, ttft: float = 10.0, generated: tuple[int, ...] = ()
) -> float:
    """When the token after `tokens` is due; it arrived at 0 and had its first at `first`."""
    objectives = parse_objectives(f"ttft={ttft}s,tpot=1s")
    request = request_of(max_tokens=99, objectives=objectives, generated=generated)
    seq = new_sequence(1, request, prefix_caching=False)
    assert seq.due == math.inf
    for number in range(tokens):
        seq.tokens.append(5)
        token_event(seq, (5,), (), None, first + 0.5 * number)
    return seq.due


def test_tokens_are_due_by_tpot_from_the_first_on() -> None:
    assert due_after(first=2.0, tokens=1) == 3.0, "an early first token banks no time"
    assert due_after(first=12.0, tokens=1) == 11.0, "a late one moves nothing"
    assert due_after(first=2.0, tokens=5) == 7.0, "fast tokens do"
    assert due_after(first=2.0, tokens=1, generated=(1, 2, 3)) == 3.0
    assert new_sequence(1, request_of(), prefix_caching=False).due == math.inf
