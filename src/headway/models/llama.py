"""Llama, and Mistral: the same with a sliding window in every layer."""

from __future__ import annotations

from headway.models.layers import PreNormBackbone, PreNormLayer, attention, gated_mlp
from headway.models.rope import rope_table
from headway.ops import Rope, Weights
from headway.types.model import ModelConfig


def llama(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    rope = weights.rope(*rope_table(config, length=length))
    return PreNormBackbone(
        layers=tuple(_layer(config, weights, index, rope) for index in range(config.num_layers)),
        norm=weights.vector("norm"),
        eps=config.norm_eps,
    )


def _layer(config: ModelConfig, weights: Weights, index: int, rope: Rope) -> PreNormLayer:
    return PreNormLayer(
        attention_norm=weights.vector(f"layers.{index}.attention_norm"),
        attention=attention(config, weights, index, rope),
        mlp_norm=weights.vector(f"layers.{index}.mlp_norm"),
        mlp=gated_mlp(config, weights, index),
    )
