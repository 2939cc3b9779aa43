"""The few operations that a backend provides, and the data they share.

A model is written in these words alone, straight through and without branching on data, so that a
backend may compute them eagerly or record them once and replay them. T is the number of tokens in
the step (all sequences' new tokens, one after the other), H the hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headway.checkpoint.config import Activation

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A linear layer's weight [out, in] in the layout its backend wants, and its bias [out]."""

    weight: Tensor
    bias: Tensor | None
    packed: bool
    """The weight is in a library's own layout and may only be handed back to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """The KV cache: `num_blocks` blocks of `block_size` positions in each layer."""

    num_layers: int
    num_blocks: int
    block_size: int
    num_kv_heads: int
    head_dim: int

    @property
    def elements_per_block(self) -> int:
        """Of one block over all layers, keys and values together."""
        return 2 * self.num_layers * self.block_size * self.num_kv_heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Keys and values of each layer, [num_blocks, num_kv_heads, block_size, head_dim]."""

    shape: CacheShape
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


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
    """One step as a backend wants it on its device, computed once and used by every layer."""

    tokens: Tensor
    """[T] token ids."""
    positions: Tensor
    """[T] positions in their sequences."""
    slots: Tensor
    """[T * kv heads] rows of the cache seen as [num_blocks * kv heads * block size, head_dim]."""
    groups: Mapping[int | None, tuple[Group, ...]]
    """Who attends together, per sliding window (None is full attention)."""


class Ops(Protocol):
    """One backend on one device, computing in one type."""

    @property
    def name(self) -> str:
        """The backend and what runs its matrix products, for people to read."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def pack(self, weight: Tensor, bias: Tensor | None = None) -> Matrix:
        """Bring a weight [out, in] into the layout that `linear` wants; done once, at load."""
        ...

    def allocate(self, shape: CacheShape) -> Cache:
        """A KV cache whose memory is touched only as it is used."""
        ...

    def batch(
        self, host: HostBatch, shape: CacheShape, windows: Sequence[int | None], num_heads: int
    ) -> Batch:
        """Bring a step to the device and work out what all layers share."""
        ...

    def embed(self, tokens: Tensor, table: Tensor, scale: float) -> Tensor:
        """Rows [T, H] of the table [vocabulary, H], times `scale` rounded to the type."""
        ...

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm over the last axis, computed in float32."""
        ...

    def add_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """The norm of x + residual, and x + residual itself."""
        ...

    def linear(self, x: Tensor, matrix: Matrix) -> Tensor:
        """x [T, in] times the matrix: [T, out]."""
        ...

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary embedding of x [T, heads, head_dim]; cos and sin are float32 [T, head_dim].

        Component i of the first half turns together with component i of the second.
        """
        ...

    def store(self, keys: Tensor, values: Tensor, cache: Cache, layer: int, batch: Batch) -> None:
        """Write keys and values [T, kv heads, head_dim] to the step's slots, finite in any case."""
        ...

    def attention(
        self,
        queries: Tensor,
        cache: Cache,
        layer: int,
        batch: Batch,
        *,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """Causal attention of queries [T, heads, head_dim] over their sequences' stored blocks.

        Each key-value head serves heads / kv heads neighbouring query heads. Only the last
        `window` positions are seen, the query's own included. Returns [T, heads * head_dim].
        """
        ...

    def gate(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(first half) * second half of the last axis."""
        ...

    def experts(
        self,
        x: Tensor,
        scores: Tensor,
        gate_up: Sequence[Matrix],
        down: Sequence[Matrix],
        *,
        chosen: int,
        normalise: bool,
        activation: Activation,
    ) -> Tensor:
        """Gated MLPs [T, H] of each token's `chosen` best experts by scores [T, experts].

        Weighted by the softmax of all scores, rescaled to sum to 1 with `normalise`.
        """
        ...
