"""Memory that is set aside whole on admitted, as engines without paging do."""

from __future__ import annotations

from hypothesis import given

from headway.config import PolicyName
from headway.scheduling.admission import blocks_for
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of
from tests.scheduling.test_every_policy import (
    Scene,
    every_shipped_policy,
    modest,
    scenes,
    undisturbed,
)

BLOCK = 4


def promised(harness: EngineHarness) -> int:
    """Blocks that everybody on board will hold if nobody stops early."""
    return sum(
        blocks_for(seq.full_length - 1, BLOCK)
        for seq in harness.scheduler._queues.running.sequences
    )


def reserving(scene: Scene, policy: PolicyName) -> EngineHarness:
    return make_harness(
        policy,
        blocks=scene.blocks,
        block_size=BLOCK,
        limits=scene.limits,
        prefix_caching=scene.prefix_caching,
        first_guess=scene.first_guess,
        reserve_all=True,
    )


@every_shipped_policy
@modest
@given(scene=scenes(aborts=False))
def test_what_is_promised_fits_and_nobody_is_preempted(policy: PolicyName, scene: Scene) -> None:
    harness = reserving(scene, policy)
    coming = list(scene.arrivals)
    for step in range(21):
        while coming and coming[0][0] <= step:
            harness.add(coming.pop(0)[1])
        harness.step()
        assert promised(harness) <= scene.blocks
    harness.drain()
    stats = harness.scheduler.stats()
    assert stats.preemptions == stats.gave_way  # memory never was the reason
    for request in scene.requests:
        assert harness.tokens[request.id] == undisturbed(request)


def together(*, reserve_all: bool, max_tokens: int = 20) -> int:
    """How many of eight requests board at once where each is expected to stop after a token."""
    harness = make_harness(
        blocks=14,
        block_size=BLOCK,
        limits=limits_of(seqs=8),
        prefix_caching=False,
        first_guess=1,
        reserve_all=reserve_all,
    )
    for number in range(8):
        harness.add(request_of(f"r{number}", max_tokens=max_tokens, stop=(-1,)))
    harness.step()
    return harness.scheduler.stats().running


def test_a_reservation_seats_as_many_as_whole_lengths_fit() -> None:
    # 3 prompt tokens and 20 to come, of which the last is not stored: 22 tokens are 6 blocks.
    assert together(reserve_all=True) == 2
    assert together(reserve_all=False) == 8


def test_a_reservation_of_short_answers_costs_nothing() -> None:
    assert together(reserve_all=True, max_tokens=2) == 8


def test_shared_prefixes_are_set_aside_for_each() -> None:
    harness = make_harness(blocks=6, block_size=BLOCK, limits=limits_of(seqs=4), reserve_all=True)
    prompt = tuple(range(9))
    harness.add(request_of("first", prompt=prompt, max_tokens=4))
    harness.drain()
    harness.add(*(request_of(f"r{n}", prompt=prompt, max_tokens=4) for n in range(3)))
    harness.step()
    # Three of 12 stored tokens each: two are admitted, though all could share two blocks of three.
    assert harness.scheduler.stats().running == 2
    harness.drain()
    assert harness.scheduler.stats().prefix_hits > 0
