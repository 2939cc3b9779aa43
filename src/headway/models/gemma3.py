"""Gemma 3 (text): norms before and after each part, windowed layers with a rope of their own."""

from __future__ import annotations

from dataclasses import dataclass

from headway.models.layers import Attention, GatedMlp, attention, gated_mlp, rope_table
from headway.ops import Ops, Rope, Vector, Weights, X
from headway.types.model import ModelConfig


def gemma3(config: ModelConfig, weights: Weights, length: int) -> Gemma3Backbone:
    rope = weights.rope(*rope_table(config, length=length))
    local = weights.rope(*rope_table(config, length=length, local=True))
    return Gemma3Backbone(
        layers=tuple(
            _layer(config, weights, index, rope if config.window(index) is None else local)
            for index in range(config.num_layers)
        ),
        norm=weights.vector("norm"),
        eps=config.norm_eps,
    )


def _layer(config: ModelConfig, weights: Weights, index: int, rope: Rope) -> Gemma3Layer:
    prefix = f"layers.{index}"
    return Gemma3Layer(
        attention_norm=weights.vector(f"{prefix}.attention_norm"),
        attention=attention(config, weights, index, rope),
        post_attention_norm=weights.vector(f"{prefix}.post_attention_norm"),
        mlp_norm=weights.vector(f"{prefix}.mlp_norm"),
        mlp=gated_mlp(config, weights, index),
        post_mlp_norm=weights.vector(f"{prefix}.post_mlp_norm"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Layer:
    attention_norm: Vector
    attention: Attention
    post_attention_norm: Vector
    mlp_norm: Vector
    mlp: GatedMlp
    post_mlp_norm: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Backbone:
    layers: tuple[Gemma3Layer, ...]
    norm: Vector
    eps: float

    def forward(self, ops: Ops[X], x: X) -> X:
        eps, residual = self.eps, x
        for layer in self.layers:
            x = layer.attention.forward(ops, ops.norm(residual, layer.attention_norm, eps))
            residual = ops.add(residual, ops.norm(x, layer.post_attention_norm, eps))
            x = layer.mlp.forward(ops, ops.norm(residual, layer.mlp_norm, eps))
            residual = ops.add(residual, ops.norm(x, layer.post_mlp_norm, eps))
        return ops.norm(residual, self.norm, eps)
