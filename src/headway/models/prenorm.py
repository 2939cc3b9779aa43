"""The body that most families share: norm, attention, add; norm, MLP, add."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headway.models.layers import Attention, Mlp
from headway.models.rope import RopeTable
from headway.ops import Batch, Cache, Ops


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormLayer:
    attention_norm: Tensor
    attention: Attention
    mlp_norm: Tensor
    mlp: Mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormBody:
    layers: tuple[PreNormLayer, ...]
    norm: Tensor
    eps: float
    rope: RopeTable

    def forward(self, ops: Ops, x: Tensor, cache: Cache, batch: Batch) -> Tensor:
        rotation = self.rope.at(batch.positions)
        residual = torch.zeros_like(x)
        for layer in self.layers:
            x, residual = ops.add_norm(x, residual, layer.attention_norm, self.eps)
            x = layer.attention.forward(ops, x, rotation, cache, batch)
            x, residual = ops.add_norm(x, residual, layer.mlp_norm, self.eps)
            x = layer.mlp.forward(ops, x)
        return ops.add_norm(x, residual, self.norm, self.eps)[0]
