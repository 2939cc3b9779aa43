"""Prepared folders for the native kernels: their tensors, bytes, weight formats and metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from safetensors.numpy import load_file

from headway.checkpoint import Storage, find, prepare
from headway.checkpoint.packing import (
    WEIGHT_FORMATS,
    PackedShape,
    WeightFormat,
    dequantize,
    quantize_rows,
    unpack,
)
from headway.checkpoint.safetensors import read_header
from headway.checkpoint.storage import STORAGES, native_storage, widen
from headway.errors import ModelError
from tests.checkpoint.test_gguf import HEADS, HIDDEN, INNER, KV_HEADS, SIZE, WORDS, write

MOE = {"expert_count": 3, "expert_used_count": 2, "expert_feed_forward_length": 32}


class Packed:
    """A native folder, its matrices unpacked when they are asked for."""

    def __init__(self, path: Path, weight_format: WeightFormat) -> None:
        self.prepared = prepare(str(path), dtype=native_storage(weight_format), progress=False)
        self.file = self.prepared.folder / "weights.safetensors"
        self.tensors = load_file(self.file)
        self.metadata, self.entries = read_header(self.file)

    def matrix(self, name: str) -> PackedShape:
        return PackedShape.parse(self.metadata[name])

    def weights(self, name: str) -> Any:
        """[outputs, inputs], or [experts, outputs, inputs]; padding rows are cut off."""
        what, raw = self.matrix(name), self.tensors[name]
        if raw.ndim == 3:
            return np.stack([self._rows(what, part) for part in raw])
        return self._rows(what, raw)

    def _rows(self, what: PackedShape, raw: Any) -> Any:
        assert raw.size == what.bytes
        return dequantize(unpack(raw, what.format, what.inputs), what.inputs)[: what.outputs]


def apart(rows: Any) -> Any:
    """Interleaved rows [2 n, k], n a multiple of 16, as gate rows, then up rows."""
    return rows.reshape(-1, 2, 16, rows.shape[1]).swapaxes(0, 1).reshape(rows.shape)


def rounded(values: Any, weight_format: WeightFormat) -> Any:
    """What remains of float32 rows in a weight format."""
    return dequantize(quantize_rows(np.ascontiguousarray(values), weight_format), values.shape[1])


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_every_matrix_is_packed_in_its_form(weight_format: WeightFormat, tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf", "qwen2")
    ours = Packed(tmp_path / "m.gguf", weight_format)
    qkv = np.concatenate([theirs[f"blk.0.attn_{part}.weight"] for part in "qkv"])
    np.testing.assert_array_equal(ours.weights("layers.0.qkv.weight"), rounded(qkv, weight_format))
    both = np.concatenate([theirs[f"blk.1.ffn_{part}.weight"] for part in ("gate", "up")])
    found = apart(ours.weights("layers.1.gate_up.weight"))
    np.testing.assert_array_equal(found, rounded(both, weight_format))
    down = theirs["blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(
        ours.weights("layers.1.down.weight"), rounded(down, weight_format)
    )
    table: WeightFormat = "int8" if weight_format == "int4" else weight_format
    embedding = rounded(theirs["token_embd.weight"], table)
    np.testing.assert_array_equal(ours.weights("embed.weight"), embedding)
    assert ours.matrix("embed.weight") == PackedShape(
        format=table, outputs=len(WORDS), inputs=HIDDEN
    )
    assert "head.weight" not in ours.tensors
    np.testing.assert_array_equal(ours.tensors["norm.weight"], theirs["output_norm.weight"])


def test_biases_are_padded_floats(tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf", "qwen2")
    ours = Packed(tmp_path / "m.gguf", "int8").tensors["layers.0.qkv.bias"]
    bias = np.concatenate([theirs[f"blk.0.attn_{part}.bias"] for part in "qkv"])
    assert ours.dtype == np.float32
    assert ours.shape == (128,)
    np.testing.assert_array_equal(ours[: len(bias)], bias)
    assert not ours[len(bias) :].any()


def test_gate_and_up_biases_follow_their_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    extra: dict[str, Any] = {}
    for layer in range(2):
        for part, count in (("gate", INNER), ("up", INNER), ("down", HIDDEN)):
            values = random.standard_normal(count).astype(np.float32)
            extra[f"blk.{layer}.ffn_{part}.bias"] = values
    write(tmp_path / "m.gguf", extra=extra)
    ours = Packed(tmp_path / "m.gguf", "bfloat16").tensors
    found = ours["layers.1.gate_up.bias"].reshape(-1, 2, 16)
    np.testing.assert_array_equal(found[:, 0].reshape(-1), extra["blk.1.ffn_gate.bias"])
    np.testing.assert_array_equal(found[:, 1].reshape(-1), extra["blk.1.ffn_up.bias"])
    np.testing.assert_array_equal(ours["layers.1.down.bias"], extra["blk.1.ffn_down.bias"])


@pytest.mark.parametrize("weight_format", WEIGHT_FORMATS)
def test_experts_are_packed_one_by_one_and_routers_stay_exact(
    weight_format: WeightFormat, tmp_path: Path
) -> None:
    theirs = write(tmp_path / "m.gguf", "qwen3moe", keys=MOE)
    ours = Packed(tmp_path / "m.gguf", weight_format)
    assert ours.matrix("layers.0.router.weight").format == "float32"
    router = ours.weights("layers.0.router.weight")
    np.testing.assert_array_equal(router, theirs["blk.0.ffn_gate_inp.weight"])
    assert ours.matrix("layers.1.experts.gate_up.weight").outputs == 64
    gate_up = ours.weights("layers.1.experts.gate_up.weight")
    down = ours.weights("layers.1.experts.down.weight")
    for expert in range(3):
        parts = [theirs[f"blk.1.ffn_{part}_exps.weight"][expert] for part in ("gate", "up")]
        np.testing.assert_array_equal(
            apart(gate_up[expert]), rounded(np.concatenate(parts), weight_format)
        )
        kept = rounded(theirs["blk.1.ffn_down_exps.weight"][expert], weight_format)
        np.testing.assert_array_equal(down[expert], kept)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1])
def test_four_bit_files_are_kept_exactly(kind: Kind, tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf", kind=kind)
    ours = Packed(tmp_path / "m.gguf", "int4")
    plain = load_file(
        prepare(str(tmp_path / "m.gguf"), dtype="float32", progress=False).folder
        / "weights.safetensors"
    )
    for name in ("layers.0.qkv.weight", "layers.1.down.weight", "embed.weight"):
        assert ours.matrix(name).format == "int4"
        np.testing.assert_array_equal(ours.weights(name), plain[name])
    exact = gguf.quants.dequantize(gguf.quants.quantize(theirs["blk.0.ffn_up.weight"], kind), kind)
    found = apart(ours.weights("layers.0.gate_up.weight"))[INNER:]
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Kind.F16, "int4"), (Kind.Q8_0, "int8"), (Kind.Q5_0, "int8"), (Kind.Q5_1, "int8")],
)
def test_what_was_rounded_already_is_not_rounded_to_four_bits(
    kind: Kind, expected: WeightFormat, tmp_path: Path
) -> None:
    write(tmp_path / "m.gguf", kind=kind)
    ours = Packed(tmp_path / "m.gguf", "int4")
    assert ours.matrix("layers.0.output.weight").format == expected
    assert ours.matrix("embed.weight").format == "int8"


def test_inputs_of_no_whole_groups_get_eight_bits(tmp_path: Path) -> None:
    inner = 40
    random = np.random.default_rng(6)
    extra = {
        f"blk.{layer}.ffn_{part}.weight": random.standard_normal(
            (HIDDEN, inner) if part == "down" else (inner, HIDDEN)
        ).astype(np.float32)
        for layer in range(2)
        for part in ("gate", "up", "down")
    }
    write(tmp_path / "m.gguf", extra=extra, keys={"feed_forward_length": inner})
    ours = Packed(tmp_path / "m.gguf", "int4")
    assert str(ours.matrix("layers.0.gate_up.weight")) == f"int4 {2 * inner} {HIDDEN}"
    assert str(ours.matrix("layers.0.down.weight")) == f"int8 {HIDDEN} {inner}"


def test_matrices_lie_at_multiples_of_64_bytes(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "qwen3")
    ours = Packed(tmp_path / "m.gguf", "int4")
    size = int.from_bytes(ours.file.read_bytes()[:8], "little")
    starts = [
        entry["data_offsets"][0] for name, entry in ours.entries.items() if name in ours.metadata
    ]
    assert len(starts) == 9
    assert all((8 + size + start) % 64 == 0 for start in starts)


def test_a_folder_says_how_it_is_stored(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    source = find(str(tmp_path / "m.gguf"))
    folders: dict[Path, Storage] = {}
    for storage in STORAGES:
        found = prepare(source, dtype=storage, progress=False)
        assert found.storage == storage
        assert storage in found.folder.name
        folders[found.folder] = storage
    assert len(folders) == 7
    (found.folder / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelError, match="stored in an unknown way"):
        _ = found.storage
    (found.folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="damaged"):
        _ = found.storage


@pytest.mark.parametrize("weight_format", ["int8", "int4"])
def test_weights_that_are_no_numbers_are_refused(
    weight_format: WeightFormat, tmp_path: Path
) -> None:
    bad = np.ones((HIDDEN, INNER), np.float32)
    bad[3, 5] = np.nan
    write(tmp_path / "m.gguf", extra={"blk.1.ffn_down.weight": bad})
    with pytest.raises(ModelError, match=r"blk.1.ffn_down.weight holds weights"):
        Packed(tmp_path / "m.gguf", weight_format)
    assert np.isnan(Packed(tmp_path / "m.gguf", "bfloat16").weights("layers.1.down.weight")[3, 5])


def test_weights_too_large_for_four_bits_are_named(tmp_path: Path) -> None:
    large = np.full((HIDDEN, INNER), 1e5, np.float32)
    write(tmp_path / "m.gguf", extra={"blk.1.ffn_down.weight": large})
    with pytest.raises(ModelError, match="beyond 32,768"):
        Packed(tmp_path / "m.gguf", "int4")


def test_llamas_rotary_rows_are_put_in_order(tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf", kind=Kind.Q4_1)["blk.0.attn_k.weight"]
    exact = gguf.quants.dequantize(gguf.quants.quantize(theirs, Kind.Q4_1), Kind.Q4_1)
    keys = Packed(tmp_path / "m.gguf", "int4").weights("layers.0.qkv.weight")
    keys = keys[HEADS * SIZE :][: KV_HEADS * SIZE]
    # In a head of 16, rows 2 and 3 of the file are the first and second half's row 1.
    np.testing.assert_array_equal(keys[[1, 9]], exact[[2, 3]])


def test_bfloat16_is_rounded_to_nearest(tmp_path: Path) -> None:
    theirs = write(tmp_path / "m.gguf")["blk.0.ffn_down.weight"]
    found = Packed(tmp_path / "m.gguf", "bfloat16").weights("layers.0.down.weight")
    below = widen((theirs.view(np.uint32) >> 16).astype(np.uint16))
    assert (np.abs(found - theirs) <= np.abs(below - theirs)).all()


def test_metadata_is_readable_by_anybody(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    raw = Packed(tmp_path / "m.gguf", "int8").file.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"]["storage"] == "native-int8"
    assert header["__metadata__"]["layers.0.down.weight"] == f"int8 {HIDDEN} {INNER}"
    assert header["layers.0.down.weight"]["dtype"] == "U8"
