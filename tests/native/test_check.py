"""Programs whose parts do not fit together are refused, with the operation and what is wrong."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from headway.native import abi, available
from tests.native.programs import Recording, compiled

pytestmark = pytest.mark.skipif(not available(), reason="the native library is not built")

WIDTH, HEAD, HEADS, INNER, EXPERTS = 32, 32, 2, 96, 4
FLOAT32, INT8 = abi.HwWeightFormat.FLOAT32, abi.HwWeightFormat.INT8
# The operations of `whole`, by number.
EMBED, NORM, QKV, ROPE, ATTENTION, CONVERT, ADD, GATE, ROUTER, MIXTURE, LM_HEAD = range(11)
# Its buffers, by number; the comments say width and format.
X, NORMED, PLAIN, FUSED, QUERIES, ATTENDED, PACKED, GATED, LOGITS = range(9)
# Its matrices, by number.
TABLE, QKV_M, OUTPUT_M, GATE_UP_M, ROUTER_M, UP_M = range(6)
DOWN_M = UP_M + EXPERTS
HEAD_M = DOWN_M + EXPERTS


def whole() -> Recording:
    """A program in which every operation occurs, and all fits."""
    rec, kind = Recording(), abi.HwKind
    weight = rec.hold(np.ones(WIDTH, np.float32))
    table = rec.hold(np.ones(1024, np.float32))
    shape = {"layer": 1, "heads": HEADS, "kv_heads": 1, "head_dim": HEAD}
    x = rec.rows(np.zeros((4, WIDTH), np.float32))
    normed, plain = rec.buffer(WIDTH, "int8"), rec.buffer(WIDTH)
    rec.op(kind.NORM, in_=x, out=normed, out2=plain, weight=weight)
    fused = rec.buffer((HEADS + 2) * HEAD)
    rec.op(kind.LINEAR, in_=normed, out=fused, matrix=matrix(rec, (HEADS + 2) * HEAD, WIDTH))
    queries, attended = rec.buffer(HEADS * HEAD), rec.buffer(HEADS * HEAD)
    rec.op(kind.ROPE, in_=fused, out=queries, cos=table, sin=table, **shape)
    rec.op(kind.ATTENTION, in_=queries, out=attended, **shape)
    packed = rec.converted(attended, "int8")
    add = {"matrix": matrix(rec, WIDTH, HEADS * HEAD), "epilogue": abi.Epilogue.ADD}
    rec.op(kind.LINEAR, in_=packed, out=x, **add)
    gated = rec.buffer(INNER)
    half = np.zeros((INNER, WIDTH), np.float32)
    gate = {"matrix": rec.gated(half, half, "int8"), "epilogue": abi.Epilogue.GATE}
    rec.op(kind.LINEAR, in_=normed, out=gated, **gate)
    logits = rec.buffer(EXPERTS)
    rec.op(kind.LINEAR, in_=normed, out=logits, matrix=matrix(rec, EXPERTS, WIDTH))
    ups = [rec.gated(half, half, "int8") for _ in range(EXPERTS)]
    downs = [matrix(rec, WIDTH, INNER) for _ in range(EXPERTS)]
    experts = {"matrix": ups[0], "matrix2": downs[0], "num_experts": EXPERTS, "top_k": 2}
    rec.op(kind.EXPERTS, in_=plain, in2=logits, out=x, **experts)
    rec.op(kind.LM_HEAD, in_=normed, matrix=matrix(rec, 5, WIDTH))
    return rec


def matrix(recording: Recording, outputs: int, inputs: int) -> int:
    return recording.matrix(np.zeros((outputs, inputs), np.float32), "int8")


def cache() -> abi.HwCache:
    return abi.HwCache(num_layers=2, num_blocks=4, block_size=32, kv_heads=1, head_dim=HEAD)


def refused(recording: Recording, memory: abi.HwCache, message: str) -> None:
    """Checks that the program is refused, and that exactly this is said."""
    exactly = f"^{re.escape(message)}$"
    with pytest.raises(ValueError, match=exactly), compiled(recording, "portable", 1, memory):
        pass


def test_what_fits_is_accepted() -> None:
    with compiled(whole(), "portable", 1, cache()):
        pass


# Each: number of the operation, changed fields, what is said.
OPERATIONS: list[tuple[int, dict[str, Any], str]] = [
    (EMBED, {"kind": 99}, "of no known kind"),
    (EMBED, {"kind": -1}, "of no known kind"),
    (EMBED, {"kind": abi.HwKind.LM_HEAD, "in_": NORMED, "matrix": HEAD_M}, "a head before the end"),
    (EMBED, {"out": -1}, "no such buffer"),
    (EMBED, {"out": 9}, "no such buffer"),
    (EMBED, {"matrix": -1}, "no such matrix"),
    (EMBED, {"matrix": HEAD_M + 1}, "no such matrix"),
    (EMBED, {"out": NORMED}, "the buffer is not float32"),
    (EMBED, {"out": FUSED}, "widths differ"),
    (NORM, {"weight": None}, "a norm without weights"),
    (NORM, {"in_": NORMED}, "the buffer is not float32"),
    (NORM, {"in_": FUSED, "out2": -1}, "widths differ"),
    (NORM, {"out2": FUSED}, "widths differ"),
    (NORM, {"out2": NORMED}, "the buffer is not float32"),
    (NORM, {"epilogue": abi.Epilogue.ADD}, "adding needs a float32 output"),
    (NORM, {"epilogue": abi.Epilogue.GATE, "out": PLAIN}, "adding needs a float32 output"),
    (QKV, {"in_": X}, "the rows' format is not the matrix's"),
    (QKV, {"in_": PACKED}, "the rows' width is not the matrix's"),
    (QKV, {"epilogue": 3}, "of no known epilogue"),
    (QKV, {"epilogue": -1}, "of no known epilogue"),
    (QKV, {"out": X}, "the output's width is not the matrix's"),
    (QKV, {"out": PACKED}, "the buffer is not float32"),
    (ROPE, {"heads": 0}, "its heads are not the cache's"),
    (ROPE, {"head_dim": 16}, "its heads are not the cache's"),
    (ROPE, {"kv_heads": 2}, "its heads are not the cache's"),
    (ROPE, {"layer": -1}, "no such layer in the cache"),
    (ROPE, {"layer": 2}, "no such layer in the cache"),
    (ROPE, {"out": X}, "the output does not hold its heads"),
    (ROPE, {"in_": QUERIES}, "the input does not hold its heads"),
    (ROPE, {"in_": NORMED}, "the buffer is not float32"),
    (ROPE, {"cos": None}, "no rotary tables"),
    (ROPE, {"sin": None}, "no rotary tables"),
    (ROPE, {"weight": 64}, "one norm of two"),
    (ROPE, {"weight2": 64}, "one norm of two"),
    (ATTENTION, {"layer": 2}, "no such layer in the cache"),
    (ATTENTION, {"in_": FUSED}, "the input does not hold its heads"),
    (ATTENTION, {"out": X}, "the output does not hold its heads"),
    (CONVERT, {"out": NORMED}, "widths differ"),
    (CONVERT, {"out": ATTENDED}, "a conversion in place"),
    (CONVERT, {"in_": PACKED}, "the buffer is not float32"),
    (GATE, {"out": LOGITS}, "too narrow"),
    (GATE, {"out": NORMED}, "a product in place"),
    (MIXTURE, {"num_experts": 0}, "no such experts"),
    (MIXTURE, {"top_k": 0}, "no such experts"),
    (MIXTURE, {"top_k": EXPERTS + 1}, "no such experts"),
    (MIXTURE, {"num_experts": 2}, "the router's logits are not one for each expert"),
    (MIXTURE, {"in2": NORMED}, "the buffer is not float32"),
    (MIXTURE, {"matrix2": DOWN_M + 1}, "its experts differ in shape"),
    (MIXTURE, {"in_": QUERIES}, "widths differ"),
    (MIXTURE, {"out": QUERIES}, "widths differ"),
    (MIXTURE, {"in_": NORMED}, "the buffer is not float32"),
    (LM_HEAD, {"in_": PLAIN}, "the rows' format is not the matrix's"),
    (LM_HEAD, {"in_": PACKED}, "widths differ"),
]


@pytest.mark.parametrize(("number", "changes", "message"), OPERATIONS)
def test_an_operation_that_does_not_fit_is_named(
    number: int, changes: dict[str, Any], message: str
) -> None:
    recording = whole()
    for field, value in changes.items():
        setattr(recording.ops[number], field, value)
    refused(recording, cache(), f"operation {number}: {message}")


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (UP_M + 1, {"format": FLOAT32}),
        (UP_M + 2, {"n": INNER}),
        (UP_M + 3, {"k": WIDTH * 2}),
        (DOWN_M + 1, {"format": FLOAT32}),
        (DOWN_M + 2, {"n": INNER * 2}),
        (DOWN_M + 3, {"k": WIDTH * 2}),
    ],
)
def test_experts_of_one_mixture_have_one_shape(number: int, changes: dict[str, Any]) -> None:
    recording = whole()
    for field, value in changes.items():
        setattr(recording.matrices[number], field, value)
    refused(recording, cache(), f"operation {MIXTURE}: its experts differ in shape")


def test_what_experts_gate_must_fit_what_they_put_out() -> None:
    recording = whole()
    for number in range(EXPERTS):
        recording.matrices[UP_M + number].n = 8 * INNER
    refused(recording, cache(), f"operation {MIXTURE}: widths differ")


@pytest.mark.parametrize(
    "changes", [{"data": None}, {"n": 0}, {"k": 0}, {"format": 4}, {"format": -1}]
)
def test_an_empty_matrix_is_refused(changes: dict[str, Any]) -> None:
    recording = whole()
    for field, value in changes.items():
        setattr(recording.matrices[HEAD_M], field, value)
    refused(recording, cache(), "a matrix is empty or of no known format")


@pytest.mark.parametrize("changes", [{"width": 0}, {"width": -1}, {"format": 4}, {"format": -1}])
def test_an_empty_buffer_is_refused(changes: dict[str, Any]) -> None:
    recording = whole()
    for field, value in changes.items():
        setattr(recording.buffers[LOGITS], field, value)
    refused(recording, cache(), "a buffer is empty")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": 9}, "unknown cache kind"),
        ({"block_size": 24}, "block size must be 16, 32, 64 or 128"),
        ({"head_dim": 31}, "head size must be even and at most 1024"),
        ({"num_layers": 0}, "cache without layers, blocks or heads"),
    ],
)
def test_a_cache_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    memory = cache()
    for field, value in changes.items():
        setattr(memory, field, value)
    refused(whole(), memory, message)


def test_heads_that_no_kv_head_shares_evenly_are_refused() -> None:
    recording, memory = whole(), cache()
    memory.kv_heads = 2
    for number in (ROPE, ATTENTION):
        recording.ops[number].heads, recording.ops[number].kv_heads = 3, 2
    refused(recording, memory, f"operation {ROPE}: its heads are not the cache's")


def test_more_heads_than_the_kernels_take_for_one_are_refused() -> None:
    recording, memory, heads = whole(), cache(), 97
    memory.head_dim = 2
    for number in (ROPE, ATTENTION):
        recording.ops[number].heads, recording.ops[number].head_dim = heads, 2
    recording.buffers[QUERIES].width = heads * 2
    message = f"operation {ROPE}: more than 96 heads to a kv head"
    refused(recording, memory, message)


def test_a_program_ends_with_its_head() -> None:
    recording = whole()
    recording.ops.pop()
    refused(recording, cache(), "the last operation is no head")
    recording.ops.clear()
    refused(recording, cache(), "the last operation is no head")
