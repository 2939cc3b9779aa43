"""The tensors of a prepared model, brought to the reference backend's device and type.

The file is memory-mapped, so what is packed into another layout is read once and never held twice,
and what is used as it stands is never copied. Knows names and shapes, no family.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headway.errors import ModelError
from headway.ops.protocol import Floats, Matrix, Rope, Table, Vector

# Rows for which oneDNN lays packed weights out: about a decode step of a full batch.
_PACK_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearWeight:
    """A matrix's weight [out, in] in the layout that `linear` wants, and its bias [out]."""

    weight: Tensor
    bias: Tensor | None
    packed: bool
    """The weight is in a library's own layout and may only be handed back to it."""


class ReferenceWeights:
    """`Weights` of one file. A handle's number is its index in the lists."""

    def __init__(
        self, path: Path, *, device: torch.device, dtype: torch.dtype, packs: bool
    ) -> None:
        self.tables: list[Tensor] = []
        self.matrices: list[LinearWeight] = []
        self.vectors: list[Tensor] = []
        self.ropes: list[tuple[Tensor, Tensor]] = []
        self._path, self._device, self._dtype, self._packs = path, device, dtype, packs
        try:
            self._file = _open(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
        self._names = frozenset(self._file.keys())

    def table(self, name: str) -> Table:
        self.tables.append(self._read(f"{name}.weight").to(self._device, self._dtype))
        return Table(index=len(self.tables) - 1, width=self.tables[-1].shape[1])

    def matrix(self, name: str, *, bias: bool = False) -> Matrix:
        return self._add(self._read(f"{name}.weight"), self._read(f"{name}.bias") if bias else None)

    def stack(self, name: str) -> tuple[Matrix, ...]:
        return tuple(self._add(part, None) for part in self._read(f"{name}.weight"))

    def vector(self, name: str) -> Vector:
        self.vectors.append(self._read(f"{name}.weight").float().to(self._device))
        return Vector(index=len(self.vectors) - 1, size=len(self.vectors[-1]))

    def rope(self, cos: Floats, sin: Floats) -> Rope:
        pair = (torch.from_numpy(cos).to(self._device), torch.from_numpy(sin).to(self._device))
        self.ropes.append(pair)
        return Rope(index=len(self.ropes) - 1)

    def _add(self, weight: Tensor, bias: Tensor | None) -> Matrix:
        outputs, inputs = weight.shape
        self.matrices.append(
            pack(
                weight.to(self._device, self._dtype),
                None if bias is None else bias.to(self._device, self._dtype),
                packs=self._packs,
            )
        )
        return Matrix(index=len(self.matrices) - 1, outputs=outputs, inputs=inputs)

    def _read(self, name: str) -> Tensor:
        if name not in self._names:
            raise ModelError(f"{self._path}: tensor {name!r} is missing")
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


def pack(weight: Tensor, bias: Tensor | None, *, packs: bool) -> LinearWeight:
    """Bring a weight [out, in] into the layout that `linear` wants: oneDNN's own with `packs`."""
    if packs:
        weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACK_ROWS)
    return LinearWeight(weight=weight, bias=bias, packed=packs)


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")
