"""Matrices as the native kernels read them: quantised where the form says so, in panels of 32 rows.

Rows are first coded (`rows`, `fourbit`: each row by itself, in a form's own numbers), then arranged
(`arrange`: several tensors in one matrix, gate and up interleaved) and at last laid out (`panels`).
Every stage works on any number of rows, so that a matrix of any size is packed in little memory.
The layouts are those of `native/headway.h`. Only numpy is used.
"""

from headway.checkpoint.packing.blocked_layout import (
    interleaved,
    interleaved_bias,
    pack,
    stacked,
    stacked_bias,
    unpack,
)
from headway.checkpoint.packing.formats import (
    PANEL_ROWS,
    WEIGHT_FORMATS,
    PackedShape,
    WeightFormat,
    packed_bias,
    padded,
    panel_bytes,
)
from headway.checkpoint.packing.quantize import Blocks, CodedRows, code_blocks, code_rows, decode

__all__ = [
    "PANEL_ROWS",
    "WEIGHT_FORMATS",
    "Blocks",
    "CodedRows",
    "PackedShape",
    "WeightFormat",
    "code_blocks",
    "code_rows",
    "decode",
    "interleaved",
    "interleaved_bias",
    "pack",
    "packed_bias",
    "padded",
    "panel_bytes",
    "stacked",
    "stacked_bias",
    "unpack",
]
