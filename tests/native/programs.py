"""Small programs for kernel tests, recorded by hand straight through the C interface.

A program gets its input rows as the rows of a float32 embedding matrix: token n stands for row n.
All arrays whose addresses went into a structure are held for as long as the program lives.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.checkpoint.packing import (
    WEIGHT_FORMATS,
    WeightFormat,
    dequantize,
    interleaved,
    interleaved_bias,
    pack,
    panel_bytes,
    quantize_rows,
    stacked,
    stacked_bias,
)
from headway.native import Library, abi, load

Floats = npt.NDArray[Any]  # of float32; arithmetic with it is typed as float64
Ints = npt.NDArray[np.int64]
BLOCK = 32


def aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy whose data begins at a multiple of 64 bytes and does not go on after its end."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Recording:
    """Buffers, matrices and operations, in the order in which they are added."""

    def __init__(self) -> None:
        self.ops: list[abi.HwOp] = []
        self.matrices: list[abi.HwMatrix] = []
        self.buffers: list[abi.HwBuffer] = []
        self._held: list[npt.NDArray[Any]] = []

    def hold(self, array: npt.NDArray[Any]) -> int:
        """The address of a copy that lives as long as this."""
        copy = aligned(array)
        self._held.append(copy)
        return copy.ctypes.data

    def buffer(self, width: int, weight_format: WeightFormat = "float32") -> int:
        self.buffers.append(abi.HwBuffer(WEIGHT_FORMATS.index(weight_format), width))
        return len(self.buffers) - 1

    def matrix(
        self, weights: Floats, weight_format: WeightFormat, bias: Floats | None = None
    ) -> int:
        """Weights [outputs, inputs] and bias [outputs]."""
        packed = np.concatenate(
            [pack(part) for part in stacked([[quantize_rows(weights, weight_format)]])]
        )
        address = None if bias is None else self.hold(stacked_bias([bias]))
        return self._matrix(packed, address, weight_format, *weights.shape)

    def gated(
        self, gate: Floats, up: Floats, weight_format: WeightFormat, biases: Floats | None = None
    ) -> int:
        """Weights [inner, inputs] of gate and up; biases [2, inner]."""
        parts = interleaved(
            [quantize_rows(gate, weight_format)], [quantize_rows(up, weight_format)]
        )
        packed = np.concatenate([pack(part) for part in parts])
        inner = -(-len(gate) // 16) * 16
        address = None if biases is None else self.hold(interleaved_bias(*biases))
        return self._matrix(packed, address, weight_format, 2 * inner, gate.shape[1])

    def _matrix(
        self,
        packed: npt.NDArray[np.uint8],
        bias: int | None,
        weight_format: WeightFormat,
        outputs: int,
        inputs: int,
    ) -> int:
        number = WEIGHT_FORMATS.index(weight_format)
        data = self.hold(packed)
        self.matrices.append(abi.HwMatrix(data, bias, number, outputs, inputs))
        return len(self.matrices) - 1

    def op(self, kind: abi.HwKind, **fields: Any) -> None:
        """Appends an operation; fields that are not given are 0, and `out2` is -1."""
        self.ops.append(abi.HwOp(kind=kind, **{"out2": -1, **fields}))

    def rows(self, values: Floats) -> int:
        """Appends what puts `values` [tokens, width] into a buffer, and returns the buffer."""
        out = self.buffer(values.shape[1])
        table = self.matrix(values, "float32")
        self.op(abi.HwKind.EMBED, matrix=table, out=out, scale=1.0)
        return out

    def converted(self, rows: int, weight_format: WeightFormat) -> int:
        """Appends a conversion of a float32 buffer, and returns the new buffer."""
        out = self.buffer(self.buffers[rows].width, weight_format)
        self.op(abi.HwKind.CONVERT, in_=rows, out=out)
        return out

    def lm_head(self, rows: int) -> None:
        """Appends the LM head that a program ends with: of one output, for tests of the rest."""
        width = self.buffers[rows].width
        weight_format = WEIGHT_FORMATS[self.buffers[rows].format]
        packed = np.zeros((1, panel_bytes(weight_format, width)), np.uint8)
        matrix = self._matrix(packed, None, weight_format, 1, width)
        self.op(abi.HwKind.LM_HEAD, in_=rows, matrix=matrix)


class Program:
    """A recording made ready for one instruction set and pool; use `compiled` to get one."""

    def __init__(self, library: Library, handle: int, recording: Recording) -> None:
        self._library = library
        self._handle = handle
        self._recording = recording
        self._tokens = 0

    def run(self, tokens: Ints) -> None:
        """One step of one sequence, from its first position on, that asks for nothing."""
        table = np.zeros((1, -(-len(tokens) // BLOCK)), np.int64)
        self.step(tokens, np.zeros(1, np.int64), np.array([len(tokens)]), table)

    def step(self, tokens: Ints, starts: Ints, counts: Ints, tables: Ints) -> None:
        """One step of several sequences, as in `hw_step`, that asks for nothing."""
        has_nan = np.zeros(len(starts), np.uint8)
        tables = np.ascontiguousarray(tables)
        step = abi.HwStep(
            num_tokens=len(tokens),
            num_slices=len(starts),
            tokens=tokens.ctypes.data,
            starts=starts.ctypes.data,
            counts=counts.ctypes.data,
            block_tables=tables.ctypes.data,
            table_width=tables.shape[1],
            has_nan=has_nan.ctypes.data,
            all_rows=1,
        )
        assert self._library.hw_program_run(self._handle, step, None) == 0
        self._tokens = len(tokens)

    def read(self, buffer: int) -> Floats:
        """A buffer of the last step as float32 [tokens, width]."""
        out = np.full((self._tokens, self._recording.buffers[buffer].width), np.nan, np.float32)
        assert self._library.hw_program_read(self._handle, buffer, _pointer(out)) == 0
        return out

    def logits(self) -> Floats:
        """[tokens, vocabulary] of the last step."""
        head = self._recording.ops[-1]
        width = self._recording.matrices[head.matrix].n
        out = np.full((self._tokens, width), np.nan, np.float32)
        assert self._library.hw_program_logits(self._handle, _pointer(out)) == 0
        return out


@contextmanager
def compiled(
    recording: Recording, isa: str, threads: int = 1, cache: abi.HwCache | None = None
) -> Iterator[Program]:
    """The recording as a program with a pool of its own; `cache` gets memory of its own, too."""
    library = load()
    if cache is None:
        cache = abi.HwCache(num_layers=1, num_blocks=16, block_size=BLOCK, kv_heads=1, head_dim=32)
    memory = np.zeros(library.hw_cache_bytes(cache) + 64, np.uint8)
    cache.memory = memory.ctypes.data + -memory.ctypes.data % 64
    pool = library.hw_pool_create(threads, None)
    assert pool
    ops, matrices, buffers = recording.ops, recording.matrices, recording.buffers
    message = ctypes.create_string_buffer(200)
    handle = library.hw_program_create(
        pool,
        isa.encode(),
        (abi.HwOp * len(ops))(*ops),
        len(ops),
        (abi.HwMatrix * len(matrices))(*matrices),
        len(matrices),
        (abi.HwBuffer * len(buffers))(*buffers),
        len(buffers),
        cache,
        message,
        len(message),
    )
    try:
        if not handle:
            raise ValueError(message.value.decode())
        yield Program(library, handle, recording)
    finally:
        library.hw_program_destroy(handle)
        library.hw_pool_destroy(pool)


def product(rows: Floats, weights: Floats, weight_format: WeightFormat) -> tuple[Floats, Floats]:
    """What rows times quantized weights should be, and how far from it rounding may lead.

    Computed in float64 from the numbers that the weight format keeps of both.
    """
    x = seen(rows, weight_format).astype(np.float64)
    w = dequantize(quantize_rows(weights, weight_format), weights.shape[1]).astype(np.float64)
    # Each sum of n terms is off by some units in the last place of the sum of their sizes.
    return (x @ w.T).astype(np.float32), (2e-6 * np.abs(x) @ np.abs(w).T + 1e-30).astype(np.float32)


def seen(rows: Floats, weight_format: WeightFormat) -> Floats:
    """What a matrix of this weight format sees of float32 rows: rounded, and float32 again."""
    if weight_format == "float32":
        return rows
    if weight_format == "bfloat16":
        return dequantize(quantize_rows(rows, "bfloat16"), rows.shape[1])
    group = {"int8": 64, "int4": 32}[weight_format]
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % group)))
    groups = padded.reshape(len(rows), -1, group)
    highest = np.abs(groups).max(axis=2, keepdims=True)
    factor = np.where(highest > 1e-30, np.float32(127) / np.maximum(highest, 1e-30), 0)
    q = np.rint(groups * factor.astype(np.float32))
    values: Floats = (q * (highest / np.float32(127))).reshape(len(rows), -1)
    return values[:, : rows.shape[1]]


def _pointer(array: Floats) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
