"""How weights are stored: as plain arrays of one dtype, or packed in a weight format.

Plain storages are what the reference backend reads, on any device. A weight format says how a
matrix is packed for the native kernels and, with it, how the rows that it multiplies are rounded
(see `native/headway.h`); a native storage is named after the weight format of its matrices, as far
as the rules of `convert` allow. Knows sizes and rounding; `packing` puts the numbers in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from headway.errors import ModelError

StorageDtype = Literal["float32", "bfloat16", "float16"]
WeightFormat = Literal["float32", "bfloat16", "int8", "int4"]
NativeStorage = Literal["native-float32", "native-bfloat16", "native-int8", "native-int4"]
Storage = StorageDtype | NativeStorage

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WEIGHT_FORMATS: tuple[WeightFormat, ...] = get_args(WeightFormat)
_PLAIN: tuple[StorageDtype, ...] = get_args(StorageDtype)
_NATIVE: tuple[NativeStorage, ...] = get_args(NativeStorage)
STORAGES: tuple[Storage, ...] = (*_PLAIN, *_NATIVE)
PLAIN_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Plain storages by the names that safetensors gives their types."""

PANEL_ROWS = 32
GROUP = {"int8": 64, "int4": 32}
"""Weights along k that share a scale."""
_MULTIPLE = 64
# Bytes of 64 inputs of a panel: the weights, and the scales (and minima) of their groups.
_BYTES = {
    "float32": 64 * PANEL_ROWS * 4,
    "bfloat16": 64 * PANEL_ROWS * 2,
    "int8": 64 * PANEL_ROWS + PANEL_ROWS * 2,
    "int4": 64 * PANEL_ROWS // 2 + 2 * PANEL_ROWS * 4,
}


def native_storage(weight_format: WeightFormat) -> NativeStorage:
    return _NATIVE[WEIGHT_FORMATS.index(weight_format)]


def native_format(storage: str) -> WeightFormat | None:
    """The weight format that a native storage is named after; None for a plain one."""
    return next((known for known in WEIGHT_FORMATS if native_storage(known) == storage), None)


def plain_dtype(storage: str) -> StorageDtype | None:
    """The type of a plain storage's matrices; None for a native one."""
    return next((dtype for dtype in _PLAIN if dtype == storage), None)


def cast(values: npt.NDArray[np.float32], dtype: StorageDtype) -> npt.NDArray[np.generic]:
    """The same shape as float32, float16 or (bfloat16) uint16, little-endian.

    Rounded to nearest, ties to even. numpy has no bfloat16, which travels as uint16.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedShape:
    """What one packed matrix is: its weight format and its size before padding."""

    format: WeightFormat
    outputs: int
    inputs: int

    @property
    def panels(self) -> int:
        return -(-self.outputs // PANEL_ROWS)

    @property
    def bytes(self) -> int:
        return self.panels * panel_bytes(self.format, self.inputs)

    def __str__(self) -> str:
        """As a prepared file's metadata has it, e.g. "int8 960 576"."""
        return f"{self.format} {self.outputs} {self.inputs}"

    @staticmethod
    def parse(text: str) -> PackedShape:
        """The reverse of `str`; raises `ModelError` for anything else."""
        weight_format, *sizes = text.split(" ")
        known = next((name for name in WEIGHT_FORMATS if name == weight_format), None)
        if known is None or len(sizes) != 2 or not all(size.isdecimal() for size in sizes):
            raise ModelError(f"not the description of a packed matrix: {text!r}")
        return PackedShape(format=known, outputs=int(sizes[0]), inputs=int(sizes[1]))


def padded(inputs: int) -> int:
    """K: the inputs rounded up to whole groups of every weight format."""
    return -(-inputs // _MULTIPLE) * _MULTIPLE


def panel_bytes(weight_format: WeightFormat, inputs: int) -> int:
    """Bytes of one panel of 32 outputs; a multiple of 64."""
    return padded(inputs) // _MULTIPLE * _BYTES[weight_format]


def packed_bias(outputs: int) -> int:
    """Elements of a packed matrix's bias: one for every row of its panels."""
    return -(-outputs // PANEL_ROWS) * PANEL_ROWS
