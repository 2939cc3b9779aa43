"""Records of whole blocks: whatever byte their writer stops at, they say the truth or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.ops.native.block_records import RECORD_BYTES, BlockRecords, SealedBlock

BLOCKS = 4
FINGERPRINT = b"model"


class Killed(Exception):
    """The writer is gone."""


@dataclass
class MortalMemory:
    """Bytes whose writer dies after `left` of them, which may be in the midst of a write."""

    left: int = 2**31
    stored: bytearray = field(default_factory=lambda: bytearray(BLOCKS * RECORD_BYTES))

    def __getitem__(self, index: slice) -> bytes:
        return bytes(self.stored[index])

    def __setitem__(self, index: slice, value: bytes) -> None:
        assert len(self.stored[index]) == len(value)
        written = value[: self.left]
        self.stored[index.start : index.start + len(written)] = written
        self.left -= len(value)
        if self.left < 0:
            raise Killed


def name(number: int) -> bytes:
    return bytes([number]) * 16


def records(memory: MortalMemory | bytearray, fingerprint: bytes = FINGERPRINT) -> BlockRecords:
    return BlockRecords(memory, num_blocks=BLOCKS, fingerprint=fingerprint)


def test_what_was_sealed_is_found_and_what_was_unsealed_is_not() -> None:
    memory = bytearray(BLOCKS * RECORD_BYTES)
    written = records(memory)
    assert written.sealed() == []
    written.seal(2, name(1), b"")
    written.seal(0, name(2), name(1))
    assert written.read(2) == SealedBlock(name(1), bytes(16), 1)
    assert dict(records(memory).sealed()) == {2: name(1), 0: name(2)}
    written.unseal(2)
    assert records(memory).sealed() == [(0, name(2))]


@pytest.mark.parametrize("place", range(48))
def test_a_flipped_bit_anywhere_unseals(place: int) -> None:
    memory = bytearray(BLOCKS * RECORD_BYTES)
    records(memory).seal(1, name(1), name(2))
    memory[RECORD_BYTES + place] ^= 4
    assert records(memory).sealed() == []


def test_a_record_is_of_one_model_and_one_place() -> None:
    memory = bytearray(BLOCKS * RECORD_BYTES)
    records(memory).seal(1, name(1), b"")
    assert records(memory, b"another").sealed() == []
    memory[2 * RECORD_BYTES : 3 * RECORD_BYTES] = memory[RECORD_BYTES : 2 * RECORD_BYTES]
    assert records(memory).read(2) is None
    assert records(memory).sealed() == [(1, name(1))]


def test_of_two_blocks_of_one_name_only_one_is_left_sealed() -> None:
    memory = bytearray(BLOCKS * RECORD_BYTES)
    for block in (1, 3):
        records(memory).seal(block, name(1), b"")
    found = records(memory)
    assert found.sealed() == [(1, name(1))]
    assert found.read(3) is None, "a pool takes it for empty, and would not unseal it"


def test_numbers_go_on_where_an_engine_before_stopped() -> None:
    memory = bytearray(BLOCKS * RECORD_BYTES)
    first = records(memory)
    for block in range(3):
        first.seal(block, name(block), b"")
    second = records(memory)
    second.sealed()
    second.seal(3, name(9), b"")
    found = second.read(3)
    assert found is not None
    assert found.number == 4


def test_of_a_chain_the_tail_may_go_first_and_of_chains_the_one_used_least_lately() -> None:
    memory = bytearray(BLOCKS * RECORD_BYTES)
    written = records(memory)
    written.seal(0, name(1), b"")  # the beginning of both
    written.seal(1, name(2), name(1))
    written.seal(2, name(3), name(1))
    written.seal(3, name(4), name(3))
    assert [block for block, _ in records(memory).sealed()] == [1, 3, 2, 0]


@given(
    calls=st.lists(
        st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, 9), st.booleans()), max_size=20
    ),
    life=st.integers(0, 600),
)
def test_a_writer_that_is_killed_leaves_what_was_true_before_or_after_its_last_call(
    calls: list[tuple[int, int, bool]], life: int
) -> None:
    """As the pool does: a block is unsealed before it is sealed anew."""
    memory = MortalMemory(life)
    written, true = records(memory), dict[int, bytes]()
    before = after = dict(true)
    try:
        for block, number, sealing in calls:
            before = dict(true)
            after = {key: value for key, value in true.items() if key != block}
            if block in true:
                written.unseal(block)
                before = true = after
            if sealing:
                after = true | {block: name(number)}
                written.seal(block, name(number), b"")
            true = after
    except Killed:
        pass
    else:
        before = after = true
    found = records(memory)
    sealed = {block: record.name for block in range(BLOCKS) if (record := found.read(block))}
    assert sealed in (before, after)
