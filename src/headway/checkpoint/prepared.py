"""A prepared model: the folder that every start maps. Its files, written and read back.

What a model is lies in `model.json`, its text side in `text.json` and `tokenizer.json`, and its
weights, as one of the storages of `storage`, in `weights.safetensors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.checkpoint.safetensors import read_header
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
