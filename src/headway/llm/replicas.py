"""What settings of an engine mean where several engines run side by side on one machine.

Most hold for each of them. Memory is divided, since engines that start together all see the same
free memory; and a recording needs a file for each.
"""

from __future__ import annotations

from dataclasses import replace

from headway import machine
from headway.client.fleet import PLACE
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.types.fleet import FleetConfig

KV_MOST = 4 * 2**30
"""Bytes that a KV cache takes at most where nobody says."""
MEMORY_SHARE, GPU_SHARE = 0.5, 0.9
"""Of what is free, for all engines together where nobody says."""


def check_replicas(config: EngineConfig, fleet: FleetConfig) -> None:
    """Raise `InvalidRequest` for settings that do not go with so many engines."""
    if fleet.replicas > 1 and config.record is not None and PLACE not in config.record:
        raise InvalidRequest(
            f"record must have {PLACE} in its name where there are several replicas, since each "
            f"has a file of its own: steps-{PLACE}.jsonl",
            field="record",
        )


def shared_settings(config: EngineConfig, replicas: int) -> EngineConfig:
    """The settings of each of so many engines, which together take the memory that one would."""
    if replicas == 1 or config.kv_cache_memory is not None:
        return config
    share = config.gpu_memory_utilization
    if share is None and on_gpu(config):
        share = GPU_SHARE
    if share is not None:
        return replace(config, gpu_memory_utilization=share / replicas)
    free = int(MEMORY_SHARE * machine.available_memory() / replicas)
    return replace(config, kv_cache_memory=max(1, min(KV_MOST, free)))


def on_gpu(config: EngineConfig) -> bool:
    """Whether an engine with these settings may compute on a GPU."""
    return config.device == "cuda" or (config.device == "auto" and machine.has_nvidia_gpu())
