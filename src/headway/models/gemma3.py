"""Gemma 3 (text): norms before and after each part, windowed layers with a rope of their own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from headway.checkpoint.config import ModelConfig
from headway.models.layers import Attention, GatedMlp, attention, gated_mlp
from headway.models.rope import RopeTable, rope_table
from headway.models.weights import Weights
from headway.ops import Batch, Cache, Ops


def gemma3(config: ModelConfig, weights: Weights, ops: Ops, length: int) -> Gemma3Body:
    return Gemma3Body(
        layers=tuple(_layer(config, weights, index) for index in range(config.num_layers)),
        norm=weights.norm("norm"),
        eps=config.norm_eps,
        rope=rope_table(config, length=length, device=ops.device),
        local_rope=rope_table(config, length=length, device=ops.device, local=True),
    )


def _layer(config: ModelConfig, weights: Weights, index: int) -> Gemma3Layer:
    prefix = f"layers.{index}"
    return Gemma3Layer(
        attention_norm=weights.norm(f"{prefix}.attention_norm"),
        attention=attention(config, weights, index),
        post_attention_norm=weights.norm(f"{prefix}.post_attention_norm"),
        mlp_norm=weights.norm(f"{prefix}.mlp_norm"),
        mlp=gated_mlp(config, weights, index),
        post_mlp_norm=weights.norm(f"{prefix}.post_mlp_norm"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Layer:
    attention_norm: Tensor
    attention: Attention
    post_attention_norm: Tensor
    mlp_norm: Tensor
    mlp: GatedMlp
    post_mlp_norm: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Body:
    layers: tuple[Gemma3Layer, ...]
    norm: Tensor
    eps: float
    rope: RopeTable
    local_rope: RopeTable

    def forward(self, ops: Ops, x: Tensor, cache: Cache, batch: Batch) -> Tensor:
        eps = self.eps
        rotation = self.rope.at(batch.positions)
        local = self.local_rope.at(batch.positions)
        residual = x
        for layer in self.layers:
            turn = rotation if layer.attention.window is None else local
            x = ops.norm(residual, layer.attention_norm, eps)
            x = layer.attention.forward(ops, x, turn, cache, batch)
            x = ops.norm(x, layer.post_attention_norm, eps)
            x, residual = ops.add_norm(x, residual, layer.mlp_norm, eps)
            x = ops.norm(layer.mlp.forward(ops, x), layer.post_mlp_norm, eps)
            residual = x + residual
        return ops.norm(residual, self.norm, eps)
