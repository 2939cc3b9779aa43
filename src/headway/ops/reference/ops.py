"""The words of `Ops`, computed eagerly over one step in plain PyTorch.

Bound to a step's batch and to the cache; made anew for each step, which costs nothing. Knows no
request, no model family.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from headway.ops.protocol import AttentionSpec, Matrix, Rope, Table, Vector
from headway.ops.reference.attention import Batch, KVCache, Scratch, attend, store
from headway.ops.reference.weights import Packed, ReferenceWeights
from headway.types.model import Activation


class ReferenceOps:
    """`Ops[Tensor]` of one step."""

    def __init__(
        self, *, weights: ReferenceWeights, cache: KVCache, batch: Batch, scratch: Scratch
    ) -> None:
        self._weights = weights
        self._cache = cache
        self._batch = batch
        self._scratch = scratch
        self._rotations: dict[Rope, tuple[Tensor, Tensor]] = {}

    def embed(self, table: Table, scale: float) -> Tensor:
        rows = F.embedding(self._batch.tokens, self._weights.tables[table.index])
        return rows if scale == 1.0 else rows * torch.tensor(scale, dtype=rows.dtype)

    def norm(self, x: Tensor, weight: Vector, eps: float) -> Tensor:
        return norm(x, self._weights.vectors[weight.index], eps)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def linear(self, x: Tensor, matrix: Matrix) -> Tensor:
        return linear(x, self._weights.matrices[matrix.index])

    def attention(self, qkv: Tensor, spec: AttentionSpec) -> Tensor:
        both = spec.heads + spec.kv_heads
        parts = qkv.view(len(qkv), both + spec.kv_heads, spec.head_dim)
        cos, sin = self._rotation(spec.rope)
        if spec.norms is None:
            turned = rotate(parts[:, :both], cos, sin)
            queries, keys = turned[:, : spec.heads], turned[:, spec.heads :]
        else:
            queries = self.norm(parts[:, : spec.heads], spec.norms[0], spec.eps)
            keys = self.norm(parts[:, spec.heads : both], spec.norms[1], spec.eps)
            queries, keys = rotate(queries, cos, sin), rotate(keys, cos, sin)
        store(keys, parts[:, both:], self._cache, spec.layer, self._batch)
        groups = self._batch.groups[spec.window]
        mixed = attend(queries, self._cache, spec.layer, groups, self._scratch, spec.scale)
        return mixed.flatten(1)

    def gate(self, x: Tensor, activation: Activation) -> Tensor:
        first, up = x.chunk(2, dim=-1)
        if activation == "silu":
            return F.silu(first) * up
        return F.gelu(first, approximate="tanh") * up

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
        weights, experts = torch.softmax(scores.float(), dim=-1).topk(chosen, dim=-1)
        if normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        # Sorted by expert, so that each expert multiplies all its tokens at once; every token's
        # answers are then added in the order of its own choices, whoever else is in the batch.
        order = experts.flatten().argsort(stable=True)
        counts = torch.bincount(experts.flatten(), minlength=len(gate_up)).tolist()
        parts = torch.split(x.index_select(0, order // chosen), counts)
        answers = torch.cat(
            [
                self.linear(self.gate(self.linear(part, first), activation), second)
                for part, first, second in zip(parts, gate_up, down, strict=True)
                if len(part)
            ]
        )
        ordered = torch.empty_like(answers).index_copy_(0, order, answers)
        shares = ordered.view(len(x), chosen, -1) * weights.to(x.dtype)[:, :, None]
        return shares.sum(1)

    def head(self, hidden: Tensor, matrix: Matrix, softcap: float | None) -> Tensor:
        scores = self.linear(hidden, matrix)
        return scores if softcap is None else (scores.float() / softcap).tanh() * softcap

    def _rotation(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, head_dim] of the step's positions, looked up once."""
        found = self._rotations.get(rope)
        if found is None:
            cos, sin = self._weights.ropes[rope.index]
            places = self._batch.positions
            found = (cos.index_select(0, places), sin.index_select(0, places))
            self._rotations[rope] = found
        return found


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis, computed in float32."""
    wide = x.float()
    factor = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True).add_(eps))
    return (wide * factor * weight).to(x.dtype)


def linear(x: Tensor, matrix: Packed) -> Tensor:
    """x [T, in] times the matrix: [T, out]."""
    if not matrix.packed:
        return F.linear(x, matrix.weight, matrix.bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        x, matrix.weight, matrix.bias, "none", [], ""
    )
    return product


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [T, heads, head_dim]; cos and sin are float32 [T, head_dim]."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (wide * cos[:, None]).addcmul_(turned, sin[:, None]).to(x.dtype)
