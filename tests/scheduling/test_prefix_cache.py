"""Who waits for whose prefix, and until when."""

from __future__ import annotations

import pytest

from headway.scheduling.block_pool import BlockPool, PrefixCache
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
