"""Packed weights where they lie in a file: addresses, sharing, and every way to be damaged."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.checkpoint.packing import PackedShape, pack, quantize_rows, stacked
from headway.checkpoint.safetensors import TensorEntry, write_container
from headway.errors import ModelError
from headway.native.abi import HwWeightFormat
from headway.ops.native import NativeWeights, address

Array = np.ndarray[Any, Any]


def randn(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def packed(values: Array) -> Array:
    return np.concatenate([pack(part) for part in stacked([[quantize_rows(values, "int8")]])])


def write(path: Path, tensors: Mapping[str, Array], described: Mapping[str, str]) -> Path:
    names = {"uint8": "U8", "float32": "F32"}
    entries = [
        TensorEntry(
            name=name,
            dtype=names[array.dtype.name],
            shape=array.shape,
            bytes=array.nbytes,
            chunks=partial(list, (array,)),
        )
        for name, array in tensors.items()
    ]
    write_container(path, entries, described, lambda _: None)
    return path


DESCRIPTION = str(PackedShape(format="int8", outputs=40, inputs=100))


def test_handles_lead_to_the_bytes_of_the_file(tmp_path: Path) -> None:
    first, second, third = packed(randn(40, 100)), packed(randn(40, 100) + 1), randn(7)
    tensors: dict[str, Array] = {
        "embed.weight": first,
        "experts.weight": np.stack((first, second)),
        "norm.weight": third,
    }
    described = {"embed.weight": DESCRIPTION, "experts.weight": DESCRIPTION}
    weights = NativeWeights(write(tmp_path / "w", tensors, described))
    table, matrix = weights.table("embed"), weights.matrix("embed")
    assert (table.index, table.width) == (matrix.index, 100)
    assert (matrix.outputs, matrix.inputs) == (40, 100)
    stack = weights.stack("experts")
    assert [each.index for each in stack] == [1, 2]
    for index, expected in ((0, first), (1, first), (2, second)):
        found = weights.matrices[index]
        assert found.format is HwWeightFormat.INT8
        assert found.data % 64 == 0
        assert ctypes.string_at(found.data, expected.nbytes) == expected.tobytes()
    vector = weights.vector("norm")
    assert vector.size == 7
    assert weights.vectors[vector.index].tolist() == third.tolist()


def test_a_bias_lies_beside_its_matrix(tmp_path: Path) -> None:
    bias = np.arange(64, dtype=np.float32)
    tensors = {"m.weight": packed(randn(40, 100)), "m.bias": bias}
    weights = NativeWeights(write(tmp_path / "w", tensors, {"m.weight": DESCRIPTION}))
    place = weights.matrices[weights.matrix("m", bias=True).index].bias
    assert place is not None
    assert ctypes.string_at(place, bias.nbytes) == bias.tobytes()


def test_ropes_are_kept(tmp_path: Path) -> None:
    weights = NativeWeights(write(tmp_path / "w", {"norm.weight": randn(4)}, {}))
    cos = randn(8, 4)[:, ::2]
    assert not cos.flags.c_contiguous
    rope = weights.rope(cos, cos + 1)
    kept = weights.ropes[rope.index]
    assert all(table.flags.c_contiguous and address(table) for table in kept)
    assert kept[1].tolist() == (cos + 1).tolist()


DAMAGE: dict[str, tuple[dict[str, Array], dict[str, str], str]] = {
    "no description": ({"m.weight": packed(randn(40, 100))}, {}, "missing"),
    "bad description": (
        {"m.weight": packed(randn(40, 100))},
        {"m.weight": "int9 40 100"},
        "int9",
    ),
    "no tensor": ({"n.weight": packed(randn(40, 100))}, {"m.weight": DESCRIPTION}, "missing"),
    "other shape": ({"m.weight": packed(randn(65, 100))}, {"m.weight": DESCRIPTION}, "U8"),
    "other type": ({"m.weight": randn(2, 2112)}, {"m.weight": DESCRIPTION}, "U8"),
    "not aligned": (
        {"a": randn(1), "m.weight": packed(randn(40, 100))},
        {"m.weight": DESCRIPTION},
        "aligned",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    tensors, described, words = DAMAGE[damage]
    weights = NativeWeights(write(tmp_path / "w", tensors, described))
    with pytest.raises(ModelError, match=words):
        weights.matrix("m")


def test_a_file_cut_short_is_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path / "w", {"m.weight": packed(randn(40, 100))}, {"m.weight": DESCRIPTION})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="U8"):
        NativeWeights(path).matrix("m")
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="safetensors"):
        NativeWeights(path)
