"""A prepared model: the folder that every start maps. Its files, written and read back.

What a model is lies in `model.json`, its text side in `text.json` and `tokenizer.json`, and its
weights, as one of the storages of `storage`, in `weights.safetensors`. `manifest.json` says how
large each of them is and what it hashes to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from headway.checkpoint.manifest import FileRecord, Manifest, check_sizes, read_manifest
from headway.checkpoint.safetensors import check_size, read_header
from headway.checkpoint.storage import PLAIN_NAMES, STORAGES, Storage
from headway.codec import encode, parse
from headway.errors import ModelError
from headway.types.model import ModelConfig, TextConfig

MODEL, TEXT, TOKENIZER, WEIGHTS = (
    "model.json",
    "text.json",
    "tokenizer.json",
    "weights.safetensors",
)
FORMAT = 2
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
    manifest: Manifest | None
    """None for a model that was prepared before manifests were written."""

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
    """Read a prepared folder; raises `ModelError` where something in it is missing or damaged.

    Of its large files only the sizes are looked at; see `manifest.damaged_files`.
    """
    manifest = read_manifest(folder)
    try:
        config = parse(ModelConfig, _read_small(folder, MODEL, manifest))
        text = parse(TextConfig, _read_small(folder, TEXT, manifest))
        weight_bytes = (folder / WEIGHTS).stat().st_size
        (folder / TOKENIZER).stat()
    except OSError as error:
        raise ModelError(f"{folder}: not a prepared model: {error}") from error
    except ValueError as error:
        raise ModelError(f"{folder}: damaged prepared model: {error}") from error
    if manifest is not None:
        check_sizes(folder, manifest)
    else:
        check_size(folder / WEIGHTS)
    return Prepared(
        folder=folder, config=config, text=text, weight_bytes=weight_bytes, manifest=manifest
    )


def _read_small(folder: Path, name: str, manifest: Manifest | None) -> bytes:
    """A file that is read whole at every start, and so is checked whole."""
    raw = (folder / name).read_bytes()
    if manifest is not None and manifest.files.get(name) != _record(raw):
        raise ValueError(f"{name} is not what was written")
    return raw


def _record(raw: bytes) -> FileRecord:
    return FileRecord(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())


def write_records(
    folder: Path, config: ModelConfig, text: TextConfig, tokenizer: bytes
) -> dict[str, FileRecord]:
    """Everything of a prepared folder but the weights; returns what was written."""
    raw = encode(config, pretty=True)
    (folder / MODEL).write_bytes(raw)
    return {MODEL: _record(raw), **write_text(folder, text, tokenizer)}


def write_text(folder: Path, text: TextConfig, tokenizer: bytes) -> dict[str, FileRecord]:
    """The two files that `headway.text` reads."""
    raw = encode(text, pretty=True)
    (folder / TEXT).write_bytes(raw)
    (folder / TOKENIZER).write_bytes(tokenizer)
    return {TEXT: _record(raw), TOKENIZER: _record(tokenizer)}
