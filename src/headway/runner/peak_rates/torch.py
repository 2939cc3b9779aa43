"""Measures peak rates with PyTorch: its matrix products, and copies of memory.

These are the rates that PyTorch's own kernels reach, on a processor or a GPU; the best of several
runs counts, since others can only slow them down.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from headway.errors import EngineError

SECONDS = 0.1
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CPU_WIDTH, _CUDA_WIDTH = 1024, 8192
_CPU_BYTES, _CUDA_BYTES = 2**28, 2**30
_LEAST_RUNS = 3


def measure_torch(
    *, device: str, dtype: str, threads: int, seconds: float = SECONDS
) -> tuple[float, float]:
    """Peak FLOP/s and bytes/s of memory; `threads` are a processor's. Raises `EngineError`."""
    if dtype not in _TYPES:
        raise EngineError(f"PyTorch computes in {', '.join(_TYPES)}, not in {dtype}")
    cuda = torch.device(device).type == "cuda"
    if not cuda:
        torch.set_num_threads(threads)
    width = _CUDA_WIDTH if cuda else _CPU_WIDTH
    size = _CUDA_BYTES if cuda else _CPU_BYTES
    wait = torch.cuda.synchronize if cuda else _nothing
    try:
        left = torch.ones(width, width, dtype=_TYPES[dtype], device=device)
        product = torch.empty_like(left)
        multiply = _best(lambda: torch.mm(left, left, out=product), wait, seconds)
        source = torch.ones(size, dtype=torch.uint8, device=device)
        target = torch.ones_like(source)
        copy = _best(lambda: target.copy_(source), wait, seconds)
    except RuntimeError as error:  # memory that ran out, a type that the device does not know
        raise EngineError(f"PyTorch cannot measure {dtype} on {device}: {error}") from error
    return 2 * width**3 / multiply, 2 * size / copy


def gpu_name(device: str) -> str:
    """What the driver calls a GPU."""
    return torch.cuda.get_device_name(device)


def _best(run: Callable[[], object], wait: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of several runs, after one that does not count."""
    run()
    wait()
    best = float("inf")
    first = time.perf_counter()
    runs = 0
    while runs < _LEAST_RUNS or time.perf_counter() - first < seconds:
        began = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - began)
        runs += 1
    return best


def _nothing() -> None:
    """A processor computes while it is asked to, so there is nothing to wait for."""
