"""Reading safetensors files: the table of tensors and rows of a tensor as float32.

The header is parsed and checked here, against the size of the file and against itself, because it
comes from strangers and because numpy has no bfloat16. Knows nothing of models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from headway.checkpoint.cast import widen
from headway.errors import ModelError

_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MOST_HEADER_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies; `offset` in bytes from the start of the file."""

    shape: tuple[int, ...]
    kind: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsFile:
    """One open safetensors file, mapped into memory."""

    path: Path
    tensors: Mapping[str, StoredTensor]
    data: npt.NDArray[np.uint8]

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows start..stop of a tensor seen as a matrix of its innermost dimension."""
        tensor = self.tensors[name]
        dtype = np.dtype(_TYPES[tensor.kind])
        width = tensor.shape[-1] * dtype.itemsize
        raw = self.data[tensor.offset + start * width : tensor.offset + stop * width]
        # Tensors need not be aligned in the file, so their bytes are copied before they are viewed.
        values = np.frombuffer(raw.tobytes(), dtype=dtype).reshape(stop - start, -1)
        return widen(values) if tensor.kind == "BF16" else values.astype(np.float32)


def open_safetensors(path: Path) -> SafetensorsFile:
    """Map a safetensors file and check its header; raises `ModelError` naming the file."""
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    length = int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or length > min(len(data) - 8, _MOST_HEADER_BYTES):
        raise ModelError(f"{path}: truncated, or not a safetensors file")
    header = read_json(path, data[8 : 8 + length].tobytes())
    tensors = {
        name: _tensor(path, name, entry, base=8 + length, size=len(data))
        for name, entry in header.items()
        if name != "__metadata__"
    }
    return SafetensorsFile(path=path, tensors=tensors, data=data)


def read_json(path: Path, raw: bytes) -> dict[str, Any]:
    """A JSON object; raises `ModelError` naming the file for anything else."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object")
    return found


def _tensor(path: Path, name: str, entry: object, *, base: int, size: int) -> StoredTensor:
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2):
        raise ModelError(f"{path}: damaged header: the entry of tensor {name} makes no sense")
    if not isinstance(kind, str) or kind not in _TYPES:
        known = ", ".join(_TYPES)
        raise ModelError(f"{path}: tensor {name} is stored as {kind}; readable: {known}")
    start, end = offsets
    if end - start != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize or base + end > size:
        raise ModelError(
            f"{path}: truncated or damaged: tensor {name} of shape {shape} does not lie at "
            f"bytes {start:,} to {end:,} of the data"
        )
    return StoredTensor(shape=tuple(shape), kind=kind, offset=base + start)


def _counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
