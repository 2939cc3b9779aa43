"""Qwen 2 and 3, dense and as a mixture of experts: Llama in all but what the config says.

Qwen 2 has biases in attention; Qwen 3 normalises each head's queries and keys, and Qwen3-MoE has
experts in place of the dense MLP, in the layers that the config names.
"""

from __future__ import annotations

from dataclasses import replace

from headway.errors import ModelError
from headway.models.llama import PreNormBackbone, llama
from headway.ops import Weights
from headway.types.model import ModelConfig


def qwen2(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    return llama(replace(config, attention_bias=True, qk_norm=False), weights, length)


def qwen3(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    return llama(replace(config, qk_norm=True), weights, length)


def qwen3_moe(config: ModelConfig, weights: Weights, length: int) -> PreNormBackbone:
    if not 0 < config.num_experts_per_token <= config.num_experts:
        raise ModelError(
            f"{config.num_experts_per_token} of {config.num_experts} experts per token",
            field="num_experts_per_tok",
        )
    return qwen3(config, weights, length)
