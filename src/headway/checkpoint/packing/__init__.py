"""Matrices as the native kernels read them: quantised where the form says so, in panels of 32 rows.

Rows are first coded (`rows`, `fourbit`: each row by itself, in a form's own numbers), then arranged
(`arrange`: several tensors in one matrix, gate and up interleaved) and at last laid out (`panels`).
Every stage works on any number of rows, so that a matrix of any size is packed in little memory.
The layouts are those of `native/headway.h`. Only numpy is used.
"""

from headway.checkpoint.packing.arrange import (
    interleaved,
    interleaved_bias,
    stacked,
    stacked_bias,
)
from headway.checkpoint.packing.forms import (
    FORMS,
    PANEL_ROWS,
    Form,
    Matrix,
    packed_bias,
    padded,
    panel_bytes,
)
from headway.checkpoint.packing.panels import pack, unpack
from headway.checkpoint.packing.rows import Blocks, CodedRows, code_blocks, code_rows, decode

__all__ = [
    "FORMS",
    "PANEL_ROWS",
    "Blocks",
    "CodedRows",
    "Form",
    "Matrix",
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
