"""The tensors of a prepared model, brought to a backend one by one.

The file is memory-mapped, so what a backend packs into a layout of its own is read once and never
held twice, and what it uses as it stands is never copied. Knows names and shapes, no family.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from headway.errors import ModelError
from headway.ops import Matrix, Ops


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")


class Weights:
    """Reads tensors of one file by their canonical names; `ModelError` where one is missing."""

    def __init__(self, path: Path, ops: Ops) -> None:
        self._path = path
        self._ops = ops
        try:
            self._file = _open(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
        self._names = frozenset(self._file.keys())

    def tensor(self, name: str) -> Tensor:
        """In the backend's type, on its device."""
        return self._read(name).to(self._ops.device, self._ops.dtype)

    def norm(self, name: str) -> Tensor:
        """A norm's weight, float32, on the backend's device."""
        return self._read(f"{name}.weight").float().to(self._ops.device)

    def matrix(self, name: str, *, bias: bool = False) -> Matrix:
        return self._ops.pack(
            self._read(f"{name}.weight"), self._read(f"{name}.bias") if bias else None
        )

    def stack(self, name: str) -> tuple[Matrix, ...]:
        """Matrices stored as one tensor [number, out, in]."""
        return tuple(self._ops.pack(part) for part in self._read(f"{name}.weight"))

    def _read(self, name: str) -> Tensor:
        if name not in self._names:
            raise ModelError(f"{self._path}: tensor {name!r} is missing")
        tensor: Tensor = self._file.get_tensor(name)
        return tensor
