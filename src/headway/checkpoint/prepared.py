"""Writing and reading `weights.safetensors`: tensors streamed some megabytes at a time.

The header is known before the first weight is read, so a model of any size is converted in the
memory of a few chunks of rows. Knows no tensor's meaning.

A prepared model: the folder that every start maps, and how it is read back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headway.checkpoint.storage import PLAIN_NAMES, STORAGES, Storage
from headway.codec import encode, parse
from headway.errors import ModelError
from headway.types.model import ModelConfig, TextConfig

ALIGNMENT = 64
"""The data starts at a multiple of this many bytes in the file."""
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


MODEL, TEXT, TOKENIZER, WEIGHTS = (
    "model.json",
    "text.json",
    "tokenizer.json",
    "weights.safetensors",
)
FORMAT = 1
"""Part of a prepared folder's name; raised whenever what is written there changes."""
STORAGE_KEY = "storage"
"""Of the metadata of a native weights file, beside a key for each packed matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A model ready to load: its folder, what it is, and the bytes of its weights' file."""

    folder: Path
    config: ModelConfig
    text: TextConfig
    weight_bytes: int

    @property
    def storage(self) -> Storage:
        """How the weights are stored; raises `ModelError` where their file does not tell."""
        path = self.folder / WEIGHTS
        metadata, entries = read_header(path)
        # A plain file does not name its storage, but all its matrices have it.
        kind = str(entries.get("embed.weight", {}).get("dtype"))
        stated = metadata.get(STORAGE_KEY, PLAIN_NAMES.get(kind))
        found = next((storage for storage in STORAGES if storage == stated), None)
        if found is None:
            raise ModelError(f"{path}: stored in an unknown way: {stated or kind}")
        return found


def load_prepared(folder: Path) -> Prepared:
    """Read a prepared folder; raises `ModelError` where something in it is missing or damaged."""
    try:
        config = parse(ModelConfig, (folder / MODEL).read_bytes())
        text = parse(TextConfig, (folder / TEXT).read_bytes())
        weight_bytes = (folder / WEIGHTS).stat().st_size
        (folder / TOKENIZER).stat()
    except OSError as error:
        raise ModelError(f"{folder}: not a prepared model: {error}") from error
    except ValueError as error:
        raise ModelError(f"{folder}: damaged prepared model: {error}") from error
    return Prepared(folder=folder, config=config, text=text, weight_bytes=weight_bytes)


def write_records(folder: Path, config: ModelConfig, text: TextConfig, tokenizer: bytes) -> None:
    """Everything of a prepared folder but the weights."""
    (folder / MODEL).write_bytes(encode(config, pretty=True))
    write_text(folder, text, tokenizer)


def write_text(folder: Path, text: TextConfig, tokenizer: bytes) -> None:
    """The two files that `headway.text` reads."""
    (folder / TEXT).write_bytes(encode(text, pretty=True))
    (folder / TOKENIZER).write_bytes(tokenizer)
