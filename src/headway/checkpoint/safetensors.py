"""Safetensors files: tensors written some megabytes at a time, and rows of a tensor as float32.

The header is known before the first weight is read, so a model of any size is written in the memory
of a few chunks of rows. Headers that are read come from strangers, and are checked against
themselves and against the size of the file; numpy has no bfloat16, which is widened here. Knows no
tensor's meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.checkpoint.cache import HashingFile
from headway.checkpoint.storage import widen
from headway.errors import ModelError

ALIGNMENT = 64
"""The data starts at a multiple of this many bytes in a file that is written here."""
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MOST_HEADER_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor to write. `dtype` as safetensors spells it; `chunks` gives its bytes in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    chunks: Callable[[], Iterable[npt.NDArray[np.generic]]]


def write_container(
    path: Path,
    entries: list[TensorEntry],
    metadata: Mapping[str, str],
    advance: Callable[[int], object],
) -> HashingFile:
    """Write all entries, in order, and tell `advance` the bytes written after each chunk.

    What is returned is closed; it tells the file's size and hash.
    """
    with HashingFile(path) as out:
        out.write(_header(entries, metadata))
        for entry in entries:
            written = 0
            for chunk in entry.chunks():
                raw = np.ascontiguousarray(chunk).data
                out.write(raw)
                written += raw.nbytes
                advance(raw.nbytes)
            if written != entry.bytes:
                raise ModelError(f"{path}: {entry.name} came out with a wrong size")
    return out


def check_size(path: Path) -> None:
    """Raise `ModelError` unless the file ends where its header says that its last tensor does."""
    _, entries = read_header(path)
    with path.open("rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
    expected = start + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if (found := path.stat().st_size) != expected:
        raise ModelError(f"{path}: damaged: has {found:,} of {expected:,} bytes")


def read_header(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """A file's metadata, and each tensor's entry: dtype, shape, data_offsets.

    Raises `ModelError` where it is damaged; that the data are there is not checked.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            raw = stream.read(length) if length <= _MOST_HEADER_BYTES else b""
    except OSError as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
    if not length or len(raw) < length:
        raise ModelError(f"{path}: damaged: truncated, or not a safetensors file")
    entries = read_json(path, raw)
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(t, str) for t in metadata.values()):
        raise ModelError(f"{path}: damaged safetensors header: its metadata are not texts")
    for name, entry in entries.items():
        if not _is_entry(entry):
            raise ModelError(f"{path}: damaged header: the entry of tensor {name} makes no sense")
    return metadata, entries


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies; `offset` in bytes from the start of the file."""

    shape: tuple[int, ...]
    kind: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsFile:
    """One open safetensors file, mapped into memory."""

    path: Path
    tensors: Mapping[str, StoredTensor]
    data: npt.NDArray[np.uint8]

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows start..stop of a tensor seen as a matrix of its innermost dimension."""
        tensor = self.tensors[name]
        dtype = np.dtype(_TYPES[tensor.kind])
        width = tensor.shape[-1] * dtype.itemsize
        raw = self.data[tensor.offset + start * width : tensor.offset + stop * width]
        # Tensors need not be aligned in the file, so their bytes are copied before they are viewed.
        values = np.frombuffer(raw.tobytes(), dtype=dtype).reshape(stop - start, -1)
        return widen(values) if tensor.kind == "BF16" else values.astype(np.float32)


def open_safetensors(path: Path) -> SafetensorsFile:
    """Map a safetensors file and check its header; raises `ModelError` naming the file."""
    _, entries = read_header(path)
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    base = 8 + int.from_bytes(data[:8].tobytes(), "little")
    tensors = {
        name: _stored(path, name, entry, base=base, size=len(data))
        for name, entry in entries.items()
    }
    return SafetensorsFile(path=path, tensors=tensors, data=data)


def read_json(path: Path, raw: bytes) -> dict[str, Any]:
    """A JSON object; raises `ModelError` naming the file for anything else."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object")
    return found


def _stored(path: Path, name: str, entry: dict[str, Any], *, base: int, size: int) -> StoredTensor:
    kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _TYPES:
        known = ", ".join(_TYPES)
        raise ModelError(f"{path}: tensor {name} is stored as {kind}; readable: {known}")
    if end - start != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize or base + end > size:
        raise ModelError(
            f"{path}: truncated or damaged: tensor {name} of shape {shape} does not lie at "
            f"bytes {start:,} to {end:,} of the data"
        )
    return StoredTensor(shape=tuple(shape), kind=kind, offset=base + start)


def _is_entry(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        return False
    lists = (value.get("shape"), value.get("data_offsets"))
    whole = (
        isinstance(each, list) and all(type(n) is int and n >= 0 for n in each) for each in lists
    )
    return all(whole) and len(value["data_offsets"]) == 2


def _header(entries: list[TensorEntry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "headway", **metadata}}
    start = 0
    for entry in entries:
        end = start + entry.bytes
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
