"""Panels byte by byte as native/headway.h has them, and what each weight format keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.checkpoint.packing import (
    PANEL_ROWS,
    WEIGHT_FORMATS,
    FourBitBlocks,
    PackedShape,
    WeightFormat,
    dequantize,
    interleaved,
    interleaved_bias,
    keep_blocks,
    pack,
    packed_bias,
    padded,
    panel_bytes,
    quantize_rows,
    stacked,
    stacked_bias,
    unpack,
)
from headway.checkpoint.storage import widen
from headway.errors import ModelError

SIZES = st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 130])
GROUPS_OF_32 = st.sampled_from([32, 64, 96, 160])


def random_rows(rows: int, inputs: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return (random.standard_normal((rows, inputs)) * random.uniform(0, 3)).astype(np.float32)


def random_blocks(rows: int, inputs: int, seed: int = 0) -> FourBitBlocks:
    random = np.random.default_rng(seed)
    return FourBitBlocks(
        q=random.integers(0, 16, (rows, inputs), dtype=np.uint8),
        scale=random.standard_normal((rows, inputs // 32)).astype(np.float16),
        minimum=random.standard_normal((rows, inputs // 32)).astype(np.float16),
    )


def packed_rows(values: Any, weight_format: WeightFormat) -> Any:
    """One matrix packed in one go: uint8 [panels, panel bytes]."""
    return np.concatenate(
        [pack(part) for part in stacked([[quantize_rows(values, weight_format)]])]
    )


def weights_in(packed: Any, weight_format: WeightFormat, inputs: int) -> Any:
    return dequantize(unpack(packed, weight_format, inputs), inputs)


@given(rows=SIZES, inputs=SIZES, weight_format=st.sampled_from(["float32", "bfloat16"]))
@settings(deadline=None)
def test_plain_forms_come_back_exactly(rows: int, inputs: int, weight_format: WeightFormat) -> None:
    values = random_rows(rows, inputs)
    if weight_format == "bfloat16":
        values = widen((values.view(np.uint32) >> 16).astype(np.uint16))
    packed = packed_rows(values, weight_format)
    assert packed.shape == (-(-rows // 32), panel_bytes(weight_format, inputs))
    assert packed.size == PackedShape(format=weight_format, outputs=rows, inputs=inputs).bytes
    found = weights_in(packed, weight_format, inputs)
    np.testing.assert_array_equal(found[:rows], values)
    assert not found[rows:].any()


@given(rows=SIZES, inputs=SIZES, seed=st.integers(0, 99))
@settings(deadline=None)
def test_int8_errs_by_half_a_step_at_most(rows: int, inputs: int, seed: int) -> None:
    values = random_rows(rows, inputs, seed)
    found = weights_in(packed_rows(values, "int8"), "int8", inputs)
    for start in range(0, inputs, 64):
        part = values[:, start : start + 64]
        largest = np.abs(part).max(axis=1, keepdims=True)
        # A bfloat16 rounded up is at most 1/128 too large.
        step = largest / 127 * (1 + 1 / 128)
        assert (np.abs(found[:rows, start : start + 64] - part) <= 0.501 * step).all()
    assert not found[rows:].any()


@given(st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=64))
@settings(deadline=None)
def test_the_scale_of_int8_reaches_the_largest_weight(weights: list[float]) -> None:
    values = np.array([weights], np.float32)
    code = quantize_rows(values, "int8").parts[1]
    largest = float(values.max())
    assert 127 * float(widen(code)[0, 0]) >= largest
    # The next smaller bfloat16 would not have been enough.
    assert code[0, 0] == 0 or 127 * float(widen(code - np.uint16(1))[0, 0]) < largest


@given(rows=SIZES, inputs=GROUPS_OF_32, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_int4_is_no_worse_than_the_whole_range(rows: int, inputs: int, seed: int) -> None:
    values = random_rows(rows, inputs, seed)
    found = weights_in(packed_rows(values, "int4"), "int4", inputs)
    groups = values.reshape(rows, -1, 32)
    low, high = groups.min(2, keepdims=True), groups.max(2, keepdims=True)
    scale = ((high - low) / 15).astype(np.float16).astype(np.float32)
    least = low.astype(np.float16).astype(np.float32)
    q = np.clip(np.rint((groups - least) / np.where(scale == 0, 1, scale)), 0, 15)
    plain = ((q * scale + least - groups) ** 2).sum(2)
    ours = ((found[:rows] - values).reshape(rows, -1, 32) ** 2).sum(2)
    assert (ours <= plain * 1.001 + 1e-12).all()
    assert not found[rows:].any()


def test_int4_errs_clearly_less_than_the_whole_range() -> None:
    values = random_rows(64, 1024, 3)
    error = ((weights_in(packed_rows(values, "int4"), "int4", 1024) - values) ** 2).mean()
    assert error < 0.0053 * (values**2).mean()  # the whole range gives 0.0061


@given(rows=SIZES, inputs=GROUPS_OF_32, seed=st.integers(0, 99))
@settings(deadline=None)
def test_blocks_are_kept_exactly(rows: int, inputs: int, seed: int) -> None:
    blocks = random_blocks(rows, inputs, seed)
    packed = np.concatenate([pack(part) for part in stacked([[keep_blocks(blocks)]])])
    q, scale, minimum = unpack(packed, "int4", inputs).parts
    groups = inputs // 32
    np.testing.assert_array_equal(q[:rows, :inputs], blocks.q)
    np.testing.assert_array_equal(scale[:rows, :groups], blocks.scale)
    np.testing.assert_array_equal(minimum[:rows, :groups], blocks.minimum)
    for part, kept in ((q, inputs), (scale, groups), (minimum, groups)):
        assert not part[rows:].any()
        assert not part[:, kept:].any()


def test_bytes_of_every_weight_format_lie_where_the_header_says() -> None:
    values = random_rows(70, 130, 1)
    k, n = 101, 45  # group 1 of int8; panel 1, output 13
    weight = packed_rows(values, "float32")[1].view(np.float32).reshape(-1, 32)
    assert weight[k, n - 32] == values[n, k]
    half = packed_rows(values, "bfloat16")[1].view(np.uint16).reshape(-1, 32, 2)
    assert abs(widen(half[k // 2, n - 32, k % 2]) - values[n, k]) <= abs(values[n, k]) / 256
    group = packed_rows(values, "int8")[1].reshape(-1, 2112)[k // 64]
    byte = int(group[:2048].reshape(16, 32, 4)[k % 64 // 4, n - 32, k % 4])
    scale = widen(group[2048:].view(np.uint16))[n - 32]
    assert scale * (byte - 128) == dequantize(quantize_rows(values, "int8"), 130)[n, k]


def test_nibbles_lie_where_the_header_says() -> None:
    blocks = random_blocks(64, 96, 2)
    packed = pack(keep_blocks(blocks))
    for k, n in ((0, 32), (37, 45), (63, 51), (95, 63)):
        group = packed[1].reshape(-1, 640)[k // 32]
        inner = n - 32
        byte = int(group[:512].reshape(8, 64)[k % 32 // 4, inner % 16 * 4 + k % 4])
        assert (byte >> 4 if inner >= 16 else byte & 15) == blocks.q[n, k]
        scales = group[512:].view(np.float16)
        assert scales[inner] == blocks.scale[n, k // 32]
        assert scales[32 + inner] == blocks.minimum[n, k // 32]


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_paddings_are_zero_weights(weight_format: WeightFormat) -> None:
    packed = packed_rows(random_rows(33, 96), weight_format)
    found = dequantize(unpack(packed, weight_format, 96), padded(96))
    assert not found[:, 96:].any()
    assert not found[33:].any()
    if weight_format == "int8":
        assert (packed[1].reshape(-1, 2112)[:, :2048].reshape(-1, 32, 4)[:, 1:] == 128).all()
    nothing = packed_rows(np.zeros((32, 96), np.float32), weight_format)
    assert set(np.unique(nothing)) == ({0, 128} if weight_format == "int8" else {0})


@given(inner=SIZES, weight_format=st.sampled_from(WEIGHT_FORMATS), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_gate_and_up_are_interleaved(inner: int, weight_format: WeightFormat, seed: int) -> None:
    gate, up = random_rows(inner, 64, seed), random_rows(inner, 64, seed + 1)
    cut = inner // 3
    streams = [
        [quantize_rows(part, weight_format) for part in (values[:cut], values[cut:]) if len(part)]
        for values in (gate, up)
    ]
    packed = np.concatenate([pack(part) for part in interleaved(*streams)])
    assert (
        len(packed)
        == -(-inner // 16)
        == PackedShape(format=weight_format, outputs=2 * inner, inputs=64).panels
    )
    found = weights_in(packed, weight_format, 64).reshape(-1, 2, 16, 64)
    expected = [dequantize(quantize_rows(values, weight_format), 64) for values in (gate, up)]
    for place, values in enumerate(expected):
        rows = found[:, place].reshape(-1, 64)
        np.testing.assert_array_equal(rows[:inner], values)
        assert not rows[inner:].any()


@given(inner=SIZES)
def test_biases_follow_their_rows(inner: int) -> None:
    gate, up = (random_rows(1, inner, seed)[0] for seed in (1, 2))
    found = interleaved_bias(gate, up).reshape(-1, 2, 16)
    np.testing.assert_array_equal(found[:, 0].reshape(-1)[:inner], gate)
    np.testing.assert_array_equal(found[:, 1].reshape(-1)[:inner], up)
    assert found.size == packed_bias(2 * inner)
    both = stacked_bias([gate, up])
    np.testing.assert_array_equal(both[: 2 * inner], np.concatenate((gate, up)))
    assert len(both) == packed_bias(2 * inner)
    assert not both[2 * inner :].any()


@given(
    counts=st.lists(st.integers(0, 700), min_size=1, max_size=5).filter(any),
    weight_format=st.sampled_from(WEIGHT_FORMATS),
)
@settings(deadline=None, max_examples=25)
def test_chunks_of_any_size_give_the_same_panels(
    counts: list[int], weight_format: WeightFormat
) -> None:
    values = random_rows(sum(counts), 32)
    whole = packed_rows(values, weight_format)
    chunks = np.split(values, np.cumsum(counts)[:-1])
    stream = [quantize_rows(chunk, weight_format) for chunk in chunks if len(chunk)]
    parts = [pack(part) for part in stacked([stream[:1], stream[1:]])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert all(len(part) * PANEL_ROWS <= 512 for part in parts)


@given(
    seed=st.integers(0, 10_000),
    size=st.sampled_from([0.0, 1e-45, 1e-38, 1e-7, 1.0, 32768.0]),
    weight_format=st.sampled_from(WEIGHT_FORMATS),
)
@settings(deadline=None)
def test_extreme_weights_stay_finite(seed: int, size: float, weight_format: WeightFormat) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((4, 64)) * size * random.choice([1e-3, 1.0], (4, 64))
    values[random.random((4, 64)) < 0.05] = size
    values = np.clip(values, -32768, 32768).astype(np.float32)
    found = dequantize(quantize_rows(values, weight_format), 64)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 2 * np.abs(values).max()).all()


def test_what_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="whole groups"):
        quantize_rows(random_rows(4, 40), "int4")
    with pytest.raises(ValueError, match="beyond"):
        quantize_rows(np.full((1, 32), 4e4, np.float32), "int4")
    with pytest.raises(ValueError, match="whole panels"):
        pack(quantize_rows(random_rows(31, 32), "int8"))
    with pytest.raises(ValueError, match="no int8 panels"):
        unpack(np.zeros((1, 100), np.uint8), "int8", 64)


def test_a_matrix_describes_itself() -> None:
    matrix = PackedShape(format="int4", outputs=960, inputs=576)
    assert str(matrix) == "int4 960 576"
    assert PackedShape.parse(str(matrix)) == matrix
    assert matrix.bytes == 30 * 18 * 640
    for text in ("", "int4 960", "int3 960 576", "int4 -1 5", "int4 1 2 3"):
        with pytest.raises(ModelError):
            PackedShape.parse(text)
