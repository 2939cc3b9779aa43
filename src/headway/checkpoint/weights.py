"""What is written for a model: each canonical tensor as a plain array of one type.

Norms stay float32. What the native kernels read instead comes from `native_weights`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from headway.checkpoint.cast import ITEM_BYTES, StorageDtype, cast
from headway.checkpoint.container import Entry
from headway.checkpoint.layout import Target
from headway.checkpoint.source import Checkpoint
from headway.checkpoint.storage import PLAIN_NAMES

_NAMES = {dtype: name for name, dtype in PLAIN_NAMES.items()}


def plain_entries(
    checkpoint: Checkpoint, layout: list[Target], dtype: StorageDtype
) -> Iterator[Entry]:
    """One entry per canonical tensor, in their order."""
    for target in layout:
        kept: StorageDtype = "float32" if target.norm else dtype
        yield Entry(
            name=target.name,
            dtype=_NAMES[kept],
            shape=target.shape,
            bytes=math.prod(target.shape) * ITEM_BYTES[kept],
            chunks=partial(_chunks, checkpoint, target, kept),
        )


def _chunks(
    checkpoint: Checkpoint, target: Target, dtype: StorageDtype
) -> Iterator[npt.NDArray[np.generic]]:
    for piece in target.pieces:
        for rows in checkpoint.read(piece):
            yield cast(rows, dtype)
