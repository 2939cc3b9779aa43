"""From settings and a prepared model to a runner: device, type, limits, weights, KV cache.

A setting left open is decided here, from the device and the model; a setting given is kept or
refused with the flag to change, never bent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from headway import machine
from headway.checkpoint import ModelConfig, load_prepared
from headway.checkpoint.prepared import WEIGHTS
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.models import load_model
from headway.ops import CacheShape, ReferenceOps
from headway.ops.reference import onednn_bfloat16
from headway.runner.memory import (
    Budget,
    count_blocks,
    default_share,
    fit_length,
    free_memory,
)
from headway.runner.torch_runner import TorchRunner
from headway.types import Limits

_CPU_LIMITS = (256, 512)
_CUDA_LIMITS = (1024, 8192)

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRunner:
    """A runner, and what was found and chosen on the way."""

    runner: TorchRunner
    model: ModelConfig
    device: str
    dtype: str
    backend: str
    threads: int
    limits: Limits
    num_blocks: int
    block_size: int
    kv_bytes: int
    weight_bytes: int


def build_runner(config: EngineConfig, prepared: Path) -> LoadedRunner:
    """Load a prepared model as the settings say; takes about as long as reading the weights.

    Raises `InvalidRequest` (a setting that cannot be met) or `ModelError` (a damaged model).
    """
    source = load_prepared(prepared)
    threads = config.threads or machine.cores()
    torch.set_num_threads(threads)
    device = choose_device(config)
    dtype = choose_dtype(config, device)
    limits = choose_limits(config, source.config, device)
    free_before = free_memory(device)
    ops = ReferenceOps(device=device, dtype=_TYPES[dtype])
    model = load_model(source.config, prepared / WEIGHTS, ops, length=limits.max_model_len)
    budget = Budget(
        given=config.kv_cache_memory,
        share=config.gpu_memory_utilization or default_share(device),
        free_before=free_before,
        free_after=free_memory(device),
    )
    limits, shape = choose_cache(config, source.config, limits, budget, _TYPES[dtype].itemsize)
    runner = TorchRunner(model=model, cache=ops.allocate(shape), limits=limits)
    return LoadedRunner(
        runner=runner,
        model=source.config,
        device=str(device),
        dtype=dtype,
        backend=ops.name,
        threads=threads,
        limits=limits,
        num_blocks=shape.num_blocks,
        block_size=config.block_size,
        kv_bytes=shape.num_blocks * shape.elements_per_block * _TYPES[dtype].itemsize,
        weight_bytes=source.weight_bytes,
    )


def choose_device(config: EngineConfig) -> torch.device:
    """The GPU where there is one, unless the settings say otherwise."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available to PyTorch", field="device")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def choose_dtype(config: EngineConfig, device: torch.device) -> str:
    """bfloat16 where the hardware multiplies it, else float32."""
    if config.dtype != "auto":
        return config.dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if machine.has_bfloat16() and onednn_bfloat16() else "float32"


def choose_limits(config: EngineConfig, model: ModelConfig, device: torch.device) -> Limits:
    """Bounds on a step: the settings', else the device's, and the model's longest sequence."""
    seqs, tokens = _CUDA_LIMITS if device.type == "cuda" else _CPU_LIMITS
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


def choose_cache(
    config: EngineConfig, model: ModelConfig, limits: Limits, budget: Budget, item_bytes: int
) -> tuple[Limits, CacheShape]:
    """The KV cache that the budget allows; a length that nobody asked for is cut to fit it."""
    one = CacheShape(
        num_layers=model.num_layers,
        num_blocks=1,
        block_size=config.block_size,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
    )
    sizes = {"block_bytes": one.elements_per_block * item_bytes, "block_size": config.block_size}
    if config.max_model_len is None:
        limits = fit_length(limits, budget, **sizes)
    return limits, replace(one, num_blocks=count_blocks(budget, limits=limits, **sizes))
