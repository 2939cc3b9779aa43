"""Llama, and Mistral: the same with a sliding window in every layer."""

from __future__ import annotations

from headway.checkpoint.config import ModelConfig
from headway.models.layers import attention, gated_mlp
from headway.models.prenorm import PreNormBody, PreNormLayer
from headway.models.rope import rope_table
from headway.models.weights import Weights
from headway.ops import Ops


def llama(config: ModelConfig, weights: Weights, ops: Ops, length: int) -> PreNormBody:
    return PreNormBody(
        layers=tuple(_layer(config, weights, index) for index in range(config.num_layers)),
        norm=weights.norm("norm"),
        eps=config.norm_eps,
        rope=rope_table(config, length=length, device=ops.device),
    )


def _layer(config: ModelConfig, weights: Weights, index: int) -> PreNormLayer:
    return PreNormLayer(
        attention_norm=weights.norm(f"layers.{index}.attention_norm"),
        attention=attention(config, weights, index),
        mlp_norm=weights.norm(f"layers.{index}.mlp_norm"),
        mlp=gated_mlp(config, weights, index),
    )
