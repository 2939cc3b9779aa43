"""GGUF's four-bit block formats taken apart: numbers, scales and minima as the file has them.

Q4_0 has a scale per 32 weights, Q4_1 a scale and a minimum, and both keep weight n of a block in
the low and weight n + 16 in the high four bits of one byte. Q4_K shares a scale of scales and one
of minima among eight groups of 32, each with six bits of its own; their products are rounded to
float16 here, which is all that is not exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType

from headway.checkpoint.packing import FourBitBlocks

Array = npt.NDArray[Any]

FOUR_BIT = frozenset(
    (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q4_K)
)
_HALF = np.dtype("<f2")


def four_bit_blocks(raw: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> FourBitBlocks:
    """Rows of bytes [rows, row bytes] of one of the `FOUR_BIT` types."""
    rows = len(raw)
    if kind is GGMLQuantizationType.Q4_K:
        q, scale, minimum = _q4_k(raw.reshape(-1, 144))
    else:
        head = 2 if kind is GGMLQuantizationType.Q4_0 else 4
        raw = raw.reshape(-1, head + 16)
        halves = raw[:, :head].copy().view(_HALF)
        nibbles = raw[:, head:]
        q = np.concatenate((nibbles & 15, nibbles >> 4), axis=1)
        scale = halves[:, 0]
        with np.errstate(all="ignore"):  # a damaged scale may be anything
            minimum = halves[:, 1] if head == 4 else scale * np.float16(-8)
    return FourBitBlocks(
        q=q.reshape(rows, -1),
        scale=scale.reshape(rows, -1),
        minimum=minimum.reshape(rows, -1),
    )


def _q4_k(raw: Array) -> tuple[Array, Array, Array]:
    """Blocks of 256 weights: two float16, twelve bytes of eight scales and minima, 128 bytes."""
    both = raw[:, :4].copy().view(_HALF).astype(np.float32)
    packed = raw[:, 4:16].reshape(-1, 3, 4)
    # The first four scales and minima lie in six bits each; of the last four, the lower four bits
    # share a byte and the upper two fill what the first four left free.
    low, high, shared = packed[:, 0], packed[:, 1], packed[:, 2]
    scales = np.concatenate((low & 63, (shared & 15) | (low >> 6 << 4)), axis=1)
    minima = np.concatenate((high & 63, (shared >> 4) | (high >> 6 << 4)), axis=1)
    pairs = raw[:, 16:].reshape(-1, 4, 32)
    q = np.stack((pairs & 15, pairs >> 4), axis=2)
    with np.errstate(all="ignore"):
        return (
            q.reshape(-1, 256),
            (both[:, :1] * scales).astype(np.float16),
            (-both[:, 1:] * minima).astype(np.float16),
        )
