"""Matrices as the native kernels read them: rounded to a weight format, in the blocked layout.

Rows are first put into a weight format, each row by itself (`quantize`), then the rows of several
tensors are put in one order (stacked, or gate and up interleaved) and laid out in panels of 32
(`blocked_layout`). Every stage works on any number of rows, so that a matrix of any size is packed
in little memory. The layout is that of `native/headway.h`. Only numpy is used.
"""

from headway.checkpoint.packing.blocked_layout import (
    interleaved,
    interleaved_bias,
    pack,
    stacked,
    stacked_bias,
    unpack,
)
from headway.checkpoint.packing.quantize import (
    FourBitBlocks,
    QuantizedRows,
    dequantize,
    keep_blocks,
    quantize_rows,
)
from headway.checkpoint.storage import (
    PANEL_ROWS,
    WEIGHT_FORMATS,
    PackedShape,
    WeightFormat,
    packed_bias,
    padded,
    panel_bytes,
)

__all__ = [
    "PANEL_ROWS",
    "WEIGHT_FORMATS",
    "FourBitBlocks",
    "PackedShape",
    "QuantizedRows",
    "WeightFormat",
    "dequantize",
    "interleaved",
    "interleaved_bias",
    "keep_blocks",
    "pack",
    "packed_bias",
    "padded",
    "panel_bytes",
    "quantize_rows",
    "stacked",
    "stacked_bias",
    "unpack",
]
