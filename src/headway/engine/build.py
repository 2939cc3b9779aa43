"""Put an engine together from its settings: runner, blocks, policy, scheduler, loop.

The only place that sees both towers at once; it decides nothing that either could decide.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from headway.blocks import BlockPool
from headway.clock import MonotonicClock
from headway.config import EngineConfig
from headway.engine.loop import Engine
from headway.engine.record_file import RecordFile
from headway.engine.recorder import Recorder
from headway.latency.sizes import MachineLimits, ModelSizes
from headway.policy import make_policy
from headway.recording.lines import EngineLine
from headway.runner import build_runner
from headway.runner.loaded import LoadedRunner
from headway.scheduler import Scheduler
from headway.wire import EngineInfo, Start

logger = logging.getLogger(__name__)


def build_engine(start: Start) -> tuple[Engine, EngineInfo]:
    """An engine for a prepared model, ready to step; raises `HeadwayError` where it cannot be."""
    began = time.monotonic()
    config = start.config
    file = None if config.record is None else RecordFile(Path(config.record))
    loaded = build_runner(config, Path(start.prepared))
    scheduler = Scheduler(
        policy=make_policy(config.policy, dynamic_wait=config.dynamic_wait),
        pool=BlockPool(num_blocks=loaded.num_blocks, block_size=loaded.block_size),
        limits=loaded.limits,
        prefix_caching=config.enable_prefix_caching,
        reserve_all=config.kv_reservation == "full",
    )
    info = EngineInfo(
        device=loaded.device,
        dtype=loaded.dtype,
        kv_cache_dtype=loaded.kv_cache_dtype,
        backend=loaded.backend,
        threads=loaded.threads,
        policy=config.policy,
        limits=loaded.limits,
        num_blocks=loaded.num_blocks,
        block_size=loaded.block_size,
        kv_bytes=loaded.kv_bytes,
        weight_bytes=loaded.weight_bytes,
    )
    logger.info(
        "engine ready device=%s dtype=%s kv_cache_dtype=%s backend=%s threads=%d policy=%s "
        "blocks=%d seconds=%.2f",
        info.device,
        info.dtype,
        info.kv_cache_dtype,
        info.backend,
        info.threads,
        info.policy,
        info.num_blocks,
        time.monotonic() - began,
    )
    watch = None
    if file is not None:
        line = engine_line(config, info, sizes=model_sizes_of(loaded))
        watch = Recorder(engine=line, stats=scheduler.stats, sink=file)
    engine = Engine(scheduler=scheduler, runner=loaded.runner, clock=MonotonicClock(), watch=watch)
    return engine, info


def engine_line(
    config: EngineConfig,
    info: EngineInfo,
    *,
    sizes: ModelSizes,
    machine: MachineLimits | None = None,
) -> EngineLine:
    """The first line of this engine's recording."""
    return EngineLine(
        model=config.model,
        device=info.device,
        dtype=info.dtype,
        kv_cache_dtype=info.kv_cache_dtype,
        backend=info.backend,
        threads=info.threads,
        policy=info.policy,
        dynamic_wait=config.dynamic_wait,
        prefix_caching=config.enable_prefix_caching,
        kv_reservation=config.kv_reservation,
        limits=info.limits,
        num_blocks=info.num_blocks,
        block_size=info.block_size,
        sizes=sizes,
        machine=machine,
    )


def model_sizes_of(loaded: LoadedRunner) -> ModelSizes:
    """The model as the few numbers that bound a step's time."""
    model = loaded.model
    attention = model.hidden_size * model.head_dim * (2 * model.num_heads + 2 * model.num_kv_heads)
    parameters = model.num_layers * (attention + 3 * model.hidden_size * model.intermediate_size)
    head = model.hidden_size * model.vocab_size
    bits = {"float32": 32, "int8": 8.5, "int4": 5}.get(loaded.dtype, 16)
    element = {"float32": 4.0, "int8": 1.0}.get(loaded.kv_cache_dtype, 2.0)
    return ModelSizes(
        name=model.name,
        token_ops=2.0 * parameters,
        token_bytes=parameters * bits / 8,
        row_ops=2.0 * head,
        row_bytes=head * bits / 8,
        pair_ops=4.0 * model.num_heads * model.head_dim,
        position_bytes=2.0 * model.num_kv_heads * model.head_dim * element,
        full_layers=model.num_layers,
    )
