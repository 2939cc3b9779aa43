"""The file of weights: what is written comes back, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from headway.checkpoint.safetensors import ALIGNMENT, TensorEntry, read_header, write_container
from headway.errors import ModelError

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def entry(name: str, **changes: object) -> TensorEntry:
    fields = {
        "name": name,
        "dtype": "F32",
        "shape": (3, 4),
        "bytes": 48,
        "chunks": lambda: iter((VALUES[:1], VALUES[1:])),
        **changes,
    }
    return TensorEntry(**fields)  # type: ignore[arg-type]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "w"
    told: list[int] = []
    write_container(path, [entry("a"), entry("b")], {"key": "text"}, told.append)
    assert told == [16, 32, 16, 32]
    metadata, entries = read_header(path)
    assert metadata == {"format": "headway", "key": "text"}
    assert entries["b"] == {"dtype": "F32", "shape": [3, 4], "data_offsets": [48, 96]}
    assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % ALIGNMENT == 0
    with safe_open(path, framework="np") as theirs:
        np.testing.assert_array_equal(theirs.get_tensor("b"), VALUES)
        assert theirs.metadata() == metadata


def test_a_tensor_of_another_size_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="b came out with a wrong size"):
        write_container(tmp_path / "w", [entry("a"), entry("b", bytes=52)], {}, lambda _: None)


def raw(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


GOOD = {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x10\0\0\0\0\0\0\0{",
        b"\xff" * 20,
        raw([]),
        raw({"a": 3}),
        raw({"a": {**GOOD, "dtype": 7}}),
        raw({"a": {**GOOD, "shape": [3, -4]}}),
        raw({"a": {**GOOD, "shape": 12}}),
        raw({"a": {**GOOD, "data_offsets": [0]}}),
        raw({"a": {**GOOD, "data_offsets": [0.5, 48]}}),
        raw({"a": GOOD, "__metadata__": {"key": 3}}),
        raw({"a": GOOD, "__metadata__": "text"}),
    ],
)
def test_damage_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ModelError, match="w: "):
        read_header(tmp_path / "w")


def test_a_good_header_is_read_without_its_data(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(raw({"a": GOOD}))
    assert read_header(tmp_path / "w") == ({}, {"a": GOOD})
    with pytest.raises(ModelError, match="cannot be read"):
        read_header(tmp_path / "none")
