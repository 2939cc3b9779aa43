"""One step, and the cache it works on, as tensors on their device.

Built once for a step by the backend and used by every layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from headway.ops.protocol import CacheShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Keys and values of each layer, [num_blocks, num_kv_heads, block_size, head_dim]."""

    shape: CacheShape
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
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
    groups: Mapping[int | None, tuple[Group, ...]]
    """Who attends together, per sliding window (None is full attention)."""
