"""The conversion: each canonical tensor of a checkpoint as what is written for it.

For the reference backend each tensor is a plain array of one dtype; norms stay float32. For the
native kernels matrices are packed and come first, then biases' and norms' floats.

Which weight format a matrix gets: routers stay float32, because they are small and decide which
experts run. In int4, four-bit blocks of the source are kept exactly and weights that were never
quantised get four bits of our own, but for embedding and LM head, which lose most by it; whatever
was rounded to five bits or more becomes int8, since rounding twice costs more than it saves. All
other formats hold for every matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from headway.checkpoint.layout import CanonicalTensor, Piece
from headway.checkpoint.packing import (
    PackedShape,
    QuantizedRows,
    WeightFormat,
    interleaved,
    interleaved_bias,
    keep_blocks,
    pack,
    packed_bias,
    quantize_rows,
    stacked,
    stacked_bias,
)
from headway.checkpoint.safetensors import TensorEntry
from headway.checkpoint.source import Checkpoint
from headway.checkpoint.storage import GROUP, ITEM_BYTES, PLAIN_NAMES, StorageDtype, cast
from headway.errors import ModelError

_NAMES = {dtype: name for name, dtype in PLAIN_NAMES.items()}


def plain_entries(
    checkpoint: Checkpoint, layout: list[CanonicalTensor], dtype: StorageDtype
) -> Iterator[TensorEntry]:
    """One entry per canonical tensor, in their order."""
    for target in layout:
        kept: StorageDtype = "float32" if target.norm else dtype
        yield TensorEntry(
            name=target.name,
            dtype=_NAMES[kept],
            shape=target.shape,
            bytes=math.prod(target.shape) * ITEM_BYTES[kept],
            chunks=partial(_chunks, checkpoint, target, kept),
        )


def _chunks(
    checkpoint: Checkpoint, target: CanonicalTensor, dtype: StorageDtype
) -> Iterator[npt.NDArray[np.generic]]:
    for piece in target.pieces:
        for rows in checkpoint.read(piece):
            yield cast(rows, dtype)


def native_entries(
    checkpoint: Checkpoint, layout: list[CanonicalTensor], weight_format: WeightFormat
) -> tuple[list[TensorEntry], dict[str, str]]:
    """The entries of a file, and the description of each matrix by its tensor's name.

    Matrices come first: their sizes are multiples of 64 bytes, so that each starts at one.
    """
    matrices = {
        target.name: _matrix(checkpoint, target, weight_format)
        for target in layout
        if _is_matrix(target)
    }
    entries = [
        _matrix_entry(checkpoint, target, matrices[target.name])
        for target in layout
        if target.name in matrices
    ]
    floats = [_float_entry(checkpoint, target) for target in layout if target.name not in matrices]
    descriptions = {name: str(matrix) for name, matrix in matrices.items()}
    return [*entries, *floats], descriptions


def matrix_format(
    checkpoint: Checkpoint, target: CanonicalTensor, weight_format: WeightFormat
) -> WeightFormat:
    """The weight format that a matrix gets in a model of this format."""
    if target.pieces[0].role == "router":
        return "float32"
    if weight_format != "int4":
        return weight_format
    whole_groups = target.shape[-1] % GROUP["int4"] == 0
    four = whole_groups and all(_in_four_bits(checkpoint, piece) for piece in target.pieces)
    return "int4" if four else "int8"


def _in_four_bits(checkpoint: Checkpoint, piece: Piece) -> bool:
    if checkpoint.read_blocks(piece) is not None:
        return True
    return not checkpoint.quantised(piece) and piece.role not in ("embed", "head")


def _is_matrix(target: CanonicalTensor) -> bool:
    return len(target.pieces[0].shape) == 2


def _matrix(
    checkpoint: Checkpoint, target: CanonicalTensor, weight_format: WeightFormat
) -> PackedShape:
    """One of the target's matrices: a mixture of experts has one for each."""
    outputs, inputs = target.shape[-2:]
    return PackedShape(
        format=matrix_format(checkpoint, target, weight_format), outputs=outputs, inputs=inputs
    )


def _matrix_entry(
    checkpoint: Checkpoint, target: CanonicalTensor, matrix: PackedShape
) -> TensorEntry:
    stack = target.shape[:-2]
    return TensorEntry(
        name=target.name,
        dtype="U8",
        shape=(*stack, matrix.panels, matrix.bytes // matrix.panels),
        bytes=math.prod(stack) * matrix.bytes,
        chunks=partial(_panels, checkpoint, target, matrix.format),
    )


def _panels(
    checkpoint: Checkpoint, target: CanonicalTensor, weight_format: WeightFormat
) -> Iterator[npt.NDArray[np.generic]]:
    for pieces in _matrices(target):
        streams = [_quantized(checkpoint, piece, weight_format) for piece in pieces]
        both = _gated(pieces)
        for rows in interleaved(*streams) if both else stacked(streams):
            yield pack(rows)


def _matrices(target: CanonicalTensor) -> Iterator[tuple[Piece, ...]]:
    """The pieces of each matrix of a target: those of one expert belong together."""
    for _, pieces in itertools.groupby(target.pieces, key=lambda piece: piece.expert):
        yield tuple(pieces)


def _gated(pieces: tuple[Piece, ...]) -> bool:
    return pieces[0].role == "gate"


def _quantized(
    checkpoint: Checkpoint, piece: Piece, weight_format: WeightFormat
) -> Iterator[QuantizedRows]:
    blocks = checkpoint.read_blocks(piece) if weight_format == "int4" else None
    if blocks is not None:
        yield from (keep_blocks(part) for part in blocks)
        return
    name = checkpoint.locate(piece).tensor
    for rows in checkpoint.read(piece):
        if weight_format in ("int8", "int4") and not np.isfinite(rows).all():
            raise ModelError(
                f"{checkpoint.path}: tensor {name} holds weights that are no finite numbers, "
                f"which {weight_format} cannot express"
            )
        try:
            yield quantize_rows(rows, weight_format)
        except ValueError as error:
            raise ModelError(f"{checkpoint.path}: tensor {name}: {error}") from error


def _float_entry(checkpoint: Checkpoint, target: CanonicalTensor) -> TensorEntry:
    bias = target.pieces[0].bias
    shape = (packed_bias(target.shape[0]),) if bias else target.shape
    return TensorEntry(
        name=target.name,
        dtype="F32",
        shape=shape,
        bytes=4 * math.prod(shape),
        chunks=lambda: [_floats(checkpoint, target, bias=bias)],
    )


def _floats(
    checkpoint: Checkpoint, target: CanonicalTensor, *, bias: bool
) -> npt.NDArray[np.generic]:
    """A norm's weight as it is, or a bias in the order of its matrix's packed rows."""
    values = [
        np.concatenate([rows.reshape(-1) for rows in checkpoint.read(piece)])
        for piece in target.pieces
    ]
    if not bias:
        return values[0].astype("<f4", copy=False)
    both = _gated(target.pieces)
    return interleaved_bias(*values) if both else stacked_bias(values)
