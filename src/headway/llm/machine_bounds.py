"""Bounds on settings that this machine sets, checked before a model is looked for.

Not checked where settings are made: the simulator has settings for machines that nobody owns.
"""

from __future__ import annotations

from headway import machine
from headway.config import EngineConfig
from headway.errors import InvalidRequest

_THREADS_PER_CORE = 4
_FEW_THREADS = 32


def check_machine(config: EngineConfig) -> None:
    """Raise `InvalidRequest` for what no engine can have on this machine."""
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
    if config.kv_cache_memory is not None and config.kv_cache_memory > memory and not on_gpu:
        raise InvalidRequest(
            f"kv_cache_memory must be at most the {memory / 2**30:.2f} GiB of memory that this "
            f"machine has, got {config.kv_cache_memory / 2**30:,.2f} GiB",
            field="kv_cache_memory",
        )
