"""Rows of the block table: who has one, until when, and what it says."""

from __future__ import annotations

from headway.runner.batch import InputBatch
from headway.types import NewSequence, ResolvedSampling, Slice


def entering(seq: int) -> NewSequence:
    sampling = ResolvedSampling(max_tokens=2, seed=0)
    return NewSequence(seq=seq, tokens=(1, 2, 3), prompt_len=3, sampling=sampling)


def tables(batch: InputBatch, *parts: tuple[int, tuple[int, ...]]) -> list[list[int]]:
    """Block tables after a step of these sequences with these blocks."""
    slices = [
        Slice(seq=seq, start=0, tokens=(1, 2, 3), blocks=held, outputs=1) for seq, held in parts
    ]
    found: list[list[int]] = batch.block_tables(batch.update(slices)).tolist()
    return found


def test_the_row_of_an_ended_sequence_is_the_next_ones() -> None:
    batch = InputBatch(max_seqs=2, max_len=64, block_size=16)
    stays = batch.add(entering(0))
    rows = set()
    for seq in range(1, 100):
        rows.add(batch.add(entering(seq)).row)
        batch.remove(seq)
    assert len(rows) == 1
    assert stays.row not in rows
    assert len(batch._block_tables) == 2


def test_rows_double_where_more_sequences_are_in_than_were_expected() -> None:
    batch = InputBatch(max_seqs=2, max_len=64, block_size=16)
    rows = {batch.add(entering(seq)).row for seq in range(5)}
    assert rows == set(range(5))
    assert len(batch._block_tables) == 8


def test_a_row_says_nothing_of_the_sequence_that_had_it_before() -> None:
    batch = InputBatch(max_seqs=1, max_len=64, block_size=16)
    batch.add(entering(0))
    assert tables(batch, (0, (7, 8, 9))) == [[7, 8, 9]]
    batch.remove(0)
    batch.remove(0)
    batch.add(entering(1))
    assert tables(batch, (1, (4,))) == [[4]]
    assert tables(batch, (1, (4, 5))) == [[4, 5]]
