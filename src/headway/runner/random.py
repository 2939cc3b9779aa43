"""Random numbers that depend on nothing but (seed, position): Philox 4x32-10.

The generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Key: the
seed's low and high 32 bits (two's complement). Counter: the position's low and high 32 bits, 0, 0.
The uniform number is the top 53 bits of output words (1, 0), seen as one 64-bit number, times
2**-53: in [0, 1). A position is that of the token to be chosen, counted from the prompt's first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))


def uniforms(seeds: list[int], positions: list[int]) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each pair of a seed and a position."""
    key = np.array([seed & (2**64 - 1) for seed in seeds], dtype=np.uint64)
    place = np.array(positions, dtype=np.uint64)
    zero = np.zeros_like(key)
    words = philox((place & _LOW, place >> _HALF, zero, zero), (key & _LOW, key >> _HALF))
    return ((words[1] << _HALF | words[0]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def philox(
    counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]
) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox on arrays of 32-bit words, held in 64 bits."""
    a, b, c, d = counter
    low, high = key
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (second >> _HALF) ^ b ^ low,
            second & _LOW,
            (first >> _HALF) ^ d ^ high,
            first & _LOW,
        )
        low, high = (low + _WEYL[0]) & _LOW, (high + _WEYL[1]) & _LOW
    return a, b, c, d
