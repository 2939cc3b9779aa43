"""Put an engine together from its settings: runner, blocks, policy, scheduler, loop.

The only place that sees both towers at once; it decides nothing that either could decide.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from headway.blocks import BlockPool
from headway.clock import MonotonicClock
from headway.engine.loop import Engine
from headway.policy import make_policy
from headway.runner import build_runner
from headway.scheduler import Scheduler
from headway.wire import EngineInfo, Start

logger = logging.getLogger(__name__)


def build_engine(start: Start) -> tuple[Engine, EngineInfo]:
    """An engine for a prepared model, ready to step; raises `HeadwayError` where it cannot be."""
    began = time.monotonic()
    config = start.config
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
    return Engine(scheduler=scheduler, runner=loaded.runner, clock=MonotonicClock()), info
