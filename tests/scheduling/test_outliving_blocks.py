"""Blocks that outlive an engine: whenever it is killed, the next one goes on as if nothing was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.ops.native.block_records import RECORD_BYTES, BlockRecords
from headway.scheduling.block_pool import BlockPool
from headway.types import Request
from tests.ops.test_block_records import Killed, MortalMemory
from tests.scheduling.fake_runner import reference
from tests.scheduling.harness import EngineHarness, limits_of, make_harness, request_of
from tests.scheduling.proposers import Guesser
from tests.scheduling.test_every_policy import Scene, modest, scenes

FINGERPRINT = b"fake"


class MortalStore(dict[tuple[int, int], int]):
    """What a fake runner stores, position by position, until its writer dies."""

    def __init__(self, memory: MortalMemory) -> None:
        super().__init__()
        self.memory = memory

    def update(self, written: Mapping[tuple[int, int], int]) -> None:  # type: ignore[override]
        for place, value in written.items():
            self.memory.left -= 1
            if self.memory.left < 0:
                raise Killed
            self[place] = value


def harness_on(
    scene: Scene, store: MortalStore, policy: str = "continuous", *, drafts: bool = False
) -> EngineHarness:
    """An engine that adopts what is sealed in the store's memory."""
    return make_harness(
        policy,
        blocks=scene.blocks,
        limits=scene.limits,
        prefix_caching=scene.prefix_caching,
        first_guess=scene.first_guess,
        proposer=Guesser(1) if drafts else None,
        outliving=BlockRecords(store.memory, num_blocks=scene.blocks, fingerprint=FINGERPRINT),
        store=store,
    )


def store_of(blocks: int) -> MortalStore:
    return MortalStore(MortalMemory(stored=bytearray(blocks * RECORD_BYTES)))


def run(harness: EngineHarness, waiting: list[Request]) -> bool:
    """Whether all of them end before the engine is killed."""
    try:
        harness.add(*waiting)
        harness.drain()
    except Killed:
        return False
    return True


def resumed(request: Request, told: list[int]) -> Request:
    return replace(request, generated=(*request.generated, *told))


@modest
@given(
    scene=scenes(aborts=False),
    lives=st.lists(st.integers(0, 900), max_size=4),
    drafts=st.booleans(),
    policy=st.sampled_from(["continuous", "paced", "static"]),
)
def test_tokens_are_the_same_whenever_engines_are_killed(
    scene: Scene, lives: list[int], drafts: bool, policy: str
) -> None:
    """Between any two bytes of records, and between any two positions that are computed."""
    store = store_of(scene.blocks)
    waiting, told = scene.requests, {request.id: list[int]() for request in scene.requests}
    for life in [*lives, 2**31]:
        store.memory.left = life
        harness = harness_on(scene, store, policy, drafts=drafts)
        ended = run(harness, waiting)
        for name, tokens in harness.tokens.items():
            told[name] += tokens
        waiting = [
            resumed(request, harness.tokens.get(request.id, []))
            for request in waiting
            if request.id not in harness.ends
        ]
        if ended:
            break
    assert not waiting
    for request in scene.requests:
        sampling = request.sampling
        expected = reference(
            request.prompt,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop=sampling.stop_token_ids,
        )
        assert told[request.id] == expected


def test_a_live_request_is_not_computed_again() -> None:
    store = store_of(16)
    request = request_of("a", prompt=tuple(range(40)), max_tokens=9)
    harness = make_harness(
        blocks=16,
        outliving=BlockRecords(store.memory, num_blocks=16, fingerprint=FINGERPRINT),
        store=store,
    )
    harness.add(request)
    for _ in range(4):
        harness.step()
    told = harness.tokens["a"]
    again = make_harness(
        blocks=16,
        outliving=BlockRecords(store.memory, num_blocks=16, fingerprint=FINGERPRINT),
        store=store,
    )
    assert again.scheduler.pool.cached == 10
    again.add(resumed(request, told))
    again.drain()
    assert told + again.tokens["a"] == reference(request.prompt, max_tokens=9)
    # The tokens after the last full block, and those that were new.
    assert again.runner.computed == 9 - 1
    assert again.firsts["a"].cached_tokens == 40


def test_a_block_is_sealed_with_the_name_of_the_one_before_it() -> None:
    """However few tokens of the chain each step computes."""
    store = store_of(16)
    records = BlockRecords(store.memory, num_blocks=16, fingerprint=FINGERPRINT)
    harness = make_harness(blocks=16, limits=limits_of(tokens=6), outliving=records, store=store)
    harness.add(request_of("a", prompt=tuple(range(33)), max_tokens=9))
    while not harness.tokens.get("a"):
        harness.step()
    (seq,) = harness.scheduler.queues.running
    found = [records.read(block) for block in seq.blocks[:8]]
    names = [bytes(16), *seq.hashes]
    assert [(each.parent, each.name) for each in found if each is not None] == [
        (names[place], names[place + 1]) for place in range(8)
    ]


def test_what_was_spoiled_is_not_left_to_anybody() -> None:
    store = store_of(16)
    harness = make_harness(
        blocks=16,
        outliving=BlockRecords(store.memory, num_blocks=16, fingerprint=FINGERPRINT),
        store=store,
        spoiled=lambda entry: True,
    )
    harness.add(request_of("a", prompt=tuple(range(40))))
    harness.drain()
    assert harness.ends["a"].finish == "error"
    assert BlockRecords(store.memory, num_blocks=16, fingerprint=FINGERPRINT).sealed() == []


def test_adopted_blocks_are_evicted_in_their_order() -> None:
    memory = MortalMemory(stored=bytearray(4 * RECORD_BYTES))
    left = BlockRecords(memory, num_blocks=4, fingerprint=FINGERPRINT)
    for block, (name, parent) in enumerate([(b"a", b""), (b"b", b"a"), (b"c", b"b")]):
        left.seal(block, name * 16, parent * 16)
    found = BlockRecords(memory, num_blocks=4, fingerprint=FINGERPRINT)
    pool = BlockPool(num_blocks=4, block_size=4, outliving=found)
    pool.check()
    assert (pool.free, pool.cached) == (4, 3)
    assert pool.take(2) == [3, 2], "first the one that is empty, then the end of the chain"
    assert pool.match([b"a" * 16, b"b" * 16, b"c" * 16]) == [0, 1]


@pytest.mark.parametrize("how", ["evicted", "invalidated"])
def test_what_can_be_hit_no_more_is_unsealed(how: str) -> None:
    memory = MortalMemory(stored=bytearray(2 * RECORD_BYTES))
    records = BlockRecords(memory, num_blocks=2, fingerprint=FINGERPRINT)
    pool = BlockPool(num_blocks=2, block_size=4, outliving=records)
    (block,) = pool.take(1)
    pool.cache(block, b"a" * 16)
    assert records.read(block) is not None
    if how == "evicted":
        pool.release([block])
        pool.take(2)
    else:
        pool.invalidate([block])
    assert records.read(block) is None
