"""A draft model from an engine's settings: beside which model it runs, and in how much memory.

It computes as that model does: on the same device, with the same kernels and as many threads. Its
KV cache gets a share of the memory that is there for both.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from headway.checkpoint import ModelConfig, load_prepared
from headway.clock import MonotonicClock
from headway.config import EngineConfig
from headway.engine.draft_model import DraftModel
from headway.engine.sizes import sizes_of
from headway.logs import line
from headway.runner import LoadedRunner, build_runner
from headway.runner.peak_rates import peak_rates_here
from headway.steptime.online import OnlineStepTimes, step_times_of
from headway.wire import PreparedDraft

KV_SHARE = 1 / 8
"""Of the memory for both KV caches, for the draft model's: it needs less for each token, and drafts
pay for few sequences at once."""

logger = logging.getLogger(__name__)


def beside_draft(config: EngineConfig) -> EngineConfig:
    """The settings of a model that a draft model runs beside: they leave it its share of memory.

    Where they do not bound the memory, half of what is free is taken at most, and the share is
    found in the other half.
    """
    memory, utilization = config.kv_cache_memory, config.gpu_memory_utilization
    if memory is not None:
        return replace(config, kv_cache_memory=max(1, int(memory * (1 - KV_SHARE))))
    if utilization is not None:
        return replace(config, gpu_memory_utilization=utilization * (1 - KV_SHARE))
    return config


def build_draft_model(
    config: EngineConfig, draft: PreparedDraft, beside: LoadedRunner
) -> DraftModel:
    """The draft model of an engine whose own model is loaded, with settings by `beside_draft`.

    Raises `HeadwayError` where it cannot be loaded.
    """
    prepared = Path(draft.prepared)
    settings = draft_settings(config, draft, beside, load_prepared(prepared).config)
    loaded = build_runner(settings, prepared)
    hardware = loaded.hardware
    logger.info(
        line(
            "draft_model_ready",
            model=loaded.model.name,
            dtype=hardware.dtype,
            kv_cache_dtype=hardware.kv_cache_dtype,
            blocks=loaded.num_blocks,
            kv_bytes=loaded.kv_bytes,
            max_model_len=loaded.limits.max_model_len,
        )
    )
    return DraftModel(
        loaded.runner,
        limits=loaded.limits,
        num_blocks=loaded.num_blocks,
        block_size=loaded.block_size,
        clock=MonotonicClock(),
        prefix_caching=config.enable_prefix_caching,
        step_times=_step_times(loaded),
    )


def draft_settings(
    config: EngineConfig, draft: PreparedDraft, beside: LoadedRunner, model: ModelConfig
) -> EngineConfig:
    """What the draft model is loaded with: the settings of the model `beside`, in its own memory.

    It is to draft for sequences as long as that model takes, or as long as its memory holds.
    """
    memory = int(beside.kv_bytes * KV_SHARE / (1 - KV_SHARE))
    sizes = sizes_of(model, dtype=draft.dtype, kv_cache_dtype=draft.kv_cache_dtype)
    length = min(beside.limits.max_model_len, model.max_position)
    whole = -(-length // config.block_size) * config.block_size
    fits = whole * sizes.kv_bytes_per_token <= memory
    return replace(
        config,
        model=model.name,
        tokenizer=None,
        dtype=draft.dtype,
        kv_cache_dtype=draft.kv_cache_dtype,
        kv_cache_memory=max(1, memory),
        gpu_memory_utilization=None,
        # One that is left open is cut to the memory.
        max_model_len=length if fits else None,
    )


def _step_times(loaded: LoadedRunner) -> OnlineStepTimes | None:
    hardware = loaded.hardware
    sizes = sizes_of(
        loaded.model,
        dtype=hardware.dtype,
        kv_cache_dtype=hardware.kv_cache_dtype,
        weight_bytes=loaded.weight_bytes,
    )
    rates = peak_rates_here(
        device=hardware.device, dtype=hardware.dtype, threads=hardware.threads, isa=hardware.isa
    )
    return step_times_of(sizes, rates)
