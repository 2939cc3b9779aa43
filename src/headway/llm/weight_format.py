"""Which kernels compute a model and how its weights are stored, decided before an engine starts.

The native kernels are taken wherever they can be: on a CPU, where they were built, and where no
setting speaks against them. What remains open is then settled: the fastest form and KV cache that
are known to be close enough to float32 (see `headway.checkpoint.quality_reports`), else the
machine's fast
plain format.
Decided here and not in the engine, because preparing the weights comes first.
"""

from __future__ import annotations

import logging
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

logger = logging.getLogger(__name__)

FASTEST: tuple[tuple[WeightFormat, KVCacheDtype], ...] = (
    ("int8", "int8"),
    ("int8", "bfloat16"),
    ("int4", "int8"),
    ("int4", "bfloat16"),
)
"""Forms and KV caches to be preferred where they pass, best first.

The order is that of throughput with many requests; a single stream is faster in 4 bits.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the choice depends on besides the settings."""

    gpu: bool
    bfloat16: bool
    """Whether the processor multiplies bfloat16."""
    library: bool
    """Whether the native kernels were built."""
    torch: bool
    """Whether PyTorch is installed, without which neither the reference nor a GPU computes."""


def ready_model(config: EngineConfig, *, progress: bool = True) -> tuple[EngineConfig, Prepared]:
    """The model prepared as the settings and this machine want it, and the settings made definite.

    `progress` shows bars on standard error. Raises `HeadwayError` where the model cannot be had or
    a setting cannot be met.
    """
    facts = Facts(
        gpu=machine.has_nvidia_gpu(),
        bfloat16=machine.has_bfloat16(),
        library=native.available(),
        torch=has_torch(),
    )
    choose(config, facts, None)  # so that nothing is downloaded for what will be refused
    source = find(config.model, progress=progress)
    chosen, storage = choose(config, facts, find_quality_report(source.digest))
    remark = second_best(config, facts)
    if remark is not None:
        logger.warning(remark)
    return chosen, prepare(source, dtype=storage, progress=progress)


def choose(
    config: EngineConfig, facts: Facts, verdict: QualityReport | None
) -> tuple[EngineConfig, Storage]:
    """Settings with backend and dtypes decided, and the storage that they need.

    Raises `InvalidRequest` naming the setting that the backend cannot meet.
    """
    if _native(config, facts):
        config = replace(config, backend="native", device="cpu")
        form, kv_cache = _form(config, facts, verdict)
        return replace(config, dtype=form, kv_cache_dtype=kv_cache), native_storage(form)
    if not facts.torch:
        raise cannot_compute(config)
    dtype = config.dtype
    if dtype == "auto":
        gpu = config.device != "cpu" and facts.gpu
        dtype = "bfloat16" if gpu or facts.bfloat16 else "float32"
    # The settings refuse what only the native backend can do.
    config = replace(config, backend="reference", dtype=dtype)
    plain = plain_dtype(dtype)
    assert plain is not None
    return config, plain


def second_best(config: EngineConfig, facts: Facts) -> str | None:
    """What to install so that these settings compute faster here; None where nothing is missing."""
    if config.backend != "auto" or config.device == "cuda":
        return None
    if facts.gpu and config.device == "auto":
        return None if facts.torch else f"the GPU needs PyTorch, so a CPU computes: {INSTALL_TORCH}"
    if facts.library:
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


def kv_cache_of(asked: KVCacheDtype, form: WeightFormat) -> KVCacheDtype:
    """The KV cache's format where nothing was measured: bfloat16, but for a model in float32."""
    if asked != "auto":
        return asked
    return "float32" if form == "float32" else "bfloat16"


def _native(config: EngineConfig, facts: Facts) -> bool:
    if config.backend == "reference" or config.device == "cuda":
        return False
    if config.backend == "auto" and config.device == "auto" and facts.gpu and facts.torch:
        return False
    if facts.library:
        return True
    for name in ("backend", "dtype", "kv_cache_dtype", "isa", "pin_threads"):
        if config.needs_native(name):
            raise InvalidRequest(
                f"{name} {getattr(config, name)} needs the native kernels, which are not built: "
                "install a C++ compiler, then Headway again",
                field=name,
            )
    return False


def _form(
    config: EngineConfig, facts: Facts, verdict: QualityReport | None
) -> tuple[WeightFormat, KVCacheDtype]:
    """What the settings say, and where they leave it open, the fastest that passes with them."""
    for form, kv_cache in FASTEST:
        wanted = config.dtype in ("auto", form) and config.kv_cache_dtype in ("auto", kv_cache)
        if wanted and verdict is not None and verdict.passes(form, kv_cache):
            return form, kv_cache
    plain: WeightFormat = "bfloat16" if facts.bfloat16 else "float32"
    # float16 was refused with the backend.
    form = plain if config.dtype == "auto" else cast(WeightFormat, config.dtype)
    return form, kv_cache_of(config.kv_cache_dtype, form)
