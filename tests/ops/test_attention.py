"""Paged attention against a dense one written plainly, over random padded_batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.ops import CacheShape
from headway.ops.reference import HostBatch, ReferenceBackend, paging
from headway.ops.reference.attention import Scratch, attend, store


@dataclass(frozen=True)
class Shape:
    block_size: int
    kv_heads: int
    repeats: int
    head_dim: int
    window: int | None


shapes = st.builds(
    Shape,
    block_size=st.sampled_from([8, 16, 32]),
    kv_heads=st.integers(1, 3),
    repeats=st.integers(1, 4),
    head_dim=st.sampled_from([2, 6, 16]),
    window=st.none() | st.sampled_from([1, 2, 7, 8, 33, 1000]),
)
spans = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), min_size=1, max_size=7)


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Attention of the last tokens of one sequence, query by query and head by head."""
    out, first = torch.zeros_like(q), len(k) - len(q)
    for i in range(len(q)):
        begin = 0 if shape.window is None else max(0, first + i - shape.window + 1)
        for head in range(q.shape[1]):
            keys = k[begin : first + i + 1, head // shape.repeats]
            weights = torch.softmax(keys @ q[i, head] * 0.3, dim=0)
            out[i, head] = weights @ v[begin : first + i + 1, head // shape.repeats]
    return out


def check(shape: Shape, spans: list[tuple[int, int]], dtype: torch.dtype, atol: float) -> None:
    generator = torch.Generator().manual_seed(len(spans))
    totals = [start + count for start, count in spans]
    heads = shape.kv_heads * shape.repeats
    width = max(totals) // shape.block_size + 1
    cache_shape = CacheShape(
        num_layers=1,
        num_blocks=width * len(spans) + 3,
        block_size=shape.block_size,
        num_kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )
    backend = ReferenceBackend(device=torch.device("cpu"), dtype=dtype)
    cache = backend.allocate(cache_shape)
    # What a block held before must not matter.
    for stored in (*cache.keys, *cache.values):
        stored.fill_(1e4)
    order = np.random.default_rng(len(spans)).permutation(cache_shape.num_blocks)
    tables = order[: width * len(spans)].reshape(len(spans), width)

    def draw(length: int, number: int) -> torch.Tensor:
        drawn = torch.randn(length, number, shape.head_dim, generator=generator)
        return drawn.to(dtype)

    keys = [draw(total, shape.kv_heads) for total in totals]
    values = [draw(total, shape.kv_heads) for total in totals]
    queries = [draw(count, heads) for _, count in spans]

    def batch_of(starts: list[int], counts: list[int]) -> HostBatch:
        return HostBatch(
            tokens=np.zeros(sum(counts), dtype=np.int64),
            starts=np.array(starts),
            counts=np.array(counts),
            tables=tables,
        )

    everything = backend.batch(batch_of([0] * len(spans), totals), cache_shape, [], heads)
    store(torch.cat(keys), torch.cat(values), cache, 0, everything)
    host = batch_of([start for start, _ in spans], [count for _, count in spans])
    groups = backend.batch(host, cache_shape, [shape.window], heads).groups[shape.window]
    scratch = Scratch(device=torch.device("cpu"), dtype=dtype)
    found = attend(torch.cat(queries), cache, 0, groups, scratch, 0.3)
    expected = torch.cat(
        [
            dense(q.float(), k.float(), v.float(), shape)
            for q, k, v in zip(queries, keys, values, strict=True)
        ]
    )
    torch.testing.assert_close(found.float(), expected, atol=atol, rtol=0)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, spans=spans)
def test_against_dense(shape: Shape, spans: list[tuple[int, int]]) -> None:
    check(shape, spans, torch.float32, 1e-5)


@pytest.mark.parametrize("window", [None, 20])
def test_long_and_short_slices_together(window: int | None) -> None:
    spans = [(0, 600), (250, 1), (511, 2), (255, 258), (3, 1), (700, 1), (0, 1), (256, 256)]
    shape = Shape(block_size=32, kv_heads=1, repeats=2, head_dim=8, window=window)
    check(shape, spans, torch.float32, 1e-5)


def test_in_bfloat16() -> None:
    shape = Shape(block_size=16, kv_heads=2, repeats=3, head_dim=16, window=None)
    check(shape, [(40, 1), (17, 1), (0, 30), (9, 5)], torch.bfloat16, 0.06)


@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 700)), min_size=1, max_size=9),
    window=st.none() | st.sampled_from([1, 40, 5000]),
)
def test_every_query_is_asked_once_and_sees_its_own_window(
    spans: list[tuple[int, int]], window: int | None
) -> None:
    block_size = 16
    starts, counts = (np.array(each) for each in zip(*spans, strict=True))
    width = 1 + int((starts + counts).max()) // block_size
    host = HostBatch(
        tokens=np.zeros(counts.sum(), dtype=np.int64),
        starts=starts,
        counts=counts,
        tables=np.arange(len(spans) * width).reshape(len(spans), width),
    )
    where, asked = paging.positions(host), []
    for padded in paging.padded_batches(host, paging.cut_slices(host), block_size, window):
        assert padded.queries.shape[1] <= paging.PIECE
        asked += padded.queries[padded.valid].tolist()
        assert padded.visible.any(-1).all()
        seen = padded.visible.sum(-1)[padded.valid]
        position = where[padded.queries[padded.valid]]
        assert (seen == np.minimum(position + 1, window or 10**9)).all()
    assert sorted(asked) == list(range(counts.sum()))
