"""Which GPU each engine of a fleet computes on, and how much of its memory it may take.

An engine sees one GPU. As long as there are enough, each has one of its own; else they take turns,
and those on one GPU share its memory evenly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from headway import machine
from headway.config import EngineConfig

GPU_SHARE = 0.9
"""Of the free memory, for all engines on a GPU together where nobody says."""


def usable_gpus(config: EngineConfig) -> tuple[str, ...]:
    """Names of the GPUs that engines with these settings may compute on; none where a CPU does."""
    if config.device == "cpu" or config.backend == "native":
        return ()
    return machine.nvidia_gpus()


class GpuShares:
    """The GPUs of a fleet that begins with so many engines."""

    def __init__(self, config: EngineConfig, replicas: int) -> None:
        self._gpus = usable_gpus(config)
        self._engines = Counter(
            self._gpus[at % len(self._gpus)] for at in range(replicas if self._gpus else 0)
        )
        """How many engines each is meant for."""

    def choose(self, taken: Sequence[str]) -> str:
        """The GPU with the fewest engines, given that of each engine; "" where there are none."""
        return min(self._gpus, key=taken.count, default="")

    def settings(self, config: EngineConfig, gpu: str) -> EngineConfig:
        """The settings of an engine on this GPU: its share of the memory, unless they say in bytes
        what each takes."""
        engines = self._engines[gpu]
        if engines <= 1 or config.kv_cache_memory is not None:
            return config
        share = config.gpu_memory_utilization
        share = GPU_SHARE if share is None else share
        return replace(config, gpu_memory_utilization=share / engines)
