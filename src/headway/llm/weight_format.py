"""Which kernels compute a model and how its weights are stored, decided before an engine starts.

The native kernels are taken wherever they can be: on a CPU, where they were built, and where no
setting speaks against them. The weight format and the KV cache's are then the fastest that are
known to be close enough to float32 (see `headway.checkpoint.quality_reports`), else the machine's
fast unquantized format. Decided here and not in the engine, because preparing the weights comes
first.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import cast

from headway import machine, native
from headway.checkpoint import Prepared, Storage, find, native_storage, prepare
from headway.checkpoint.packing import WeightFormat
from headway.checkpoint.quality_reports import QualityReport, find_quality_report
from headway.checkpoint.storage import plain_dtype
from headway.config import EngineConfig, KVCacheDtype
from headway.errors import InvalidRequest
from headway.extras import INSTALL_TORCH, has_torch, needs_torch
from headway.llm.machine_bounds import check_machine

logger = logging.getLogger(__name__)

Formats = tuple[WeightFormat, KVCacheDtype]
"""Those of the weights and of the KV cache."""
_INT8: tuple[Formats, ...] = (("int8", "int8"), ("int8", "bfloat16"))
_INT4: tuple[Formats, ...] = (("int4", "int8"), ("int4", "bfloat16"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this machine and this installation can do; the choice depends on it."""

    gpu: bool
    bfloat16: bool
    """Whether the processor multiplies bfloat16."""
    library: bool
    """Whether the native kernels were built."""
    torch: bool
    """Whether PyTorch is installed, without which neither the reference nor a GPU computes."""
    avx2: bool = False
    """Whether the processor's best instruction set for the kernels is AVX2."""


def ready_model(
    config: EngineConfig,
    *,
    progress: bool = True,
    verify: bool = False,
    stop: threading.Event | None = None,
) -> tuple[EngineConfig, Prepared]:
    """The model prepared as the settings and this machine want it, and the settings made definite.

    `progress` shows bars on standard error where that is a terminal. `verify` and `stop` are those
    of `headway.checkpoint.prepare`. Raises `HeadwayError` where the model cannot be had or
    a setting cannot be met.
    """
    capabilities = Capabilities(
        gpu=machine.has_nvidia_gpu(),
        bfloat16=machine.has_bfloat16(),
        library=native.available(),
        torch=has_torch(),
        avx2=machine.has_avx2_at_most(),
    )
    check_machine(config)
    choose(config, capabilities, None)  # so that nothing is downloaded for what will be refused
    source = find(config.model, progress=progress, stop=stop)
    chosen, storage = choose(config, capabilities, find_quality_report(source.digest))
    remark = second_best(config, capabilities)
    if remark is not None:
        logger.warning(remark)
    prepared = prepare(source, dtype=storage, progress=progress, verify=verify, stop=stop)
    return chosen, prepared


def choose(
    config: EngineConfig, capabilities: Capabilities, report: QualityReport | None
) -> tuple[EngineConfig, Storage]:
    """Settings with backend and dtypes decided, and the storage that they need.

    Raises `InvalidRequest` naming the setting that the backend cannot meet.
    """
    if _native(config, capabilities):
        config = replace(config, backend="native", device="cpu")
        weights, kv_cache = _fastest(config, capabilities, report)
        return replace(config, dtype=weights, kv_cache_dtype=kv_cache), native_storage(weights)
    if not capabilities.torch:
        raise cannot_compute(config)
    dtype = config.dtype
    if dtype == "auto":
        gpu = config.device != "cpu" and capabilities.gpu
        dtype = "bfloat16" if gpu or capabilities.bfloat16 else "float32"
    # The settings refuse what only the native backend can do.
    config = replace(config, backend="reference", dtype=dtype)
    plain = plain_dtype(dtype)
    assert plain is not None
    return config, plain


def second_best(config: EngineConfig, capabilities: Capabilities) -> str | None:
    """What to install so that these settings compute faster here; None where nothing is missing."""
    if config.backend != "auto" or config.device == "cuda":
        return None
    if capabilities.gpu and config.device == "auto":
        return (
            None
            if capabilities.torch
            else f"the GPU needs PyTorch, so a CPU computes: {INSTALL_TORCH}"
        )
    if capabilities.library:
        return None
    return (
        "the native kernels are not built, so PyTorch computes, several times slower: "
        "install a C++ compiler, then Headway again"
    )


def cannot_compute(config: EngineConfig) -> InvalidRequest:
    """The error for settings that only PyTorch could meet, where it is not installed."""
    for name, wants in (("backend", "reference"), ("device", "cuda"), ("dtype", "float16")):
        if getattr(config, name) == wants:
            return needs_torch(f"{name} {wants}", field=name)
    return InvalidRequest(
        "the native kernels are not built, and PyTorch, which could compute instead, is not "
        f"installed: install a C++ compiler, then Headway again, or {INSTALL_TORCH}",
        field="backend",
    )


def fastest(isa: str | None) -> tuple[Formats, ...]:
    """Formats to be preferred where they pass, best first, on the kernels of an instruction set.

    The order is that of throughput with many requests; a single stream is always faster in four
    bits. AVX2 multiplies those twice as fast as eight.
    """
    return _INT4 + _INT8 if isa == "avx2" else _INT8 + _INT4


def kv_cache_of(asked: KVCacheDtype, weights: WeightFormat) -> KVCacheDtype:
    """The KV cache's format where nothing was measured: bfloat16, but for a model in float32."""
    if asked != "auto":
        return asked
    return "float32" if weights == "float32" else "bfloat16"


def _native(config: EngineConfig, capabilities: Capabilities) -> bool:
    if config.backend == "reference" or config.device == "cuda":
        return False
    if (
        config.backend == "auto"
        and config.device == "auto"
        and capabilities.gpu
        and capabilities.torch
    ):
        return False
    if capabilities.library:
        return True
    for name in ("backend", "dtype", "kv_cache_dtype", "isa", "pin_threads"):
        if config.needs_native(name):
            raise InvalidRequest(
                f"{name} {getattr(config, name)} needs the native kernels, which are not built: "
                "install a C++ compiler, then Headway again",
                field=name,
            )
    return False


def _fastest(
    config: EngineConfig, capabilities: Capabilities, report: QualityReport | None
) -> tuple[WeightFormat, KVCacheDtype]:
    """The formats that the settings name; where they name none, the fastest that pass."""
    for weights, kv_cache in fastest(config.isa or ("avx2" if capabilities.avx2 else None)):
        wanted = config.dtype in ("auto", weights) and config.kv_cache_dtype in ("auto", kv_cache)
        if wanted and report is not None and report.passes(weights, kv_cache):
            return weights, kv_cache
    plain: WeightFormat = "bfloat16" if capabilities.bfloat16 else "float32"
    # float16 was refused with the backend.
    weights = plain if config.dtype == "auto" else cast(WeightFormat, config.dtype)
    return weights, kv_cache_of(config.kv_cache_dtype, weights)
