"""Random numbers that depend on nothing but (seed, position, token): Philox 4x64-10.

The generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), in numpy's
implementation. Key: the seed (as unsigned 64 bits) and the position, which is that of the token to
be sampled, counted from the prompt's first. Counter: 1, 2, 3, ... Its output words, four to a
counter, are cut into 32-bit halves, the low one first; the i-th half w belongs to token id i:

    v = min((w + 0.5) * 2**-32, 1 - 2**-24)     in float32, w + 0.5 rounded to float32 first
    exponential[i] = -log(1 - v)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_HIGHEST = 1 - 2.0**-24


def exponentials(seeds: Sequence[int], positions: Sequence[int], vocabulary: int) -> Tensor:
    """Independent numbers of density exp(-x), finite and above 0: float32 [pairs, vocabulary]."""
    found = np.empty((len(seeds), vocabulary), dtype=np.float32)
    for row, seed, position in zip(found, seeds, positions, strict=True):
        np.add(words(seed, position, vocabulary), np.float32(0.5), out=row)
    uniform = torch.from_numpy(found).mul_(2.0**-32).clamp_(max=_HIGHEST)
    return uniform.neg_().log1p_().neg_()


def words(seed: int, position: int, number: int) -> npt.NDArray[np.uint32]:
    """The first so many 32-bit halves of one (seed, position)'s stream."""
    key = np.array([seed & (2**64 - 1), position], dtype=np.uint64)
    raw: npt.NDArray[np.uint64] = np.random.Philox(key=key).random_raw((number + 1) // 2)
    return raw.astype("<u8", copy=False).view("<u4")[:number]
