"""Preparing a model: its files, whatever their format, as one folder in canonical form.

Done once for each content and storage and cached; a later call finds the folder and returns within
milliseconds. See `layout` for the tensors, `storage` for how they are stored and `prepared` for the
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from headway.checkpoint.cache import atomic_folder, locked
from headway.checkpoint.convert import native_entries, plain_entries
from headway.checkpoint.gguf.model import open_gguf_checkpoint
from headway.checkpoint.huggingface.model import open_directory
from headway.checkpoint.huggingface.text import read_text
from headway.checkpoint.inventory import Source, find
from headway.checkpoint.known import progress_bar
from headway.checkpoint.layout import CanonicalTensor, canonical_tensors
from headway.checkpoint.prepared import (
    FORMAT,
    STORAGE_KEY,
    WEIGHTS,
    Prepared,
    load_prepared,
    write_records,
    write_text,
)
from headway.checkpoint.safetensors import TensorEntry, write_container
from headway.checkpoint.source import Checkpoint, check_tensors
from headway.checkpoint.storage import STORAGES, Storage, native_format, plain_dtype
from headway.config import cache_home
from headway.errors import ModelError, ModelNotFound

_SPARE_BYTES = 64 * 2**20


def prepare(source: str | Source, *, dtype: Storage, progress: bool = True) -> Prepared:
    """Convert a model once, as this storage; `source` is a name, a path, or what `find` gave.

    Raises as `find` does, and `ModelError` for files that cannot be used.
    """
    if dtype not in STORAGES:
        raise ModelError(f"weights cannot be stored as {dtype!r}", field="dtype")
    if isinstance(source, str):
        source = find(source, progress=progress)
    folder = cache_home() / "prepared" / f"{source.digest}-{dtype}-{FORMAT}"
    with contextlib.suppress(ModelError):
        return load_prepared(folder)
    with locked(folder):
        with contextlib.suppress(ModelError):
            return load_prepared(folder)  # another process was faster
        try:
            with atomic_folder(folder) as work:
                _convert(open_checkpoint(source), work, dtype=dtype, progress=progress)
        except OSError as error:
            raise ModelError(f"{source.files[0]}: cannot be prepared: {error}") from error
    return load_prepared(folder)


def prepare_tokenizer(source: str) -> Path:
    """A folder with only the `tokenizer.json` and `text.json` of a directory or a GGUF file.

    It stands in for a prepared model's own text files. Raises `ModelError` where there is none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        raw, text = read_text(path, {})
    elif path.is_file():
        checkpoint = open_gguf_checkpoint(path)
        raw, text = checkpoint.tokenizer_json, checkpoint.text
    else:
        raise ModelNotFound(f"{source}: no such directory or file", field="tokenizer")
    digest = hashlib.sha256(raw + repr(text).encode()).hexdigest()
    folder = cache_home() / "tokenizers" / f"{digest[:24]}-{FORMAT}"
    with locked(folder):
        if not folder.exists():
            with atomic_folder(folder) as work:
                write_text(work, text, raw)
    return folder


def open_checkpoint(source: Source) -> Checkpoint:
    """The checkpoint in a GGUF file, or in the files of a Hugging Face directory."""
    folder = source.files[0].parent
    if (folder / "config.json") in source.files:
        return open_directory(folder)
    return open_gguf_checkpoint(source.files[0])


def _convert(checkpoint: Checkpoint, work: Path, *, dtype: Storage, progress: bool) -> None:
    layout = list(canonical_tensors(checkpoint.config))
    check_tensors(checkpoint, (piece for target in layout for piece in target.pieces))
    _check_tokenizer(checkpoint)
    entries, metadata = _entries(checkpoint, layout, dtype)
    total = sum(entry.bytes for entry in entries)
    free = shutil.disk_usage(work).free
    if free < total + len(checkpoint.tokenizer_json) + _SPARE_BYTES:
        raise ModelError(
            f"{checkpoint.path}: preparing it takes {total / 2**20:,.0f} MiB in {work.parent}, "
            f"where {free / 2**20:,.0f} MiB are free"
        )
    write_records(work, checkpoint.config, checkpoint.text, checkpoint.tokenizer_json)
    with progress_bar(f"Preparing {checkpoint.config.name}", total, progress) as advance:
        write_container(work / WEIGHTS, entries, metadata, advance)


def _entries(
    checkpoint: Checkpoint, layout: list[CanonicalTensor], dtype: Storage
) -> tuple[list[TensorEntry], dict[str, str]]:
    """What is written, and the file's metadata: its storage and what each packed matrix is."""
    plain, weight_format = plain_dtype(dtype), native_format(dtype)
    if plain is not None:
        return list(plain_entries(checkpoint, layout, plain)), {}
    assert weight_format is not None
    entries, matrices = native_entries(checkpoint, layout, weight_format)
    return entries, {STORAGE_KEY: dtype, **matrices}


def _check_tokenizer(checkpoint: Checkpoint) -> None:
    try:
        Tokenizer.from_buffer(checkpoint.tokenizer_json)
    except Exception as error:  # the package raises plain Exception for whatever it dislikes
        raise ModelError(f"{checkpoint.path}: unusable tokenizer: {error}") from error
