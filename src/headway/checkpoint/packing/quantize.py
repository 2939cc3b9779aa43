"""Rows of a matrix in the numbers of a weight format, and back.

float32 and bfloat16 hold each weight by itself. int8 holds, for each row and group of 64 weights, a
bfloat16 scale and whole numbers in [-127, 127]. int4 holds, for each row and group of 32, a float16
scale and minimum and whole numbers in [0, 15]: a weight is scale * q + minimum. A row's numbers
depend on that row alone.

Weights that a file has in four bits keep those numbers (`keep_blocks`). For others, the range from
a group's least to its largest weight, cut into 15 steps, would waste steps where one weight stands
apart. So several narrower ranges are tried, then the straight line through the best one's numbers
is fitted twice (as is common for such blocks), and what has the smallest squared error is
kept. About a sixth less error than the whole range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.checkpoint.storage import GROUP, WeightFormat, cast, padded, widen

Array = npt.NDArray[Any]

_INT4_GROUP = GROUP["int4"]
ZERO_BYTE = 128
"""A weight of 0 in int8, whose bytes are unsigned."""
_LARGEST = 32768.0
"""Weights beyond this might need a float16 scale or minimum that is infinite."""
_CUTS = (0.0, 0.06, 0.12)
_FITS = 2
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FourBitBlocks:
    """Rows that were quantised to four bits in groups of 32 by whoever made the file.

    `q` uint8 [rows, inputs] in [0, 15]; `scale` and `minimum` float16 [rows, inputs / 32].
    """

    q: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float16]
    minimum: npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedRows:
    """Rows in a weight format's numbers, padded along k; `parts` are arrays with one row for each.

    float32: float32 [rows, K]. bfloat16: uint16 [rows, K]. int8: uint8 (q + 128) [rows, K] and the
    scales' bfloat16 as uint16 [rows, K / 64]. int4: uint8 [rows, K], float16 scales and minima
    [rows, K / 32].
    """

    format: WeightFormat
    parts: tuple[Array, ...]

    @property
    def rows(self) -> int:
        return len(self.parts[0])

    def take(self, start: int, stop: int) -> QuantizedRows:
        return QuantizedRows(
            format=self.format, parts=tuple(part[start:stop] for part in self.parts)
        )


def quantize_rows(values: npt.NDArray[np.float32], weight_format: WeightFormat) -> QuantizedRows:
    """Float32 rows [rows, inputs], all finite, in a weight format.

    Raises `ValueError` for int4 where the inputs are no whole groups, or a weight is beyond the
    float16 range.
    """
    if weight_format == "int4":
        q, scale, minimum = _fit(values)
        return keep_blocks(FourBitBlocks(q=q, scale=scale, minimum=minimum))
    values = _pad_inputs(values)
    if weight_format == "int8":
        return QuantizedRows(format=weight_format, parts=_int8(values))
    return QuantizedRows(format=weight_format, parts=(cast(values, weight_format),))


def keep_blocks(blocks: FourBitBlocks) -> QuantizedRows:
    """Four-bit blocks as they are, in int4."""
    groups = padded(blocks.q.shape[1]) // GROUP["int4"]
    missing = groups - blocks.scale.shape[1]
    scale, minimum = (
        np.pad(part, ((0, 0), (0, missing))) for part in (blocks.scale, blocks.minimum)
    )
    return QuantizedRows(format="int4", parts=(_pad_inputs(blocks.q), scale, minimum))


def dequantize(quantized: QuantizedRows, inputs: int) -> npt.NDArray[np.float32]:
    """The weights [rows, inputs] that quantized rows stand for, as float32."""
    values = quantized.parts[0]
    if quantized.format == "float32":
        weights = values.astype(np.float32)
    elif quantized.format == "bfloat16":
        weights = widen(values)
    elif quantized.format == "int8":
        groups = values.reshape(quantized.rows, -1, GROUP["int8"]).astype(np.float32)
        weights = (groups - np.float32(ZERO_BYTE)) * widen(quantized.parts[1])[..., None]
    else:
        groups = values.reshape(quantized.rows, -1, GROUP["int4"]).astype(np.float32)
        scale, minimum = (part.astype(np.float32)[..., None] for part in quantized.parts[1:])
        with np.errstate(all="ignore"):  # a damaged file's scales may be anything
            weights = groups * scale + minimum
    return weights.reshape(quantized.rows, -1)[:, :inputs]


def _fit(values: npt.NDArray[np.float32]) -> tuple[Array, Array, Array]:
    """Rows [rows, inputs] as uint8 [rows, inputs], float16 scales and minima [rows, inputs / 32].

    Raises `ValueError` where the inputs are no whole groups or a weight is beyond `_LARGEST`.
    """
    rows, inputs = values.shape
    if inputs % _INT4_GROUP:
        raise ValueError(f"{inputs} inputs are no whole groups of {_INT4_GROUP}")
    if values.size and max(values.max(), -values.min()) > _LARGEST:
        raise ValueError(f"a weight is beyond {_LARGEST:,.0f}")
    groups = values.reshape(-1, _INT4_GROUP)
    q = np.empty(groups.shape, np.uint8)
    scale, minimum = (np.empty(len(groups), np.float16) for _ in range(2))
    for start in range(0, len(groups), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        # With a group in each column, every reduction runs along the fast axis.
        found = _best(np.ascontiguousarray(groups[part].T))
        q[part], scale[part], minimum[part] = found[0].T, found[1], found[2]
    shape = (rows, inputs // _INT4_GROUP)
    return q.reshape(rows, inputs), scale.reshape(shape), minimum.reshape(shape)


def _best(weights: Array) -> tuple[Array, Array, Array]:
    """Weights [32, groups] -> uint8 [32, groups], float16 scale and minimum [groups]."""
    low, high = weights.min(axis=0), weights.max(axis=0)
    width = high - low
    scale, minimum = _half(width / 15), _half(low)
    error = _error(weights, scale, minimum)
    for below in _CUTS:
        for above in _CUTS:
            candidate = _half(width * np.float32((1 - below - above) / 15))
            _keep_better(
                weights, (scale, minimum, error), candidate, _half(low + width * np.float32(below))
            )
    for _ in range(_FITS):
        line = _line(weights, _numbers(weights, scale, minimum))
        _keep_better(weights, (scale, minimum, error), *line)
    q = _numbers(weights, scale, minimum).astype(np.uint8)
    return q, scale.astype(np.float16), minimum.astype(np.float16)


def _keep_better(
    weights: Array, best: tuple[Array, Array, Array], scale: Array, minimum: Array
) -> None:
    """Put a candidate into `best` (scale, minimum, error; changed in place) where it errs less."""
    error = _error(weights, scale, minimum)
    better = error < best[2]
    for kept, new in zip(best, (scale, minimum, error), strict=True):
        np.copyto(kept, new, where=better)


def _numbers(weights: Array, scale: Array, minimum: Array) -> Array:
    """The nearest whole numbers in [0, 15], as float32."""
    q = weights - minimum
    q /= np.where(scale == 0, np.float32(1), scale)
    np.rint(q, out=q)
    clipped: Array = np.clip(q, 0, 15, out=q)
    return clipped


def _error(weights: Array, scale: Array, minimum: Array) -> Array:
    off = _numbers(weights, scale, minimum)
    off *= scale
    off += minimum
    off -= weights
    squares: Array = np.einsum("kg,kg->g", off, off)
    return squares


def _line(weights: Array, q: Array) -> tuple[Array, Array]:
    """The scale and minimum with the least squared error for given numbers."""
    mean_q, mean_w = q.mean(axis=0), weights.mean(axis=0)
    spread = np.einsum("kg,kg->g", q, q) - _INT4_GROUP * mean_q**2
    common = np.einsum("kg,kg->g", q, weights) - _INT4_GROUP * mean_q * mean_w
    scale = _half(common / np.where(spread <= 0, np.float32(1), spread))
    return scale, _half(mean_w - scale * mean_q)


def _half(values: Array) -> Array:
    """Rounded to what float16 holds; as float32."""
    rounded: Array = values.astype(np.float16).astype(np.float32)
    return rounded


def _int8(values: npt.NDArray[np.float32]) -> tuple[Array, Array]:
    groups = values.reshape(len(values), -1, GROUP["int8"])
    largest = np.abs(np.maximum(groups.max(axis=2), -groups.min(axis=2)))  # never -0
    scale = _scale_of(largest)
    divisor = widen(scale)
    divisor[divisor == 0] = 1
    q = groups / divisor[..., None]
    np.rint(q, out=q)
    np.clip(q, -127, 127, out=q)
    q += ZERO_BYTE
    return q.astype(np.uint8).reshape(values.shape), scale


def _scale_of(largest: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The smallest bfloat16 of which 127 times reaches `largest`, which is not negative."""
    bits = (largest / np.float32(127)).view(np.uint32)
    scale = ((bits + 0xFFFF) >> 16).astype(np.uint16)
    # The quotient was rounded, to 0 even for the smallest numbers; one place more is enough.
    with np.errstate(over="ignore"):
        return scale + (widen(scale) * np.float32(127) < largest)


def _pad_inputs(values: Array) -> Array:
    missing = padded(values.shape[1]) - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing))) if missing else values
