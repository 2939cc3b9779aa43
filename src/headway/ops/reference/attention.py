"""Paged attention in PyTorch: the KV cache, a step's batch on its device, and attention over both.

A sequence's keys and values lie in blocks anywhere in the cache. `attend` gathers the whole blocks
of several sequences into a padded batch (a `SliceGroup`, see `paging`) and computes it like any
dense attention; the query heads that share a key-value head are rows of one product. A `Batch` is
built once for a step by the backend and used by every layer. Knows neither weights nor rotations.
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
    last. `kept` and `rows` [tokens of the group] say which of the B * Q outputs go to which token
    (None where Q is 1 or all are full: then the outputs go to `queries`). `blocks` [B * kv heads
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
    """One step's tokens and where their keys and values go, as tensors on the device."""

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
    # Blocks are reused, and a mpicked position still takes part in products: as zero times
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
    """Attention of the step's queries [T, heads, head_dim], over all groups; the same shape."""
    out = torch.empty_like(queries)
    for group in groups:
        keys = scratch.gather(cache.keys[layer], group, 0)
        values = scratch.gather(cache.values[layer], group, 1)
        picked = queries.index_select(0, group.queries)
        if group.width == 1:
            outputs = _attend_one(picked, keys, values, group, scale)
        else:
            outputs = _attend_many(picked, keys, values, group, scale)
        if group.kept is not None:
            outputs = outputs.index_select(0, group.kept)
        out.index_copy_(0, group.rows, outputs)
    return out


def _attend_one(
    picked: Tensor, keys: Tensor, values: Tensor, group: SliceGroup, scale: float
) -> Tensor:
    """Attention of one query a sequence, [B, heads, head_dim]."""
    size, heads, span, head_dim = keys.shape
    rows = picked.reshape(size * heads, -1, head_dim)
    scores = torch.bmm(rows, keys.view(size * heads, span, head_dim).transpose(1, 2))
    wide = scores.float().view(size, -1, span).mul_(scale).add_(group.mask)
    probs = torch.softmax(wide, dim=-1).to(picked.dtype).view(scores.shape)
    outputs = torch.bmm(probs, values.view(size * heads, span, head_dim))
    return outputs.view(size, -1, head_dim)


def _attend_many(
    picked: Tensor, keys: Tensor, values: Tensor, group: SliceGroup, scale: float
) -> Tensor:
    """Attention of Q queries a sequence, [B * Q, heads, head_dim]."""
    size, heads, _, head_dim = keys.shape
    rows = picked.view(size, group.width, heads, -1, head_dim).transpose(1, 2)
    repeats = rows.shape[3]
    outputs = F.scaled_dot_product_attention(
        rows.reshape(size, heads, -1, head_dim), keys, values, attn_mask=group.mask, scale=scale
    )
    outputs = outputs.view(size, heads, group.width, repeats, head_dim).transpose(1, 2)
    return outputs.reshape(size * group.width, heads * repeats, head_dim)
