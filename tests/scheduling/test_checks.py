"""Every invariant that `check` states is looked at: each kind of damage is found, and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of


def pool_in_use() -> BlockPool:
    """Of four blocks the first two are referenced, the first of these cached; the third is free
    and cached, the fourth free."""
    pool = BlockPool(num_blocks=4, block_size=4)
    taken = pool.take(3)
    assert taken == [0, 1, 2]
    pool.cache(0, b"first")
    pool.cache(2, b"third")
    pool.release([2])
    pool.check()
    return pool


def free_twice(pool: BlockPool) -> None:
    pool._free.append(3)


def free_and_cached(pool: BlockPool) -> None:
    pool._cached[3] = None


def free_and_referenced(pool: BlockPool) -> None:
    pool._references[3] = 1


def cached_and_referenced(pool: BlockPool) -> None:
    pool._references[2] = 1


def negative(pool: BlockPool) -> None:
    pool._references[3] = -1


def lost(pool: BlockPool) -> None:
    pool._free.clear()


def cached_without_a_name(pool: BlockPool) -> None:
    pool._names[2] = None


def free_with_a_name(pool: BlockPool) -> None:
    pool._names[3] = b"fourth"


def stored_under_another_name(pool: BlockPool) -> None:
    pool._stored[b"other"] = pool._stored.pop(b"first")


def stored_for_nobody(pool: BlockPool) -> None:
    pool._stored[b"nobody"] = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (free_twice, "a block is free twice"),
        (negative, "a block has a negative count"),
        (free_and_cached, "a block is in two states"),
        (free_and_referenced, "a block is in two states"),
        (cached_and_referenced, "a block is in two states"),
        (lost, "a block is lost"),
        (cached_without_a_name, "names and free lists disagree"),
        (free_with_a_name, "names and free lists disagree"),
        (stored_under_another_name, "the store and the names disagree"),
        (stored_for_nobody, "the store and the names disagree"),
    ],
)
def test_a_damaged_pool_is_found_out(damage: Callable[[BlockPool], None], message: str) -> None:
    pool = pool_in_use()
    damage(pool)
    with pytest.raises(AssertionError, match=message):
        pool.check()


def queues_in_use() -> tuple[EngineHarness, Queues]:
    """Sequences 1 to 3 run, the third deferred for the second's prefix; 4 and 5 wait."""
    harness = make_harness(limits=limits_of(seqs=3, tokens=8))
    prompt = tuple(range(20))
    for name in ("a", "b", "c", "d", "e"):
        own = (7, 8, 9) if name == "a" else prompt
        harness.add(request_of(name, prompt=own, max_tokens=9))
    harness.step()
    queues = harness.scheduler._queues
    assert [seq.deferred for seq in queues.running] == [False, False, True]
    assert [seq.id for seq in queues.waiting] == [4, 5]
    return harness, queues


def waiting(queues: Queues) -> list[Sequence]:
    """Those who wait of the one caller that there is, as the queue itself keeps them."""
    (tenant,) = queues.waiting._tenants.by_name.values()
    (caller,) = tenant.members.by_name.values()
    return caller.sequences


def leaks(queues: Queues) -> None:
    queues.pool.take(1)


def lost_sequence(queues: Queues) -> None:
    del queues.live[5]


def in_two_queues(queues: Queues) -> None:
    queues.running.sequences.append(queues.running.sequences[-1])


def unknown_request(queues: Queues) -> None:
    del queues.by_request["a"]


def waits_with_blocks(queues: Queues) -> None:
    waiting(queues)[0].blocks = list(queues.running.sequences[0].blocks)


def waits_but_runs(queues: Queues) -> None:
    waiting(queues)[0].state = "running"


def runs_but_waits(queues: Queues) -> None:
    queues.running.sequences[0].state = "waiting"


def nothing_to_do(queues: Queues) -> None:
    seq = queues.running.sequences[0]
    seq.computed, seq.todo = len(seq.tokens), 0


def miscounted(queues: Queues) -> None:
    waiting(queues)[1].todo -= 1


def lost_while_waiting(queues: Queues) -> None:
    del waiting(queues)[1]


def another_is_first(queues: Queues) -> None:
    waiting(queues).reverse()


def unsorted_waiting(queues: Queues) -> None:
    waiting(queues)[1].order = ()


def unsorted_running(queues: Queues) -> None:
    queues.running.sequences.reverse()


def no_place(queues: Queues) -> None:
    seq = queues.running.sequences[0]
    seq.tokens += [0] * 40
    seq.computed = len(seq.blocks) * 4 + 1
    seq.todo = len(seq.tokens) - seq.computed


def forgotten(queues: Queues) -> None:
    queues._deferred.clear()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (leaks, "a block leaks"),
        (lost_sequence, "a sequence is lost"),
        (in_two_queues, "a sequence is in two queues"),
        (unknown_request, "the indices disagree"),
        (waits_with_blocks, "a waiting sequence has blocks"),
        (waits_but_runs, "a waiting sequence has blocks"),
        (runs_but_waits, "nothing to do"),
        (nothing_to_do, "nothing to do"),
        (miscounted, "what is left to do is wrong"),
        (lost_while_waiting, "a waiting sequence is lost"),
        (another_is_first, "a rank is out of date"),
        (unsorted_waiting, "the waiting queue is unsorted"),
        (unsorted_running, "the running queue is unsorted"),
        (no_place, "a token has no place"),
        (forgotten, "a deferred sequence is forgotten"),
    ],
)
def test_damaged_queues_are_found_out(damage: Callable[[Queues], None], message: str) -> None:
    harness, queues = queues_in_use()
    damage(queues)
    with pytest.raises(AssertionError, match=message):
        harness.scheduler.check()
