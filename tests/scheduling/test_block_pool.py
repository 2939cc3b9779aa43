"""The block pool against a model so simple that it is plainly right."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headway.scheduling.block_pool import BlockPool
from headway.types.block_hash import block_hashes

BLOCKS = 6


class PoolMachine(RuleBasedStateMachine):
    """Tables that take, share, seal and release blocks; the model is a list of them, contents by
    block, and the order in which sealed blocks fell free."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(num_blocks=BLOCKS, block_size=4)
        self.tables: list[list[int]] = []
        self.contents: dict[int, bytes] = {}
        self.fallen: list[int] = []

    def deferred(self) -> set[int]:
        return {block for table in self.tables for block in table}

    @rule(count=st.integers(0, BLOCKS + 1))
    def take(self, count: int) -> None:
        if count > BLOCKS - len(self.deferred()):
            with pytest.raises(ValueError, match="free"):
                self.pool.take(count)
            return
        blank = BLOCKS - len(self.deferred()) - len(self.fallen)
        evicted = self.fallen[: max(0, count - blank)]
        taken = self.pool.take(count)
        assert len(set(taken)) == count
        assert not set(taken) & self.deferred()
        assert set(taken) & set(self.fallen) == set(evicted), "the least recent go first"
        for block in evicted:
            self.fallen.remove(block)
            del self.contents[block]
        self.tables.append(taken)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.pool.release(table)
        for block in reversed(table):
            if block not in self.deferred() and block in self.contents:
                self.fallen.append(block)

    @precondition(lambda self: self.deferred())
    @rule(data=st.data(), name=st.sampled_from([b"a", b"b", b"c", b"d"]))
    def cache(self, data: st.DataObject, name: bytes) -> None:
        block = data.draw(st.sampled_from(sorted(self.deferred())))
        self.pool.cache(block, name)
        if block not in self.contents and name not in self.contents.values():
            self.contents[block] = name

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def invalidate(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.pool.invalidate(table)
        for block in table:
            self.contents.pop(block, None)

    @rule(names=st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), unique=True))
    def share(self, names: list[bytes]) -> None:
        where = {name: block for block, name in self.contents.items()}
        expected = []
        for name in names:
            if name not in where:
                break
            expected.append(where[name])
        found = self.pool.match(names)
        assert found == expected
        self.pool.acquire(found)
        self.tables.append(found)
        self.fallen = [block for block in self.fallen if block not in found]

    @invariant()
    def agrees(self) -> None:
        self.pool.check()
        assert self.pool.free == BLOCKS - len(self.deferred())
        assert self.pool.cached == len(self.fallen)


TestPoolAgainstModel = PoolMachine.TestCase
TestPoolAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_tail_of_a_chain_is_evicted_before_its_head() -> None:
    pool = BlockPool(num_blocks=3, block_size=4)
    table = pool.take(3)
    for block, name in zip(table, (b"a", b"b", b"c"), strict=True):
        pool.cache(block, name)
    pool.release(table)
    assert pool.take(1) == [table[2]]
    assert pool.match((b"a", b"b", b"c")) == table[:2]


def test_a_hit_is_one_more_holder_and_copies_nothing() -> None:
    pool = BlockPool(num_blocks=2, block_size=4)
    table = pool.take(2)
    pool.cache(table[0], b"a")
    pool.acquire(pool.match([b"a"]))
    assert pool.shared(table) == 1
    pool.release(table)
    assert pool.free == 1
    pool.release([table[0]])
    assert pool.free == 2


def test_shared_counts_the_head_of_a_table() -> None:
    pool = BlockPool(num_blocks=8, block_size=4)
    table = pool.take(8)
    for shared in range(9):
        pool.acquire(table[:shared])
        assert pool.shared(table) == shared
        pool.release(table[:shared])
    assert pool.shared([]) == 0


def test_releasing_what_nobody_holds_is_an_error() -> None:
    pool = BlockPool(num_blocks=2, block_size=4)
    with pytest.raises(ValueError, match="not referenced"):
        pool.release([1])


def test_check_finds_a_lost_block() -> None:
    pool = BlockPool(num_blocks=2, block_size=4)
    pool._free.pop()
    with pytest.raises(AssertionError, match="lost"):
        pool.check()


def test_a_pool_has_blocks() -> None:
    with pytest.raises(ValueError, match="0 blocks"):
        BlockPool(num_blocks=0, block_size=4)


def test_chain_names_full_blocks_only() -> None:
    assert len(block_hashes(range(11), 4, b"")) == 2
    assert block_hashes(range(3), 4, b"") == []


def test_chain_grows_block_by_block_to_the_same_names() -> None:
    tokens = list(range(20))
    whole = block_hashes(tokens, 4, b"salt")
    grown: list[bytes] = []
    for end in range(21):
        grown += block_hashes(tokens[:end], 4, b"salt", grown)
    assert grown == whole


def test_names_depend_on_everything_before_and_on_the_salt() -> None:
    assert block_hashes((1, 2, 3, 4), 2, b"")[1] != block_hashes((9, 2, 3, 4), 2, b"")[1]
    assert block_hashes((1, 2), 2, b"")[0] != block_hashes((1, 2), 2, b"other")[0]
    assert block_hashes((1, 2, 1, 2), 2, b"")[0] != block_hashes((1, 2, 1, 2), 2, b"")[1]
