"""Builds the torch runner: device, type, limits, weights, KV cache of the reference backend."""

from __future__ import annotations

import torch

from headway import machine
from headway.checkpoint import Prepared
from headway.checkpoint.prepared import WEIGHTS
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.models import load_model
from headway.ops.reference import ReferenceBackend, onednn_bfloat16
from headway.runner.loaded import LoadedRunner
from headway.runner.memory import Budget, choose_cache, choose_limits, one_block
from headway.runner.torch import TorchRunner
from headway.types.engine import Hardware

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_SHARE = 0.5
_CUDA_SHARE = 0.9


def build_torch_runner(config: EngineConfig, source: Prepared) -> LoadedRunner:
    """Load a prepared model into PyTorch; raises as `build_runner` does."""
    threads = config.threads or machine.cores()
    torch.set_num_threads(threads)
    device = choose_device(config)
    dtype = choose_dtype(config, device)
    limits = choose_limits(config, source.config, cuda=device.type == "cuda")
    free_before = free_memory(device)
    backend = ReferenceBackend(device=device, dtype=_TYPES[dtype])
    weights = backend.weights(source.folder / WEIGHTS)
    model = load_model(source.config, weights, length=limits.max_model_len)
    budget = Budget(
        given=config.kv_cache_memory,
        share=config.gpu_memory_utilization or default_share(device),
        free_before=free_before,
        free_after=free_memory(device),
    )
    one = one_block(config, source.config)
    block_bytes = one.elements_per_block * _TYPES[dtype].itemsize
    limits, shape = choose_cache(config, one, limits, budget, block_bytes)
    return LoadedRunner(
        runner=TorchRunner(
            model=model,
            backend=backend,
            weights=weights,
            cache=backend.allocate(shape),
            limits=limits,
        ),
        model=source.config,
        hardware=Hardware(
            device=str(device),
            dtype=dtype,
            kv_cache_dtype=dtype,
            backend=backend.name,
            threads=threads,
        ),
        limits=limits,
        num_blocks=shape.num_blocks,
        block_size=config.block_size,
        kv_bytes=shape.num_blocks * block_bytes,
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
    dtype = config.dtype if config.dtype != "auto" else _best_dtype(device)
    if dtype not in _TYPES:
        raise InvalidRequest(f"dtype {dtype} needs the native backend", field="dtype")
    if config.kv_cache_dtype not in ("auto", dtype):
        raise InvalidRequest(
            f"the reference backend keeps its KV cache in the model's dtype, {dtype}",
            field="kv_cache_dtype",
        )
    return dtype


def free_memory(device: torch.device) -> int:
    """Bytes that may be allocated on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return machine.available_memory()


def default_share(device: torch.device) -> float:
    """GPUs are ours alone, a machine's memory is not."""
    return _CUDA_SHARE if device.type == "cuda" else _CPU_SHARE


def _best_dtype(device: torch.device) -> str:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if machine.has_bfloat16() and onednn_bfloat16() else "float32"
