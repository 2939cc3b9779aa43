"""Builds the native runner: library, instruction set, threads, program, KV cache.

Imports no tensor library, so that an engine is ready as soon as its weights are mapped.
"""

from __future__ import annotations

import os

from headway import machine
from headway.checkpoint import Prepared, native_form
from headway.checkpoint.prepared import WEIGHTS
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.models import load_model
from headway.native.abi import CacheKind
from headway.native.library import choose_isa, load
from headway.ops.native import (
    CacheMemory,
    CompiledProgram,
    NativeWeights,
    Tracer,
    cache_bytes,
    lower,
)
from headway.runner.loaded import LoadedRunner
from headway.runner.memory import Budget, choose_cache, choose_limits, one_block
from headway.runner.native import NativeRunner
from headway.types.engine import Hardware

_SHARE = 0.5
# A machine's memory is not ours alone, and blocks of cached prefixes are kept as long as there are
# others: without a bound, every server would grow to half of the machine.
_MOST_CACHE = 4 * 2**30
# Of the KV cache, taken from the system at once, for the first burst not to wait for it.
_FIRST_CACHE = 384 * 2**20
_CACHE_KINDS = {
    "float32": CacheKind.FLOAT32,
    "bfloat16": CacheKind.BFLOAT16,
    "int8": CacheKind.INT8,
}


def build_native_runner(config: EngineConfig, source: Prepared) -> LoadedRunner:
    """Record a model that was prepared for the native kernels; raises as `build_runner` does.

    Raises `LibraryError` too, where the library is absent or damaged.
    """
    form = native_form(source.storage)
    if form is None or config.dtype not in ("auto", form):
        raise InvalidRequest(
            f"the model was prepared as {source.storage}, not as {config.dtype}", field="dtype"
        )
    library, isa = load(), choose_isa(config.isa)
    threads = config.threads or machine.cores()
    limits = choose_limits(config, source.config, cuda=False)
    free = machine.available_memory()
    weights = NativeWeights(source.folder / WEIGHTS)
    model = load_model(source.config, weights, length=limits.max_model_len)
    recorder = Tracer()
    model.logits(recorder, model.forward(recorder))
    asked = config.gpu_memory_utilization
    budget = Budget(
        given=config.kv_cache_memory,
        share=asked or _SHARE,
        free_before=free,
        # Counted, not measured: mapped weights are in memory only once they have been used.
        free_after=free - source.weight_bytes,
        most=_MOST_CACHE if asked is None and config.kv_cache_memory is None else None,
    )
    kind = choose_cache_kind(config, form)
    one = one_block(config, source.config)
    limits, shape = choose_cache(config, one, limits, budget, cache_bytes(library, one, kind))
    cache = CacheMemory(library, shape, kind)
    cache.touch_ahead(_FIRST_CACHE)
    program = CompiledProgram(
        library,
        lower(recorder.words, weights.matrices),
        weights,
        cache,
        isa=isa,
        threads=threads,
        cpus=choose_cpus(threads) if config.pin_threads else None,
    )
    return LoadedRunner(
        runner=NativeRunner(
            program=program,
            vocabulary=source.config.vocab_size,
            limits=limits,
            block_size=config.block_size,
        ),
        model=source.config,
        hardware=Hardware(
            device="cpu",
            dtype=form,
            kv_cache_dtype=kind.name.lower(),
            backend=f"native ({isa})",
            threads=threads,
            isa=isa,
        ),
        limits=limits,
        num_blocks=shape.num_blocks,
        block_size=config.block_size,
        kv_bytes=cache.bytes,
        weight_bytes=source.weight_bytes,
    )


def choose_cache_kind(config: EngineConfig, form: str) -> CacheKind:
    """The KV cache's format: the settings', else bfloat16 but for a model in float32."""
    if config.kv_cache_dtype != "auto":
        return _CACHE_KINDS[config.kv_cache_dtype]
    return CacheKind.FLOAT32 if form == "float32" else CacheKind.BFLOAT16


def choose_cpus(threads: int) -> list[int]:
    """A processor for each thread, of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        raise InvalidRequest("threads cannot be pinned on this system", field="pin_threads")
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise InvalidRequest(
            f"{threads} threads cannot each have one of {len(allowed)} processors",
            field="pin_threads",
        )
    return allowed[:threads]
