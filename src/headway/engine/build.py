"""Put an engine together from its settings: runner, blocks, policy, scheduler, loop.

The only place that sees both towers at once; it decides nothing that either could decide.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from headway.blocks import BlockPool
from headway.clock import MonotonicClock
from headway.config import EngineConfig
from headway.engine.loop import Engine
from headway.engine.record_file import RecordFile
from headway.engine.recorder import Recorder
from headway.engine.sizes import sizes_of
from headway.latency.features import roofline_seconds
from headway.latency.shape import shape_of
from headway.policy import make_policy
from headway.recording.lines import EngineLine
from headway.runner import build_runner
from headway.runner.loaded import LoadedRunner
from headway.runner.machine_limits import limits_here
from headway.scheduler import Scheduler
from headway.types import StepPlan
from headway.wire import EngineInfo, Start

logger = logging.getLogger(__name__)


def build_engine(start: Start) -> tuple[Engine, EngineInfo]:
    """An engine for a prepared model, ready to step; raises `HeadwayError` where it cannot be."""
    began = time.monotonic()
    config = start.config
    file = None if config.record is None else RecordFile(Path(config.record))
    loaded = build_runner(config, Path(start.prepared))
    scheduler = scheduler_for(config, loaded)
    info = describe(config, loaded)
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
        line = engine_line(config, info)
        watch = Recorder(engine=line, leftover=scheduler.leftover, sink=file)
    engine = Engine(
        scheduler=scheduler,
        runner=loaded.runner,
        clock=MonotonicClock(),
        watch=watch,
        ideal=ideal_of(info),
    )
    return engine, info


def scheduler_for(config: EngineConfig, loaded: LoadedRunner) -> Scheduler:
    """A scheduler with an empty pool, within what the runner has room for."""
    return Scheduler(
        policy=make_policy(config.policy, dynamic_wait=config.dynamic_wait),
        pool=BlockPool(num_blocks=loaded.num_blocks, block_size=loaded.block_size),
        limits=loaded.limits,
        prefix_caching=config.enable_prefix_caching,
        reserve_all=config.kv_reservation == "full",
    )


def describe(config: EngineConfig, loaded: LoadedRunner) -> EngineInfo:
    """What was found and chosen; measures the machine where that was never done."""
    return EngineInfo(
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
        sizes=sizes_of(
            loaded.model,
            dtype=loaded.dtype,
            kv_cache_dtype=loaded.kv_cache_dtype,
            weight_bytes=loaded.weight_bytes,
        ),
        machine=limits_here(
            device=loaded.device, dtype=loaded.dtype, threads=loaded.threads, isa=loaded.isa
        ),
    )


def ideal_of(info: EngineInfo) -> Callable[[StepPlan], float] | None:
    """What foretells the seconds of a plan at the machine's limits, where these are known."""
    sizes, machine = info.sizes, info.machine
    if sizes is None or machine is None:
        return None
    return lambda plan: roofline_seconds(shape_of(plan.slices, sizes.window), sizes, machine)


def engine_line(config: EngineConfig, info: EngineInfo) -> EngineLine:
    """The first line of this engine's recording."""
    assert info.sizes is not None, "an engine knows its model"
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
        sizes=info.sizes,
        machine=info.machine,
    )
