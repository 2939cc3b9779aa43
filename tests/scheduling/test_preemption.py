"""Preemption when guesses were wrong: how often, whom it hits, and what it must not lose."""

from __future__ import annotations

from headway.types import Request
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of

LONG = 40


def never_ending(
    name: str, arrival: float, *, priority: int = 0, prompt_logprobs: int | None = None
) -> Request:
    """May stop early as far as the scheduler knows, but uses all its tokens."""
    return request_of(
        name,
        prompt=(1, 2, int(arrival) + 3),
        max_tokens=LONG,
        stop=(-1,),
        arrival=arrival,
        priority=priority,
        prompt_logprobs=prompt_logprobs,
    )


def crowded(requests: list[Request], *, blocks: int = 16) -> tuple[EngineHarness, dict[str, int]]:
    """A harness in which every guess is far too short; and how often each was preempted."""
    harness = make_harness(
        blocks=blocks, block_size=4, limits=limits_of(seqs=8, model_len=64), first_guess=1
    )
    harness.add(*requests)
    preempted: dict[str, int] = {}
    sequences = list(harness.scheduler._queues.live.values())
    harness.drain()
    for seq in sequences:
        preempted[seq.request.id] = seq.preemptions
    return harness, preempted


def test_nobody_is_preempted_more_than_three_times() -> None:
    # Without the limit, three of these sequences are preempted four times.
    requests = [never_ending(f"r{number}", float(number)) for number in range(16)]
    harness, preempted = crowded(requests, blocks=17)
    assert max(preempted.values()) == 3
    assert harness.scheduler.stats().preemptions == sum(preempted.values())
    assert harness.preemptions == preempted
    for request in requests:
        assert harness.tokens[request.id] == reference(request.prompt, max_tokens=LONG)


def test_the_oldest_is_never_preempted() -> None:
    _, preempted = crowded([never_ending(f"r{number}", float(number)) for number in range(6)])
    assert preempted["r0"] == 0


def test_the_urgent_are_spared() -> None:
    requests = [never_ending(f"r{number}", float(number)) for number in range(5)]
    requests.append(never_ending("urgent", 9.0, priority=-1))
    _, preempted = crowded(requests)
    assert preempted["urgent"] == 0
    assert sum(preempted.values()) > 0


def test_prompt_logprobs_of_a_chunked_prompt_come_in_order_with_the_first_token() -> None:
    harness = make_harness(limits=limits_of(tokens=4))
    prompt = tuple(range(20, 31))
    harness.add(request_of(prompt=prompt, prompt_logprobs=0))
    harness.drain()
    assert [entry.token for entry in harness.firsts["a"].prompt_logprobs] == list(prompt[1:])


def test_prompt_logprobs_come_once_although_the_prompt_is_computed_again() -> None:
    requests = [never_ending(f"r{number}", float(number), prompt_logprobs=0) for number in range(6)]
    harness, preempted = crowded(requests)
    assert sum(preempted.values()) > 0
    for request in requests:
        first = harness.firsts[request.id]
        assert [entry.token for entry in first.prompt_logprobs] == list(request.prompt[1:])
