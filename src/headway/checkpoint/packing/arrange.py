"""The order of rows in a packed matrix: tensors one after the other, or gate and up interleaved.

Works on streams of coded rows in chunks of any size and yields whole panels; at the end of a matrix
(and of gate and up each) rows of zero weights fill the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from headway.checkpoint.packing.forms import PANEL_ROWS, packed_bias
from headway.checkpoint.packing.rows import ZERO_BYTE, CodedRows

_HALF = PANEL_ROWS // 2
_AT_ONCE = 512
"""Rows of one yielded chunk; whole panels."""


def stacked(streams: Iterable[Iterable[CodedRows]]) -> Iterator[CodedRows]:
    """Several tensors' rows, one tensor after the other, in multiples of 32."""
    everything = (part for stream in streams for part in stream)
    for part in _regrouped(everything):
        yield _fill(part, PANEL_ROWS)


def interleaved(gate: Iterable[CodedRows], up: Iterable[CodedRows]) -> Iterator[CodedRows]:
    """16 rows of gate, the same 16 of up, and so on; both have as many rows."""
    for both in zip(_regrouped(gate), _regrouped(up), strict=True):
        first, second = (_fill(part, _HALF) for part in both)
        yield CodedRows(
            form=first.form,
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


def _regrouped(stream: Iterable[CodedRows]) -> Iterator[CodedRows]:
    """The same rows in chunks of `_AT_ONCE`, the last one shorter."""
    held: CodedRows | None = None
    for part in stream:
        held = part if held is None else _joined(held, part)
        while held.rows >= _AT_ONCE:
            yield held.take(0, _AT_ONCE)
            held = held.take(_AT_ONCE, held.rows)
    if held is not None and held.rows:
        yield held


def _joined(first: CodedRows, second: CodedRows) -> CodedRows:
    pairs = zip(first.parts, second.parts, strict=True)
    return CodedRows(form=first.form, parts=tuple(np.concatenate(pair) for pair in pairs))


def _fill(coded: CodedRows, multiple: int) -> CodedRows:
    """Rows of zero weights added up to a multiple."""
    missing = -coded.rows % multiple
    if not missing:
        return coded
    values, *others = coded.parts
    zero = ZERO_BYTE if coded.form == "int8" else 0
    wide = ((0, missing), (0, 0))
    return CodedRows(
        form=coded.form,
        parts=(
            np.pad(values, wide, constant_values=zero),
            *(np.pad(part, wide) for part in others),
        ),
    )
