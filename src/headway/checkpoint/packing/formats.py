"""The forms of a packed matrix, and how many bytes each takes.

A form says how a weight is stored and, with it, how the rows that meet the matrix are rounded.
Knows sizes only: `rows` makes the numbers, `panels` puts them in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headway.errors import ModelError

WeightFormat = Literal["float32", "bfloat16", "int8", "int4"]
WEIGHT_FORMATS: tuple[WeightFormat, ...] = ("float32", "bfloat16", "int8", "int4")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedShape:
    """What one packed matrix is: its form and its size before padding."""

    form: WeightFormat
    outputs: int
    inputs: int

    @property
    def panels(self) -> int:
        return -(-self.outputs // PANEL_ROWS)

    @property
    def bytes(self) -> int:
        return self.panels * panel_bytes(self.form, self.inputs)

    def __str__(self) -> str:
        """As a prepared file's metadata has it, e.g. "int8 960 576"."""
        return f"{self.form} {self.outputs} {self.inputs}"

    @staticmethod
    def parse(text: str) -> PackedShape:
        """The reverse of `str`; raises `ModelError` for anything else."""
        form, *sizes = text.split(" ")
        known = next((name for name in WEIGHT_FORMATS if name == form), None)
        if known is None or len(sizes) != 2 or not all(size.isdecimal() for size in sizes):
            raise ModelError(f"not the description of a packed matrix: {text!r}")
        return PackedShape(form=known, outputs=int(sizes[0]), inputs=int(sizes[1]))


def padded(inputs: int) -> int:
    """K: the inputs rounded up to whole groups of every form."""
    return -(-inputs // _MULTIPLE) * _MULTIPLE


def panel_bytes(form: WeightFormat, inputs: int) -> int:
    """Bytes of one panel of 32 outputs; a multiple of 64."""
    return padded(inputs) // _MULTIPLE * _BYTES[form]


def packed_bias(outputs: int) -> int:
    """Elements of a packed matrix's bias: one for every row of its panels."""
    return -(-outputs // PANEL_ROWS) * PANEL_ROWS
