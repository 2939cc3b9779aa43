"""Llama 3's rope scaling, recovered from the table of divisors that GGUF files hold instead.

A file stores one divisor per frequency; every published model of the kind was made with the same
low and high frequency factors and trained context, so the table tells the one number that varies,
and is then compared with what that number gives.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headway.checkpoint.config import RopeScaling
from headway.errors import ModelError

_TRAINED_CONTEXT = 8192
_LOW, _HIGH = 1.0, 4.0


def llama3_scaling(
    divisors: npt.NDArray[np.float32], *, theta: float, path: Path
) -> RopeScaling | None:
    """The scaling that gives these divisors [head_dim / 2]; None where all are 1."""
    factor = float(divisors.max())
    if not np.isfinite(divisors).all() or factor < 1.0 or theta <= 1.0:
        raise ModelError(f"{path}: rope_freqs.weight holds impossible divisors")
    if factor == 1.0 and float(divisors.min()) == 1.0:
        return None
    expected = llama3_divisors(factor, theta=theta, count=len(divisors))
    if not np.allclose(divisors, expected, rtol=1e-3):
        raise ModelError(f"{path}: rope_freqs.weight is not Llama 3's scaling; not supported")
    return RopeScaling(
        kind="llama3",
        factor=factor,
        original_max_position=_TRAINED_CONTEXT,
        low_freq_factor=_LOW,
        high_freq_factor=_HIGH,
    )


def llama3_divisors(factor: float, *, theta: float, count: int) -> npt.NDArray[np.float64]:
    """What each of `count` frequencies is divided by: 1 if fast, `factor` if slow, or between."""
    wavelengths = 2 * math.pi * theta ** (np.arange(count) / count)
    smooth = (_TRAINED_CONTEXT / wavelengths - _LOW) / (_HIGH - _LOW)
    smooth = np.clip(smooth, 0.0, 1.0)
    divisors: npt.NDArray[np.float64] = 1.0 / ((1.0 - smooth) / factor + smooth)
    return divisors
