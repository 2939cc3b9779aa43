"""Qwen 2 and 3, dense and as a mixture of experts.

They are Llama in all but attention (biases in Qwen 2, norms of queries and keys in Qwen 3, which
`layers.attention` takes from the config), and Qwen3-MoE's MLPs in the layers that the config names.
"""

from __future__ import annotations

from dataclasses import replace

from headway.errors import ModelError
from headway.models.layers import PreNormBackbone, PreNormLayer, attention, experts, gated_mlp
from headway.models.rope import rope_table
from headway.ops import Rope, Weights
from headway.types.model import ModelConfig


def qwen2(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    return _body(replace(config, attention_bias=True, qk_norm=False), weights, length)


def qwen3(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    return _body(replace(config, qk_norm=True), weights, length)


def qwen3_moe(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    if not 0 < config.num_experts_per_token <= config.num_experts:
        raise ModelError(
            f"{config.num_experts_per_token} of {config.num_experts} experts per token",
            field="num_experts_per_tok",
        )
    return _body(replace(config, qk_norm=True), weights, length)


def _body(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
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
