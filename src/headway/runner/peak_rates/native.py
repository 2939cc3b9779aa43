"""Measures peak rates with the native kernels: their own instructions, their threads."""

from __future__ import annotations

from headway import machine
from headway.errors import EngineError
from headway.native import load
from headway.native.abi import HwWeightFormat

SECONDS = 0.1
"""Of each of the two measurements; writing the memory that is read comes on top."""
_LEAST_BYTES = 256 * 2**20
_MOST_BYTES = 2**31
_MEMORY_SHARE = 4


def measure_native(
    *, dtype: str, threads: int, isa: str, seconds: float = SECONDS
) -> tuple[float, float]:
    """Peak FLOP/s and bytes/s of memory with so many threads; raises `EngineError`.

    `dtype` is a weight format, whose products' instruction is measured.
    """
    if dtype.upper() not in HwWeightFormat.__members__:
        raise EngineError(f"the native kernels have no weight format {dtype}")
    library = load()
    pool = library.hw_pool_create(threads, None)
    if pool is None:
        raise EngineError(f"{threads} compute threads could not be started")
    try:
        weight_format, name = HwWeightFormat[dtype.upper()], isa.encode()
        flops: float = library.hw_measure_flops(pool, name, weight_format, seconds)
        bandwidth: float = library.hw_measure_bandwidth(pool, name, memory_to_read(), seconds)
    finally:
        library.hw_pool_destroy(pool)
    return flops, bandwidth


def memory_to_read() -> int:
    """Bytes that no cache holds, as far as the memory that is free now allows."""
    wanted = min(max(_LEAST_BYTES, 2 * machine.last_level_cache()), _MOST_BYTES)
    return min(wanted, machine.available_memory() // _MEMORY_SHARE)
