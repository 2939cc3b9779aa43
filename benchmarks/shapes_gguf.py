"""A GGUF file of a Llama's shapes with random weights, for other engines that read such files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ALIGNED = 32
UINT32, FLOAT32, STRING = 4, 6, 8  # types of metadata
F32, Q4_0, Q8_0 = 0, 2, 8  # types of tensors
VALUES = 32  # of a block
MOST = 1 << 20  # blocks that are drawn; a matrix of more repeats them

Value = int | float | str
Drawn = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Name, rows and columns (none for a vector) and the type, as the file describes them."""

    name: str
    rows: int
    columns: int
    kind: int

    @property
    def bytes(self) -> int:
        if self.kind == F32:
            return 4 * self.rows * self.columns
        return self.rows * self.columns // VALUES * block_type(self.kind).itemsize


def block_type(kind: int) -> np.dtype[np.void]:
    """A float16 scale and the numbers of 32 weights: bytes, or halves of bytes."""
    size = VALUES if kind == Q8_0 else VALUES // 2
    return np.dtype([("scale", np.float16), ("numbers", np.uint8, size)])


def write(path: Path, metadata: dict[str, Value], tensors: list[Tensor]) -> None:
    """Norms are ones, all else is random and small."""
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(text(key) + typed(value))
        offset = 0
        for tensor in tensors:
            dims = [tensor.rows] if tensor.kind == F32 else [tensor.columns, tensor.rows]
            file.write(text(tensor.name) + struct.pack("<I", len(dims)))
            file.write(struct.pack(f"<{len(dims)}QIQ", *dims, tensor.kind, offset))
            offset += padded(tensor.bytes)
        file.write(b"\0" * (padded(file.tell()) - file.tell()))
        for tensor in tensors:
            for piece in contents(tensor):
                file.write(piece.tobytes())
            file.write(b"\0" * (padded(tensor.bytes) - tensor.bytes))


def contents(tensor: Tensor) -> Iterator[npt.NDArray[np.void] | npt.NDArray[np.float32]]:
    if tensor.kind == F32:
        yield np.ones(tensor.rows, np.float32)
        return
    kind = block_type(tensor.kind)
    blocks = tensor.bytes // kind.itemsize
    drawn = np.empty(min(blocks, MOST), kind)
    random = np.random.default_rng(tensor.rows)
    drawn["numbers"] = random.integers(0, 256, drawn["numbers"].shape, np.uint8)
    drawn["scale"] = 0.02 / 74 if tensor.kind == Q8_0 else 0.02 / 4.6
    for begin in range(0, blocks, MOST):
        yield drawn[: blocks - begin]


def padded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def typed(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + text(value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack("<II", UINT32, value)
