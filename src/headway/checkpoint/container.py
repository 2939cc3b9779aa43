"""Writing and reading `weights.safetensors`: tensors streamed some megabytes at a time.

The header is known before the first weight is read, so a model of any size is converted in the
memory of a few chunks of rows. Knows no tensor's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.errors import ModelError

ALIGNMENT = 64
"""The data starts at a multiple of this many bytes in the file."""
_MOST_HEADER_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor to write. `dtype` as safetensors spells it; `chunks` gives its bytes in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    chunks: Callable[[], Iterable[npt.NDArray[np.generic]]]


def write_container(
    path: Path,
    entries: list[Entry],
    metadata: Mapping[str, str],
    advance: Callable[[int], object],
) -> None:
    """Write all entries, in order, and tell `advance` the bytes written after each chunk."""
    with path.open("wb") as out:
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


def read_header(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """A container's metadata, and each tensor's entry: dtype, shape, data_offsets.

    Raises `ModelError` where it is damaged; that the data are there is not checked.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _MOST_HEADER_BYTES:
                raise ModelError(f"{path}: damaged: no safetensors header")
            found = json.loads(stream.read(length))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: damaged safetensors header")
    metadata = found.pop("__metadata__", {})
    if not (_texts(metadata) and all(_is_entry(entry) for entry in found.values())):
        raise ModelError(f"{path}: damaged safetensors header")
    return metadata, found


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_entry(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        return False
    lists = (value.get("shape"), value.get("data_offsets"))
    whole = (
        isinstance(each, list) and all(type(n) is int and n >= 0 for n in each) for each in lists
    )
    return all(whole) and len(value["data_offsets"]) == 2


def _header(entries: list[Entry], metadata: Mapping[str, str]) -> bytes:
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
