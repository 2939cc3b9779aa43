"""The packed matrices of a prepared model, as addresses in memory.

Nothing is converted here: the kernels read the blocked layout as it lies in the file (see
`memory`). The file is safetensors, with a description of each packed matrix in its metadata (weight
format, outputs, inputs); matrices start at multiples of 64 bytes, as the kernels want them. Knows
names and shapes, no family.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headway.checkpoint.packing import PackedShape, packed_bias, panel_bytes
from headway.checkpoint.safetensors import ALIGNMENT, read_header
from headway.errors import ModelError
from headway.native import abi
from headway.ops.native.memory import address, file_bytes
from headway.ops.protocol import Floats, Matrix, Rope, Table, Vector

_FORMATS = {
    "float32": abi.HwWeightFormat.FLOAT32,
    "bfloat16": abi.HwWeightFormat.BFLOAT16,
    "int8": abi.HwWeightFormat.INT8,
    "int4": abi.HwWeightFormat.INT4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedMatrix:
    """One matrix where it lies; `outputs` are counted before padding."""

    name: str
    format: abi.HwWeightFormat
    outputs: int
    inputs: int
    data: int
    """Address of its weights in blocked layout."""
    bias: int | None
    """Address of its bias, float32 in packed order."""

    @property
    def is_gate_up(self) -> bool:
        """Gate and up rows stand in turns, so only the gated product can multiply by it."""
        return self.name.endswith("gate_up")


class NativeWeights:
    """`Weights` of one file. A handle's number is its index in the lists.

    Everything stays valid as long as this object lives. Tables and matrices are the same thing
    here, so that a tied lm_head is the embeddings' own matrix.
    """

    def __init__(self, path: Path) -> None:
        self.matrices: list[PackedMatrix] = []
        self.vectors: list[Floats] = []
        self.vector_names: list[str] = []
        self.ropes: list[tuple[Floats, Floats]] = []
        self._path = path
        self._described, self._entries = read_header(path)
        data = _read(path)
        self._base = np.frombuffer(data, dtype=np.uint8)
        self._start = 8 + int.from_bytes(data[:8], "little")
        self._known: dict[tuple[str, bool], int] = {}

    def table(self, name: str) -> Table:
        matrix = self.matrix(name)
        return Table(index=matrix.index, width=matrix.inputs)

    def matrix(self, name: str, *, bias: bool = False) -> Matrix:
        known: int | None = self._known.get((name, bias))
        if known is None:
            packing = self._packing(f"{name}.weight")
            shape = (packing.panels, panel_bytes(packing.format, packing.inputs))
            data = self._tensor(f"{name}.weight", "U8", shape)
            bias_data = None
            if bias:
                bias_data = self._tensor(f"{name}.bias", "F32", (packed_bias(packing.outputs),))
            known = self._known[name, bias] = self._add(name, packing, data, bias_data)
        found = self.matrices[known]
        return Matrix(index=known, outputs=found.outputs, inputs=found.inputs)

    def stack(self, name: str) -> tuple[Matrix, ...]:
        packing = self._packing(f"{name}.weight")
        number = self._entry(f"{name}.weight")["shape"][0]
        shape = (number, packing.panels, panel_bytes(packing.format, packing.inputs))
        first = self._tensor(f"{name}.weight", "U8", shape)
        indexes = [self._add(name, packing, first + n * packing.bytes, None) for n in range(number)]
        return tuple(
            Matrix(index=index, outputs=packing.outputs, inputs=packing.inputs) for index in indexes
        )

    def vector(self, name: str) -> Vector:
        size = self._entry(f"{name}.weight")["shape"][0]
        offset = self._tensor(f"{name}.weight", "F32", (size,)) - address(self._base)
        self.vectors.append(self._base[offset : offset + 4 * size].view(np.float32))
        self.vector_names.append(name)
        return Vector(index=len(self.vectors) - 1, size=size)

    def rope(self, cos: Floats, sin: Floats) -> Rope:
        pair = (np.ascontiguousarray(cos), np.ascontiguousarray(sin))
        self.ropes.append(pair)
        return Rope(index=len(self.ropes) - 1)

    def _add(self, name: str, packing: PackedShape, data: int, bias: int | None) -> int:
        self.matrices.append(
            PackedMatrix(
                name=name,
                format=_FORMATS[packing.format],
                outputs=packing.outputs,
                inputs=packing.inputs,
                data=data,
                bias=bias,
            )
        )
        return len(self.matrices) - 1

    def _packing(self, name: str) -> PackedShape:
        if name not in self._described:
            raise ModelError(f"{self._path}: packed matrix {name!r} is missing")
        return PackedShape.parse(self._described[name])

    def _entry(self, name: str) -> Any:
        if name not in self._entries:
            raise ModelError(f"{self._path}: tensor {name!r} is missing")
        return self._entries[name]

    def _tensor(self, name: str, dtype: str, shape: tuple[int, ...]) -> int:
        """The address of a tensor that must have this type and shape."""
        entry = self._entry(name)
        begin, end = entry["data_offsets"]
        size = math.prod(shape) * (4 if dtype == "F32" else 1)
        offset: int = self._start + begin
        whole = 0 <= begin <= end and end - begin == size and offset + size <= len(self._base)
        if entry["dtype"] != dtype or tuple(entry["shape"]) != shape or not whole:
            raise ModelError(f"{self._path}: tensor {name!r} is not {dtype} {list(shape)}")
        alignment = 4 if dtype == "F32" else ALIGNMENT
        if offset % alignment:
            raise ModelError(f"{self._path}: tensor {name!r} is not aligned to {alignment} bytes")
        return address(self._base) + offset


def _read(path: Path) -> mmap.mmap:
    try:
        return file_bytes(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
