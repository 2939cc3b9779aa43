"""Our own four-bit numbers for weights that were not quantised before.

The range from a group's least to its largest weight, cut into 15 steps, wastes steps where one
weight stands apart. So several narrower ranges are tried, then the straight line through the best
one's numbers is fitted twice (as is common for such blocks), and what has the smallest squared
error is kept. About a sixth less error than the whole range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GROUP = 32
LARGEST = 32768.0
"""Weights beyond this might need a float16 scale or minimum that is infinite."""
_CUTS = (0.0, 0.06, 0.12)
_FITS = 2
_AT_ONCE = 4096


def fit(values: npt.NDArray[np.float32]) -> tuple[Array, Array, Array]:
    """Rows [rows, inputs] as uint8 [rows, inputs], float16 scales and minima [rows, inputs / 32].

    Raises `ValueError` where the inputs are no whole groups or a weight is beyond `LARGEST`.
    """
    rows, inputs = values.shape
    if inputs % GROUP:
        raise ValueError(f"{inputs} inputs are no whole groups of {GROUP}")
    if values.size and max(values.max(), -values.min()) > LARGEST:
        raise ValueError(f"a weight is beyond {LARGEST:,.0f}")
    groups = values.reshape(-1, GROUP)
    q = np.empty(groups.shape, np.uint8)
    scale, minimum = (np.empty(len(groups), np.float16) for _ in range(2))
    for start in range(0, len(groups), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        # With a group in each column, every reduction runs along the fast axis.
        found = _best(np.ascontiguousarray(groups[part].T))
        q[part], scale[part], minimum[part] = found[0].T, found[1], found[2]
    shape = (rows, inputs // GROUP)
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
    spread = np.einsum("kg,kg->g", q, q) - GROUP * mean_q**2
    common = np.einsum("kg,kg->g", q, weights) - GROUP * mean_q * mean_w
    scale = _half(common / np.where(spread <= 0, np.float32(1), spread))
    return scale, _half(mean_w - scale * mean_q)


def _half(values: Array) -> Array:
    """Rounded to what float16 holds; as float32."""
    rounded: Array = values.astype(np.float16).astype(np.float32)
    return rounded
