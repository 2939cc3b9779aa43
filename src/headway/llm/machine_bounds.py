"""Bounds on settings that this machine sets, checked before a model is looked for.

Not checked where settings are made: the simulator has settings for machines that nobody owns.
"""

from __future__ import annotations

from headway import machine
from headway.config import EngineConfig
from headway.errors import InvalidRequest

_THREADS_PER_CORE = 4
_FEW_THREADS = 32


def check_machine(config: EngineConfig, *, replicas: int = 1) -> None:
    """Raise `InvalidRequest` for what no engine, or not so many, can have on this machine."""
    cores = machine.cores()
    most = max(_FEW_THREADS, _THREADS_PER_CORE * cores)
    if config.threads is not None and config.threads > most:
        raise InvalidRequest(
            f"threads must be at most {most} on this machine, which has {cores} cores, "
            f"got {config.threads}",
            field="threads",
        )
    memory = machine.total_memory()
    on_gpu = config.device == "cuda" or (config.device == "auto" and machine.has_nvidia_gpu())
    asked = config.kv_cache_memory
    if asked is not None and replicas * asked > memory and not on_gpu:
        each = f" for each of {replicas} replicas" if replicas > 1 else ""
        raise InvalidRequest(
            f"kv_cache_memory must be at most the {memory / replicas / 2**30:.2f} GiB of memory "
            f"that this machine has{each}, got {asked / 2**30:,.2f} GiB",
            field="kv_cache_memory",
        )
