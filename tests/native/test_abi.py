"""The structures against the C header itself: names, order and sizes of every field."""

from __future__ import annotations

import ctypes
import re
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

from headway.native import abi

HEADER = Path(__file__).parents[2] / "native" / "headway.h"
PLAIN = {
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "float": ctypes.c_float,
}
STRUCTURES = {
    "hw_matrix": abi.HwMatrix,
    "hw_buffer": abi.HwBuffer,
    "hw_op": abi.HwOp,
    "hw_cache": abi.HwCache,
    "hw_sampling": abi.HwSampling,
    "hw_sampled_token": abi.HwSampledToken,
    "hw_step": abi.HwStep,
}
ENUMS: dict[str, type[IntEnum]] = {
    "hw_weight_format": abi.HwWeightFormat,
    "hw_activation": abi.Activation,
    "hw_epilogue": abi.Epilogue,
    "hw_kind": abi.HwKind,
    "hw_cache_kind": abi.CacheKind,
    "hw_status": abi.HwStatus,
}


@pytest.fixture(scope="module")
def header() -> str:
    return re.sub(r"//.*", "", HEADER.read_text())


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_field_is_the_headers(header: str, name: str) -> None:
    found = re.search(rf"typedef struct {name} \{{(.*?)\}}", header, re.DOTALL)
    assert found is not None
    expected = []
    for line in found[1].split(";"):
        words = line.replace("const ", "").split()
        if words:
            kind, field = words
            plain = None if kind.endswith("*") else PLAIN[kind]
            expected.append((field, ctypes.c_void_p if plain is None else plain))
    actual = [(field[0].rstrip("_"), field[1]) for field in STRUCTURES[name]._fields_]
    assert actual == expected


@pytest.mark.parametrize("name", ENUMS)
def test_every_constant_is_the_headers(header: str, name: str) -> None:
    found = re.search(rf"enum {name} \{{(.*?)\}}", header, re.DOTALL)
    assert found is not None
    expected = {
        constant: int(value) for constant, value in re.findall(r"(\w+)\s*=\s*(\d+)", found[1])
    }
    values = {member.name: member.value for member in ENUMS[name]}
    assert sorted(values.values()) == sorted(expected.values())
    for constant, value in expected.items():
        assert constant.endswith("_" + ENUMS[name](value).name)


def test_version_and_functions_are_the_headers(header: str) -> None:
    assert f"#define HW_ABI {abi.ABI}\n" in header
    declared = re.findall(r"HW_EXPORT [^;]*?\b(hw_\w+)\(([^;]*)\);", header)
    assert {name: arguments.count(",") for name, arguments in declared} == {
        name: max(0, len(arguments) - 1) for name, (_, arguments) in abi._functions().items()
    }


def test_numpy_sees_the_same_layout() -> None:
    for structure in (abi.HwSampling, abi.HwSampledToken):
        kind = np.dtype(structure)
        assert kind.itemsize == ctypes.sizeof(structure)
        assert kind.fields is not None
        for field in structure._fields_:
            assert kind.fields[field[0]][1] == getattr(structure, field[0]).offset
