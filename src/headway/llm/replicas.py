"""What settings of an engine mean where several engines run side by side on one machine.

Most hold for each of them. Memory is divided, since engines that start together all see the same
free memory, that of each GPU by the fleet; and a recording needs a file for each.
"""

from __future__ import annotations

from dataclasses import replace

from headway import machine
from headway.client.fleet import PLACE
from headway.client.fleet.gpus import GPU_SHARE, usable_gpus
from headway.config import EngineConfig
from headway.errors import InvalidRequest
from headway.types.fleet import FleetConfig

KV_MOST = 4 * 2**30
"""Bytes that a KV cache takes at most where nobody says."""
MEMORY_SHARE = 0.5
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
    """The settings of each of so many engines, which together take the memory that one would.

    That of GPUs is left to the fleet, which knows how many engines are on each.
    """
    if replicas == 1 or config.kv_cache_memory is not None or usable_gpus(config):
        return config
    share = config.gpu_memory_utilization
    if share is None and config.device == "cuda":
        share = GPU_SHARE  # of a GPU that was not found here, but perhaps by the engine
    if share is not None:
        return replace(config, gpu_memory_utilization=share / replicas)
    free = int(MEMORY_SHARE * machine.available_memory() / replicas)
    return replace(config, kv_cache_memory=max(1, min(KV_MOST, free)))
