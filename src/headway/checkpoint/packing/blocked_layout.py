"""The blocked layout: rows in a weight format as panels of 32 outputs, and back.

A matrix's rows come from several tensors, one after the other (query, key, value), or from gate
and up interleaved, 16 of one and the same 16 of the other. That order is made on streams of rows
in chunks of any size, which yield whole panels; rows of zero weights fill the last panel of a
matrix (with gate and up, of each). `pack` then only moves numbers to where `native/headway.h` has
them, so `unpack` is exact. Where four bytes stay together (int8), or two numbers of two bytes
(bfloat16), they are moved as one 32-bit word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.checkpoint.packing.quantize import ZERO_BYTE, QuantizedRows
from headway.checkpoint.storage import (
    GROUP,
    PANEL_ROWS,
    WeightFormat,
    packed_bias,
    padded,
    panel_bytes,
)

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

_HALF = PANEL_ROWS // 2
_AT_ONCE = 512
"""Rows of one yielded chunk; whole panels."""


def pack(quantized: QuantizedRows) -> Bytes:
    """Rows, a multiple of 32, as uint8 [panels, panel bytes]."""
    if quantized.rows % PANEL_ROWS:
        raise ValueError(f"{quantized.rows} rows are no whole panels")
    values: Array = quantized.parts[0]
    panels, width = quantized.rows // PANEL_ROWS, values.shape[1]
    if quantized.format == "float32":
        return _bytes(values.reshape(panels, PANEL_ROWS, width).swapaxes(1, 2), panels)
    if quantized.format == "bfloat16":
        pairs = _words(values).reshape(panels, PANEL_ROWS, width // 2)
        return _bytes(pairs.swapaxes(1, 2), panels)
    size = GROUP[quantized.format]
    groups = width // size
    if quantized.format == "int4":
        values = _nibbles(values, panels)
    words = _words(values).reshape(panels, -1, groups, size // 4)
    ordered = np.ascontiguousarray(words.transpose(0, 2, 3, 1)).reshape(panels * groups, -1)
    scales = [
        _bytes(part.reshape(panels, PANEL_ROWS, groups).swapaxes(1, 2), panels * groups)
        for part in quantized.parts[1:]
    ]
    joined = np.concatenate((ordered.view(np.uint8), *scales), axis=1)
    return joined.reshape(panels, -1)


def unpack(packed: Bytes, weight_format: WeightFormat, inputs: int) -> QuantizedRows:
    """The rows of uint8 [panels, panel bytes], padding included: the inverse of `pack`."""
    width = padded(inputs)
    if packed.ndim != 2 or packed.shape[1] != panel_bytes(weight_format, inputs):
        raise ValueError(
            f"bytes of shape {packed.shape} are no {weight_format} panels of {inputs} inputs"
        )
    panels, rows = len(packed), len(packed) * PANEL_ROWS
    packed = np.ascontiguousarray(packed)
    if weight_format in ("float32", "bfloat16"):
        words = packed.view(np.uint32).reshape(panels, -1, PANEL_ROWS).swapaxes(1, 2)
        item = np.dtype(np.float32 if weight_format == "float32" else np.uint16)
        return QuantizedRows(
            format=weight_format, parts=(np.ascontiguousarray(words).view(item).reshape(rows, -1),)
        )
    size = GROUP[weight_format]
    across = PANEL_ROWS if weight_format == "int8" else _HALF
    groups = width // size
    by_group = packed.reshape(panels * groups, -1)
    words = np.ascontiguousarray(by_group[:, : across * size]).view(np.uint32)
    ordered = np.ascontiguousarray(
        words.reshape(panels, groups, size // 4, across).transpose(0, 3, 1, 2)
    )
    values = ordered.view(np.uint8).reshape(panels, across, width)
    if weight_format == "int4":
        values = np.concatenate((values & 15, values >> 4), axis=1)
    kind = np.dtype(np.uint16 if weight_format == "int8" else np.float16)
    scales = np.ascontiguousarray(by_group[:, across * size :]).view(kind)
    parts = scales.reshape(panels, groups, -1, PANEL_ROWS).transpose(2, 0, 3, 1)
    return QuantizedRows(
        format=weight_format,
        parts=(values.reshape(rows, width), *(part.reshape(rows, groups) for part in parts)),
    )


def _nibbles(q: Array, panels: int) -> Array:
    """uint8 [rows, K] below 16 -> [panels, 16, K]: output n low, output 16 + n high."""
    q = q.reshape(panels, PANEL_ROWS, -1)
    both: Array = q[:, :_HALF] | (q[:, _HALF:] << np.uint8(4))
    return both


def _words(values: Array) -> Array:
    """The same bytes as 32-bit words, along the last axis."""
    return np.ascontiguousarray(values).view(np.uint32)


def _bytes(values: Array, rows: int) -> Bytes:
    """Any array's bytes, in its own order of axes, as [rows, ...]."""
    return np.ascontiguousarray(values).reshape(rows, -1).view(np.uint8)


def stacked(streams: Iterable[Iterable[QuantizedRows]]) -> Iterator[QuantizedRows]:
    """Several tensors' rows, one tensor after the other, in multiples of 32."""
    everything = (part for stream in streams for part in stream)
    for part in _regrouped(everything):
        yield _fill(part, PANEL_ROWS)


def interleaved(
    gate: Iterable[QuantizedRows], up: Iterable[QuantizedRows]
) -> Iterator[QuantizedRows]:
    """16 rows of gate, the same 16 of up, and so on; both have as many rows."""
    for both in zip(_regrouped(gate), _regrouped(up), strict=True):
        first, second = (_fill(part, _HALF) for part in both)
        yield QuantizedRows(
            format=first.format,
            parts=tuple(
                np.stack(
                    (a.reshape(-1, _HALF, a.shape[1]), b.reshape(-1, _HALF, b.shape[1])), 1
                ).reshape(-1, a.shape[1])
                for a, b in zip(first.parts, second.parts, strict=True)
            ),
        )


def stacked_bias(biases: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Biases [outputs] one after the other, with zeros up to whole panels."""
    values = np.concatenate(list(biases))
    return np.pad(values, (0, packed_bias(len(values)) - len(values)))


def interleaved_bias(
    gate: npt.NDArray[np.float32], up: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Biases [inner] in the order of interleaved rows."""
    missing = -len(gate) % _HALF
    halves = [np.pad(part, (0, missing)).reshape(-1, _HALF) for part in (gate, up)]
    return np.stack(halves, axis=1).reshape(-1)


def _regrouped(stream: Iterable[QuantizedRows]) -> Iterator[QuantizedRows]:
    """The same rows in chunks of `_AT_ONCE`, the last one shorter."""
    held: QuantizedRows | None = None
    for part in stream:
        held = part if held is None else _joined(held, part)
        while held.rows >= _AT_ONCE:
            yield held.take(0, _AT_ONCE)
            held = held.take(_AT_ONCE, held.rows)
    if held is not None and held.rows:
        yield held


def _joined(first: QuantizedRows, second: QuantizedRows) -> QuantizedRows:
    pairs = zip(first.parts, second.parts, strict=True)
    return QuantizedRows(format=first.format, parts=tuple(np.concatenate(pair) for pair in pairs))


def _fill(quantized: QuantizedRows, multiple: int) -> QuantizedRows:
    """Rows of zero weights added up to a multiple."""
    missing = -quantized.rows % multiple
    if not missing:
        return quantized
    values, *others = quantized.parts
    zero = ZERO_BYTE if quantized.format == "int8" else 0
    wide = ((0, missing), (0, 0))
    return QuantizedRows(
        format=quantized.format,
        parts=(
            np.pad(values, wide, constant_values=zero),
            *(np.pad(part, wide) for part in others),
        ),
    )
