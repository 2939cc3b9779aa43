"""Who waits for whose prefix, and until when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.scheduling.block_pool import LOOKED_UP_AGAIN, BlockPool, PrefixCache
from headway.scheduling.sequence import Sequence, new_sequence
from tests.scheduling.harness import request_of

PROMPT = tuple(range(12))


@pytest.fixture
def prefixes() -> PrefixCache:
    return PrefixCache(BlockPool(num_blocks=16, block_size=4))


def held_at(prefixes: PrefixCache, seq: Sequence, step: int) -> bool:
    prefixes.attach(seq, step)
    return seq.deferred


def named(prefixes: PrefixCache, number: int) -> Sequence:
    request = request_of(str(number), prompt=PROMPT)
    seq = new_sequence(number, request, prefix_caching=True)
    prefixes.name(seq)
    return seq


def test_the_first_one_leads_and_the_next_is_held(prefixes: PrefixCache) -> None:
    leader, follower = named(prefixes, 1), named(prefixes, 2)
    assert not held_at(prefixes, leader, 1)
    assert held_at(prefixes, follower, 1)


def test_a_leader_without_a_token_in_a_step_is_not_waited_for_any_longer(
    prefixes: PrefixCache,
) -> None:
    leader, follower, third = (named(prefixes, number) for number in (1, 2, 3))
    assert not held_at(prefixes, leader, 1)
    assert held_at(prefixes, follower, 2)  # the leader moved in the step before
    assert not held_at(prefixes, follower, 3)
    assert held_at(prefixes, third, 4)  # by the one that leads now


def test_followers_of_a_displaced_leader_go_on(prefixes: PrefixCache) -> None:
    leader, follower = named(prefixes, 1), named(prefixes, 2)
    assert not held_at(prefixes, leader, 1)
    assert held_at(prefixes, follower, 1)
    prefixes.free(leader)
    assert not held_at(prefixes, follower, 2)


def test_what_a_waiting_sequence_must_compute_is_less_by_what_it_would_hit() -> None:
    pool = BlockPool(num_blocks=16, block_size=4)
    prefixes = PrefixCache(pool)
    leader, follower = named(prefixes, 1), named(prefixes, 2)
    assert prefixes.uncached(follower, 1) == 12
    prefixes.attach(leader, 1)
    leader.blocks = pool.take(3)
    prefixes.advance(leader, 8)
    assert prefixes.uncached(follower, 2) == 12  # as it was a step ago
    assert prefixes.uncached(follower, 1 + LOOKED_UP_AGAIN) == 4
    prefixes.advance(leader, 12)
    prefixes.free(leader)
    late = named(prefixes, 3)
    assert prefixes.uncached(late, 40) == 4  # the last token is never hit, nor is its block


def test_what_another_is_about_to_compute_need_not_be_computed(prefixes: PrefixCache) -> None:
    leader, follower = named(prefixes, 1), named(prefixes, 2)
    prefixes.attach(leader, 1)
    assert prefixes.uncached(follower, 1) == 4
    late = named(prefixes, 3)
    assert prefixes.uncached(late, 3) == 12  # the leader stands still


@given(chains=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=20), max_size=12))
def test_an_estimate_of_hits_is_what_is_hit(chains: list[list[int]]) -> None:
    """Sequences that come, are computed whole and leave, in a pool that must evict."""
    pool = BlockPool(num_blocks=8, block_size=2)
    prefixes = PrefixCache(pool)
    for step, tokens in enumerate(chains, 1):
        request = request_of(str(step), prompt=tuple(tokens))
        seq = new_sequence(step, request, prefix_caching=True)
        prefixes.name(seq)
        estimate = prefixes.uncached(seq, 2 * step)
        prefixes.attach(seq, 2 * step)
        assert estimate == seq.todo
        missing = -(-len(tokens) // 2) - len(seq.blocks)
        if missing <= pool.free:
            seq.blocks += pool.take(missing)
            prefixes.advance(seq, len(tokens))
        prefixes.free(seq)
