"""From slices of any length to a few padded batches of attention.

Long slices are cut into pieces at absolute positions, so that a piece neither depends on how its
prompt was chunked nor needs a large mask. Pieces of like shape then share a padded batch, as long
as the padding costs less than another round of operations would. Pure arithmetic on numpy arrays:
knows neither tensors nor devices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headway.ops.protocol import Ints

PIECE = 256
"""Most queries in a piece; pieces end at multiples of it."""

# Units of padding: one key read, or one query times key. A group's own cost, the operations'
# overhead, is worth about this many of them on a processor with a few cores.
_OVERHEAD = 16384
_KEY_COST = 8
_MOST_KEYS = 2**17


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBatch:
    """One step in numbers: S slices whose tokens stand one after the other.

    `starts` [S] are the positions of the slices' first tokens, `counts` [S] their lengths (all
    at least 1), `tokens` [T] the token ids and `tables` [S, any] the block tables, of which only
    the blocks up to a slice's last position are read.
    """

    tokens: Ints
    starts: Ints
    counts: Ints
    tables: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """N pieces: the slice of each, its first row in the step's tokens, its position and length."""

    slices: Ints
    rows: Ints
    starts: Ints
    counts: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedBatch:
    """One padded batch in numbers; see `attention.SliceGroup` for its tensors."""

    queries: Ints
    """[B, Q] rows of the step's tokens, the last repeated as padding."""
    valid: npt.NDArray[np.bool_]
    """[B, Q] false at padding."""
    blocks: Ints
    """[B, S / block_size] block ids, 0 as padding."""
    visible: npt.NDArray[np.bool_]
    """[B, Q, S] which keys each query may look at; at least one each."""


def positions(host: HostBatch) -> Ints:
    """Position of every token of the step in its sequence, [T]."""
    ends = np.cumsum(host.counts)
    first = np.repeat(host.starts - (ends - host.counts), host.counts)
    return first + np.arange(ends[-1], dtype=np.int64)


def slots(host: HostBatch, block_size: int) -> tuple[Ints, Ints]:
    """The block of every token of the step and the offset in it, [T] each."""
    where = positions(host)
    owner = np.repeat(np.arange(len(host.counts)), host.counts)
    return host.tables[owner, where // block_size], where % block_size


def cut_slices(host: HostBatch) -> Pieces:
    """Cut the slices at multiples of `PIECE`."""
    ends = host.starts + host.counts
    first = host.starts // PIECE
    number = (ends - 1) // PIECE - first + 1
    owner = np.repeat(np.arange(len(number)), number)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)
    start = np.maximum(host.starts[owner], (first[owner] + nth) * PIECE)
    end = np.minimum(ends[owner], (first[owner] + nth + 1) * PIECE)
    token = (np.cumsum(host.counts) - host.counts)[owner] + start - host.starts[owner]
    return Pieces(slices=owner, rows=token, starts=start, counts=end - start)


def padded_batches(
    host: HostBatch, pieces: Pieces, block_size: int, window: int | None
) -> tuple[PaddedBatch, ...]:
    """The padded batches of one step under one sliding window."""
    ends = pieces.starts + pieces.counts
    oldest = pieces.starts * 0 if window is None else np.maximum(pieces.starts - window + 1, 0)
    first = oldest // block_size
    number = (ends - 1) // block_size - first + 1
    return tuple(
        _padded_batch(host, pieces, members, first[members], number[members], block_size, window)
        for members in _group(pieces.counts, number * block_size)
    )


def _group(counts: Ints, keys: Ints) -> list[Ints]:
    """Members of each padded batch: neighbours in (queries, keys) while the waste is small."""
    order = np.lexsort((-keys, -counts))
    found: list[Ints] = []
    begin, width, span, waste = 0, 0, 0, 0
    for n, (count, key) in enumerate(
        zip(counts[order].tolist(), keys[order].tolist(), strict=True)
    ):
        size = n - begin
        # A longer span than the group's first member's pads everyone before.
        wider = max(span, key)
        more = size * (wider - span) * (width + _KEY_COST)
        more += wider * (width + _KEY_COST) - key * (count + _KEY_COST)
        split = (count == 1) != (width == 1) or (size + 1) * wider > _MOST_KEYS
        if size == 0 or waste + more > _OVERHEAD or split:
            if size:
                found.append(order[begin:n])
            begin, width, span, waste = n, count, key, 0
        else:
            span, waste = wider, waste + more
    found.append(order[begin:])
    return found


def _padded_batch(
    host: HostBatch,
    pieces: Pieces,
    members: Ints,
    first: Ints,
    number: Ints,
    block_size: int,
    window: int | None,
) -> PaddedBatch:
    counts, starts = pieces.counts[members, None], pieces.starts[members, None]
    nth = np.minimum(np.arange(counts.max()), counts - 1)
    width = int(number.max())
    column = np.minimum(first[:, None] + np.arange(width), host.tables.shape[1] - 1)
    owned = np.arange(width) < number[:, None]
    query = (starts + nth)[:, :, None]
    key = (first[:, None] * block_size + np.arange(width * block_size))[:, None, :]
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    return PaddedBatch(
        queries=pieces.rows[members, None] + nth,
        valid=np.arange(counts.max()) < counts,
        blocks=np.where(owned, host.tables[pieces.slices[members, None], column], 0),
        visible=visible,
    )
