"""Bounds on a step, and the KV cache that memory allows, from the settings and the model."""

from __future__ import annotations

from dataclasses import replace

from headway.checkpoint import ModelConfig
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.ops import CacheShape
from headway.runner.memory import Budget, count_blocks, fit_length
from headway.types import Limits

_CPU_LIMITS = (256, 512)
_CUDA_LIMITS = (1024, 8192)


def choose_limits(config: EngineConfig, model: ModelConfig, *, cuda: bool) -> Limits:
    """Bounds on a step: the settings', else the device's, and the model's longest sequence."""
    seqs, tokens = _CUDA_LIMITS if cuda else _CPU_LIMITS
    length = config.max_model_len or model.max_position
    if length > model.max_position:
        raise InvalidRequest(
            f"max_model_len {length} is more than the {model.max_position} positions that "
            f"{model.name} was made for",
            field="max_model_len",
        )
    return Limits(
        max_num_seqs=config.max_num_seqs or seqs,
        max_num_batched_tokens=config.max_num_batched_tokens or tokens,
        max_num_partial_prefills=config.max_num_partial_prefills,
        max_model_len=length,
    )


def one_block(config: EngineConfig, model: ModelConfig) -> CacheShape:
    """A KV cache of a single block."""
    return CacheShape(
        num_layers=model.num_layers,
        num_blocks=1,
        block_size=config.block_size,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
    )


def choose_cache(
    config: EngineConfig, one: CacheShape, limits: Limits, budget: Budget, block_bytes: int
) -> tuple[Limits, CacheShape]:
    """The KV cache that the budget allows; a length that nobody asked for is cut to fit it."""
    if config.max_model_len is None:
        limits = fit_length(limits, budget, block_bytes=block_bytes, block_size=one.block_size)
    number = count_blocks(budget, limits=limits, block_bytes=block_bytes, block_size=one.block_size)
    return limits, replace(one, num_blocks=number)
