"""What this machine can do at most, measured once for each number format and kept in the cache.

An engine measures at its first start, in less than half a second, and reads what was found from
then on; `headway doctor --limits` measures anew. Whoever measures is the backend that computes: the
native kernels or PyTorch. What the figures are used for is no business of this module.
"""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import asdict
from pathlib import Path

import msgspec

from headway import machine
from headway.config import cache_home
from headway.errors import EngineError
from headway.steptime.shape import PeakRates

_VERSION = 1

logger = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a file; a version that is not ours makes it unreadable."""

    version: int
    kernels: str
    limits: PeakRates


def peak_rates_here(*, device: str, dtype: str, threads: int, isa: str | None) -> PeakRates | None:
    """The limits of a device of this machine: kept ones, else measured now and kept.

    `isa` names the native kernels' instruction set, and is None where PyTorch computes. None where
    they cannot be measured, which is logged: nothing but figures depends on them.
    """
    name = device_name(device)
    limits = kept_peak_rates(name, dtype=dtype, threads=threads, isa=isa)
    if limits is not None:
        return limits
    try:
        limits = measure_peak_rates(device=device, dtype=dtype, threads=threads, isa=isa)
    except EngineError as error:
        logger.warning("the machine's limits are not known: %s", error)
        return None
    try:
        keep_peak_rates(limits, isa=isa)
    except OSError as error:
        logger.warning("the machine's limits will be measured again at the next start: %s", error)
    return limits


def measure_peak_rates(*, device: str, dtype: str, threads: int, isa: str | None) -> PeakRates:
    """Measure now, which takes some tenths of a second; raises `EngineError` where it fails."""
    if isa is not None:
        from headway.runner.native_peak_rates import measure

        arithmetic, bandwidth = measure(dtype=dtype, threads=threads, isa=isa)
    else:
        from headway.runner.torch_peak_rates import measure_torch

        arithmetic, bandwidth = measure_torch(device=device, dtype=dtype, threads=threads)
    if not all(math.isfinite(rate) and rate > 0 for rate in (arithmetic, bandwidth)):
        raise EngineError(f"measuring {dtype} gave {arithmetic} operations and {bandwidth} bytes/s")
    return PeakRates(
        device=device_name(device),
        arithmetic=arithmetic,
        bandwidth=bandwidth,
        dtype=dtype,
        threads=threads,
    )


def kept_peak_rates(name: str, *, dtype: str, threads: int, isa: str | None) -> PeakRates | None:
    """What was measured before for the device of this name, if anything was."""
    path = _path(name, dtype, threads, isa)
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("the machine's limits in %s are not readable: %s", path, error)
        return None
    limits = kept.limits
    same = (kept.version, kept.kernels, limits.device) == (_VERSION, isa or "torch", name)
    return limits if same and min(limits.arithmetic, limits.bandwidth) > 0 else None


def keep_peak_rates(limits: PeakRates, *, isa: str | None) -> None:
    """Keep them for the starts to come, in place of earlier ones; raises `OSError`."""
    path = _path(limits.device, limits.dtype, limits.threads, isa)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"version": _VERSION, "kernels": isa or "torch", "limits": asdict(limits)}
    # In one move: other engines may be starting.
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    partial.replace(path)


def device_name(device: str) -> str:
    """The name of a device ("cpu", "cuda"), for people."""
    if device == "cpu":
        return machine.processor()
    import torch

    return torch.cuda.get_device_name(device)


def _path(name: str, dtype: str, threads: int, isa: str | None) -> Path:
    words = f"{name} {dtype} {threads} {isa or 'torch'}".lower()
    return cache_home() / "limits" / (re.sub(r"[^a-z0-9]+", "-", words).strip("-") + ".json")
