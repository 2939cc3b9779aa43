"""One step, and the cache it works on, as tensors on their device.

Built once for a step by the backend and used by every layer.

Paged attention in PyTorch: whole blocks gathered into padded batches (see `paging`).

One key-value head's query heads are the rows of one product. Knows neither weights nor rotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headway.ops.protocol import CacheShape


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCache:
    """Keys and values of each layer, [num_blocks, num_kv_heads, block_size, head_dim]."""

    shape: CacheShape
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceGroup:
    """Slices, or pieces of them, that attend together: B of them, Q queries, S keys each.

    `queries` [B * Q] are the rows of the step's tokens that ask; shorter members repeat their
    last. `kept` and `rows` [tokens of the group] say which of the B * Q answers go to which token
    (None where Q is 1 or all are full: then the answers go to `queries`). `blocks` [B * kv heads
    * S / block size] are rows of the cache seen as [num_blocks * kv heads, ...]. `mask` holds 0
    where a query may look and -inf elsewhere: [B, 1, S] where Q is 1, else [B, 1, Q * queries per
    kv head, S].
    """

    size: int
    width: int
    """Q, the most queries of a member."""
    span: int
    """S, the number of keys, a multiple of the block size."""
    queries: Tensor
    kept: Tensor | None
    rows: Tensor
    blocks: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step as the operations want it."""

    tokens: Tensor
    """[T] token ids."""
    positions: Tensor
    """[T] positions in their sequences."""
    slots: Tensor
    """[T * kv heads] rows of the cache seen as [num_blocks * kv heads * block size, head_dim]."""
    groups: Mapping[int | None, tuple[SliceGroup, ...]]
    """Who attends together, per sliding window (None is full attention)."""


class Scratch:
    """Space for gathered keys and values, kept between calls and grown where needed."""

    def __init__(self, *, device: torch.device, dtype: torch.dtype) -> None:
        self._space = [torch.empty(0, dtype=dtype, device=device) for _ in range(2)]

    def gather(self, stored: Tensor, group: SliceGroup, which: int) -> Tensor:
        """A group's blocks as [B, kv heads, S, head_dim], until the next call for `which`."""
        _, heads, block_size, head_dim = stored.shape
        rows, columns = len(group.blocks), block_size * head_dim
        if len(self._space[which]) < rows * columns:
            self._space[which] = stored.new_empty(rows * columns)
        out = self._space[which][: rows * columns].view(rows, columns)
        torch.index_select(stored.view(-1, columns), 0, group.blocks, out=out)
        return out.view(group.size, heads, group.span, head_dim)


def store(keys: Tensor, values: Tensor, cache: KVCache, layer: int, batch: Batch) -> None:
    """Write keys and values [T, kv heads, head_dim] to the step's slots, finite in any case."""
    # Blocks are reused, and a masked position still takes part in products: as zero times
    # whatever is stored. So nothing that is not finite may ever be stored.
    size = cache.shape.head_dim
    for new, stored in ((keys, cache.keys[layer]), (values, cache.values[layer])):
        finite = torch.nan_to_num(new).reshape(-1, size)
        stored.view(-1, size).index_copy_(0, batch.slots, finite)


def attend(
    queries: Tensor,
    cache: KVCache,
    layer: int,
    groups: tuple[SliceGroup, ...],
    scratch: Scratch,
    scale: float,
) -> Tensor:
    """Attention of queries [T, heads, head_dim], all of which the groups hold: the same shape."""
    out = torch.empty_like(queries)
    for group in groups:
        keys = scratch.gather(cache.keys[layer], group, 0)
        values = scratch.gather(cache.values[layer], group, 1)
        asked = queries.index_select(0, group.queries)
        if group.width == 1:
            answers = _attend_one(asked, keys, values, group, scale)
        else:
            answers = _attend_many(asked, keys, values, group, scale)
        if group.kept is not None:
            answers = answers.index_select(0, group.kept)
        out.index_copy_(0, group.rows, answers)
    return out


def _attend_one(
    asked: Tensor, keys: Tensor, values: Tensor, group: SliceGroup, scale: float
) -> Tensor:
    """Attention of one query a sequence, [B, heads, head_dim]."""
    size, heads, span, head_dim = keys.shape
    rows = asked.reshape(size * heads, -1, head_dim)
    scores = torch.bmm(rows, keys.view(size * heads, span, head_dim).transpose(1, 2))
    wide = scores.float().view(size, -1, span).mul_(scale).add_(group.mask)
    shares = torch.softmax(wide, dim=-1).to(asked.dtype).view(scores.shape)
    answers = torch.bmm(shares, values.view(size * heads, span, head_dim))
    return answers.view(size, -1, head_dim)


def _attend_many(
    asked: Tensor, keys: Tensor, values: Tensor, group: SliceGroup, scale: float
) -> Tensor:
    """Attention of Q queries a sequence, [B * Q, heads, head_dim]."""
    size, heads, _, head_dim = keys.shape
    rows = asked.view(size, group.width, heads, -1, head_dim).transpose(1, 2)
    repeats = rows.shape[3]
    answers = F.scaled_dot_product_attention(
        rows.reshape(size, heads, -1, head_dim), keys, values, attn_mask=group.mask, scale=scale
    )
    answers = answers.view(size, heads, group.width, repeats, head_dim).transpose(1, 2)
    return answers.reshape(size * group.width, heads * repeats, head_dim)
