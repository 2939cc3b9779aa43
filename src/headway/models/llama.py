"""Llama, and Mistral (the same with a sliding window in every layer): the pre-norm decoder.

Each layer adds to the residual stream twice: norm, attention, add; norm, MLP, add. Qwen shares this
backbone, so which MLP a layer has (dense, or a mixture of experts) follows from the config.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.models.layers import Attention, Mlp, attention, experts, gated_mlp, rope_table
from headway.ops import Ops, Rope, Vector, Weights, X
from headway.types.model import ModelConfig


def llama(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    rope = weights.rope(*rope_table(config, length=length))
    return PreNormBackbone(
        layers=tuple(_layer(config, weights, index, rope) for index in range(config.num_layers)),
        norm=weights.vector("norm"),
        eps=config.norm_eps,
    )


def _layer(config: ModelConfig, weights: Weights, index: int, rope: Rope) -> PreNormLayer:
    mlp = experts if config.is_moe(index) else gated_mlp
    return PreNormLayer(
        attention_norm=weights.vector(f"layers.{index}.attention_norm"),
        attention=attention(config, weights, index, rope),
        mlp_norm=weights.vector(f"layers.{index}.mlp_norm"),
        mlp=mlp(config, weights, index),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormLayer:
    attention_norm: Vector
    attention: Attention
    mlp_norm: Vector
    mlp: Mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class PreNormBackbone:
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
