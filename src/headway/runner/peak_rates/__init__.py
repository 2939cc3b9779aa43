"""Peak rates of this machine: how many FLOP/s it computes, and how many bytes/s it reads.

Measured once for each number format, by the backend that computes with it (`native`, `torch`), and
kept in the cache. An engine measures at its first start, in less than half a second, and reads what
was found from then on; `python -m headway.runner.peak_rates`, which `headway doctor --limits` runs,
measures anew. The best of all measurements is kept, since other work can only make one lower; one
that an engine has exceeded is repeated at the next start. What the figures are used for is no
business of this package.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path

from headway import machine
from headway.codec import Format, decode_document, encode_document, read_bytes, write_bytes
from headway.environment import cache_home
from headway.errors import EngineError, InvalidRequest
from headway.steptime.limits import best_of
from headway.steptime.shape import PeakRates

logger = logging.getLogger(__name__)


FORMAT = Format(
    what="a file of peak rates", key="version", version=2, unnumbered=0, remedy="measured anew"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """The content of a file."""

    kernels: str
    limits: PeakRates
    exceeded: bool = False
    """Steps were faster than what had been measured, and `limits` are what they reached."""


def peak_rates_here(*, device: str, dtype: str, threads: int, isa: str | None) -> PeakRates | None:
    """The peak rates of a device of this machine: kept ones, else measured now and kept.

    `isa` names the native kernels' instruction set, and is None where PyTorch computes. None where
    they cannot be measured, which is logged: nothing but figures depends on them.
    """
    kept = _read(_path(device_name(device), dtype, threads, isa), device_name(device), isa)
    if kept is not None and not kept.exceeded:
        return kept.limits
    known = None if kept is None else kept.limits
    try:
        rates = measure_peak_rates(device=device, dtype=dtype, threads=threads, isa=isa)
    except EngineError as error:
        logger.warning("the machine's peak rates cannot be measured: %s", error)
        return known
    try:
        return keep_peak_rates(rates, isa=isa)
    except InvalidRequest as error:
        logger.warning("peak rates will be measured again at the next start: %s", error)
    return rates if known is None else best_of(rates, known)


def measure_peak_rates(*, device: str, dtype: str, threads: int, isa: str | None) -> PeakRates:
    """Measure now, which takes some tenths of a second; raises `EngineError` where it fails."""
    if isa is not None:
        from headway.runner.peak_rates.native import measure_native

        flops, bandwidth = measure_native(dtype=dtype, threads=threads, isa=isa)
    else:
        from headway.runner.peak_rates.torch import measure_torch

        flops, bandwidth = measure_torch(device=device, dtype=dtype, threads=threads)
    if not all(math.isfinite(rate) and rate > 0 for rate in (flops, bandwidth)):
        raise EngineError(f"measuring {dtype} gave {flops} FLOP/s and {bandwidth} bytes/s")
    return PeakRates(
        device=device_name(device),
        flops_per_second=flops,
        bandwidth=bandwidth,
        dtype=dtype,
        threads=threads,
    )


def kept_peak_rates(name: str, *, dtype: str, threads: int, isa: str | None) -> PeakRates | None:
    """What was measured before for the device of this name, if anything was."""
    kept = _read(_path(name, dtype, threads, isa), name, isa)
    return None if kept is None else kept.limits


def keep_peak_rates(rates: PeakRates, *, isa: str | None) -> PeakRates:
    """Keep what was measured for the starts to come, or what was kept already where that is more.

    Returns what is kept. Raises `InvalidRequest` where that is not possible.
    """
    return _keep(rates, isa=isa, exceeded=False)


def keep_exceeded_rates(rates: PeakRates, *, isa: str | None) -> None:
    """Keep what steps have reached, more than was measured; the next start measures again.

    Failing to is logged.
    """
    try:
        _keep(rates, isa=isa, exceeded=True)
    except InvalidRequest as error:
        logger.warning("the machine's peak rates cannot be kept: %s", error)


def _keep(rates: PeakRates, *, isa: str | None, exceeded: bool) -> PeakRates:
    path = _path(rates.device, rates.dtype, rates.threads, isa)
    known = _read(path, rates.device, isa)
    if known is not None:
        rates = best_of(rates, known.limits)
    kept = _Kept(kernels=isa or "torch", limits=rates, exceeded=exceeded)
    # At once and whole: other engines may be starting.
    write_bytes(path, encode_document(kept, FORMAT), make_folder=True)
    return rates


def _read(path: Path, name: str, isa: str | None) -> _Kept | None:
    if not path.exists():
        return None
    try:
        kept = decode_document(_Kept, read_bytes(path), FORMAT, str(path))
    except InvalidRequest as error:
        logger.warning("the machine's peak rates are measured again: %s", error)
        return None
    rates = kept.limits
    same = (kept.kernels, rates.device) == (isa or "torch", name)
    return kept if same and min(rates.flops_per_second, rates.bandwidth) > 0 else None


def device_name(device: str) -> str:
    """The name of a device ("cpu", "cuda"), for people."""
    if device == "cpu":
        return machine.processor()
    from headway.runner.peak_rates.torch import gpu_name

    return gpu_name(device)


def _path(name: str, dtype: str, threads: int, isa: str | None) -> Path:
    key = f"{name} {dtype} {threads} {isa or 'torch'}".lower()
    return cache_home() / "limits" / (re.sub(r"[^a-z0-9]+", "-", key).strip("-") + ".json")
