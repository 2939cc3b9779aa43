"""A native prepared model turned back into a plain float32 one with the weights that it holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from headway.checkpoint.manifest import MANIFEST
from headway.checkpoint.packing import PackedShape, dequantize, unpack
from headway.checkpoint.prepared import WEIGHTS
from headway.checkpoint.safetensors import read_header

Array = npt.NDArray[Any]


def unpack_model(folder: Path, plain: Path) -> Path:
    """Write the plain folder; biases lose their padding with the help of their matrices."""
    shutil.copytree(folder, plain, ignore=shutil.ignore_patterns(MANIFEST))
    described, _ = read_header(folder / WEIGHTS)
    stored: dict[str, Array] = load_file(folder / WEIGHTS)
    found: dict[str, torch.Tensor] = {}
    for name, array in stored.items():
        matrix = described.get(name)
        if matrix is not None:
            found[name] = torch.from_numpy(_weights(name, array, PackedShape.parse(matrix)))
        elif name.endswith(".bias"):
            size = PackedShape.parse(described[name.replace(".bias", ".weight")]).outputs
            found[name] = torch.from_numpy(_ordered(name, array[:, None], size)[:, 0].copy())
        else:
            found[name] = torch.from_numpy(array)
    save_file(found, plain / WEIGHTS)
    return plain


def _weights(name: str, array: Array, matrix: PackedShape) -> Array:
    """float32 [outputs, inputs], or [experts, outputs, inputs]."""
    if array.ndim == 3:
        return np.stack([_weights(name, part, matrix) for part in array])
    rows = dequantize(unpack(array, matrix.format, matrix.inputs), matrix.inputs)
    return np.ascontiguousarray(_ordered(name, rows, matrix.outputs))


def _ordered(name: str, rows: Array, outputs: int) -> Array:
    """Rows of a blocked layout without padding, gate and up apart."""
    if ".gate_up." not in name:
        return rows[:outputs]
    pairs = rows.reshape(-1, 2, 16, rows.shape[1]).swapaxes(0, 1)
    return np.concatenate([half.reshape(-1, rows.shape[1])[: outputs // 2] for half in pairs])
