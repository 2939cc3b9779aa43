"""Writing `weights.safetensors`: every canonical tensor, streamed some megabytes at a time.

The header is known before the first weight is read, so a model of any size is converted in the
memory of a few chunks of rows. Knows no format but the one it writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.checkpoint.cast import ITEM_BYTES, StorageDtype, cast
from headway.checkpoint.layout import Target
from headway.checkpoint.source import Checkpoint
from headway.errors import ModelError

_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_ALIGNMENT = 64


def stored_bytes(layout: list[Target], dtype: StorageDtype) -> int:
    """Bytes of all tensors, the header aside."""
    return sum(_size(target, dtype) for target in layout)


def write_weights(
    path: Path,
    checkpoint: Checkpoint,
    layout: list[Target],
    *,
    dtype: StorageDtype,
    advance: Callable[[int], object],
) -> None:
    """Convert every target, in order, and tell `advance` the bytes written after each chunk."""
    with path.open("wb") as out:
        out.write(_header(layout, dtype))
        for target in layout:
            kept = _stored_as(target, dtype)
            written = 0
            for piece in target.pieces:
                for rows in checkpoint.read(piece):
                    raw = cast(rows, kept).data
                    out.write(raw)
                    written += raw.nbytes
                    advance(raw.nbytes)
            if written != _size(target, dtype):
                raise ModelError(f"{checkpoint.path}: {target.name} came out with a wrong size")


def _header(layout: list[Target], dtype: StorageDtype) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "headway"}}
    start = 0
    for target in layout:
        end = start + _size(target, dtype)
        entries[target.name] = {
            "dtype": _NAMES[_stored_as(target, dtype)],
            "shape": list(target.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _stored_as(target: Target, dtype: StorageDtype) -> StorageDtype:
    return "float32" if target.norm else dtype


def _size(target: Target, dtype: StorageDtype) -> int:
    return math.prod(target.shape) * ITEM_BYTES[_stored_as(target, dtype)]
