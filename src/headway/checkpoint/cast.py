"""Float32 arrays as the bytes of a storage type, rounded to nearest, ties to even.

numpy has no bfloat16: it travels as uint16 here and is named only in the file's header.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

StorageDtype = Literal["float32", "bfloat16", "float16"]
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def cast(values: npt.NDArray[np.float32], dtype: StorageDtype) -> npt.NDArray[np.generic]:
    """The same shape as float32, float16 or (bfloat16) uint16, little-endian."""
    if dtype == "float32":
        return values.astype("<f4", copy=False)
    if dtype == "float16":
        with np.errstate(over="ignore"):  # beyond float16's range is infinite, as everywhere
            return values.astype("<f2")
    return _bfloat16(values)


def widen(raw: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """bfloat16, as uint16, to float32: exact."""
    return (raw.astype(np.uint32) << 16).view(np.float32)


def _bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    # Adding just under half of the last place kept, and that place's own bit, rounds to even.
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    # A NaN must not round up to infinity; its top bit says "quiet".
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, (bits >> 16) | 0x0040, rounded).astype(np.uint16)
