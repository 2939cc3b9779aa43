"""The body that most families share: norm, attention, add; norm, MLP, add."""

from __future__ import annotations

from dataclasses import dataclass

from headway.models.layers import Attention, Mlp
from headway.ops import Ops, Vector, X


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormLayer:
    attention_norm: Vector
    attention: Attention
    mlp_norm: Vector
    mlp: Mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormBody:
    layers: tuple[PreNormLayer, ...]
    norm: Vector
    eps: float

    def forward(self, ops: Ops[X], x: X) -> X:
        residual = x
        for layer in self.layers:
            x = ops.norm(residual, layer.attention_norm, self.eps)
            residual = ops.add(residual, layer.attention.forward(ops, x))
            x = ops.norm(residual, layer.mlp_norm, self.eps)
            residual = ops.add(residual, layer.mlp.forward(ops, x))
        return ops.norm(residual, self.norm, self.eps)
