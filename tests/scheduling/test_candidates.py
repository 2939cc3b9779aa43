"""Who is offered to a policy, in which order, and what an offer that falls through leaves."""

from __future__ import annotations

from headway.scheduling.admission import Candidates, KVEstimate, LengthEstimate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence, new_sequence
from tests.scheduling.harness import request_of

SIZE = 4


def queues_with(*lengths: int, blocks: int = 64) -> Queues:
    """Sequences that wait, with prompts of these lengths that share nothing."""
    queues = Queues(BlockPool(num_blocks=blocks, block_size=SIZE), Continuous())
    for number, length in enumerate(lengths):
        request = request_of(str(number), prompt=(number,) * length, max_tokens=1)
        queues.arrive(new_sequence(number, request, prefix_caching=True))
    return queues


def candidates_of(queues: Queues, *, free_slots: int = 9, guess: bool = True) -> Candidates:
    def estimate() -> KVEstimate:
        return KVEstimate(queues.pool, LengthEstimate(), queues.running)

    return Candidates(
        waiting=queues.waiting,
        estimate=estimate if guess else None,
        prefixes=queues.prefixes,
        free_slots=free_slots,
        step=1,
    )


def ids(sequences: Candidates | list[Sequence]) -> list[int]:
    return [seq.id for seq in sequences]


def test_as_many_are_offered_as_there_are_slots() -> None:
    candidates = candidates_of(queues_with(4, 4, 4), free_slots=2)
    assert ids(candidates) == [0, 1]
    assert ids(candidates) == [0, 1], "a second look shows the same, and offers nobody twice"
    assert ids(candidates.offered) == [0, 1]
    assert candidates.refused is None


def test_the_first_for_whom_there_is_no_memory_ends_the_offers() -> None:
    candidates = candidates_of(queues_with(8, 16, 4, blocks=5))
    assert ids(candidates) == [0]
    assert candidates.refused is not None
    assert candidates.refused.id == 1
    assert ids(candidates) == [0]


def test_nobody_is_offered_where_nobody_may_be_admitted() -> None:
    candidates = candidates_of(queues_with(4), guess=False)
    assert ids(candidates) == []


def test_who_is_withdrawn_gives_hits_back_and_is_no_longer_offered() -> None:
    queues = queues_with(4, 4)
    stored = queues.pool.take(1)
    second = queues.live[1]
    queues.pool.cache(stored[0], second.hashes[0])
    queues.pool.release(stored)
    second.tokens.append(7)  # the last token is never hit
    candidates = candidates_of(queues)
    assert ids(candidates) == [0, 1]
    assert (second.blocks, second.computed, queues.pool.free) == (stored, SIZE, 63)
    candidates.withdraw()
    assert candidates.offered == []
    assert (second.blocks, second.computed, queues.pool.free) == ([], 0, 64)
    queues.check()
