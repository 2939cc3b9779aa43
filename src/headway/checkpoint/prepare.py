"""Preparing a model: its files, whatever their format, as one folder in canonical form.

Done once for each content and storage and cached; a later call finds the folder and returns within
milliseconds. See `layout` for the tensors, `storage` for how they are stored and `prepared` for the
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer

from headway.checkpoint.cache import atomic_folder, locked
from headway.checkpoint.convert import native_entries, plain_entries
from headway.checkpoint.gguf.model import open_gguf_checkpoint
from headway.checkpoint.huggingface.model import open_directory
from headway.checkpoint.huggingface.text import read_text
from headway.checkpoint.inventory import Source, find, prepared_home
from headway.checkpoint.layout import CanonicalTensor, canonical_tensors
from headway.checkpoint.manifest import FileRecord, Manifest, damaged_files, write_manifest
from headway.checkpoint.prepared import (
    FORMAT,
    STORAGE_KEY,
    TEXT,
    TOKENIZER,
    WEIGHTS,
    Prepared,
    load_prepared,
    write_records,
    write_text,
)
from headway.checkpoint.progress import progress_of
from headway.checkpoint.safetensors import TensorEntry, write_container
from headway.checkpoint.source import Checkpoint, check_tensors
from headway.checkpoint.storage import STORAGES, Storage, native_format, plain_dtype
from headway.codec import parse
from headway.environment import cache_home
from headway.errors import ModelError, ModelNotFound
from headway.types.model import TextConfig

_SPARE_BYTES = 64 * 2**20

logger = logging.getLogger(__name__)


def prepare(
    source: str | Source,
    *,
    dtype: Storage,
    progress: bool = True,
    verify: bool = False,
    stop: threading.Event | None = None,
) -> Prepared:
    """Convert a model once, as this storage; `source` is a name, a path, or what `find` gave.

    What was prepared before and is damaged is prepared anew, which is logged. Damage shows in
    sizes, and with `verify` in digests, for which everything is read. Setting `stop`, from another
    thread, ends the work with `Interrupted`. Raises as `find` does, and `ModelError` for files that
    cannot be used.
    """
    if dtype not in STORAGES:
        raise ModelError(f"weights cannot be stored as {dtype!r}", field="dtype")
    if isinstance(source, str):
        source = find(source, progress=progress, stop=stop)
    folder = prepared_home() / f"{source.digest}-{dtype}-{FORMAT}"
    if not verify:
        with contextlib.suppress(ModelError):
            return load_prepared(folder)
    with locked(folder, stop=stop):
        found = _sound(folder, verify=verify, stop=stop)  # another process may have been faster
        if found is not None:
            return found
        files = source.fetch(progress=progress, stop=stop)
        try:
            checkpoint, layout = _read(source, files, bar=progress, stop=stop)
            with atomic_folder(folder) as work:
                writing = partial(progress_of, "preparing", source.name, bar=progress, stop=stop)
                records = _write(checkpoint, layout, work, dtype, writing)
                write_manifest(work, Manifest(source=source.name, files=records))
        except OSError as error:
            raise ModelError(
                f"{source.name}: cannot be prepared in {folder.parent}: {error.strerror or error}"
            ) from error
    return load_prepared(folder)


def _sound(folder: Path, *, verify: bool, stop: threading.Event | None) -> Prepared | None:
    """What was prepared before; None where there is nothing, or it is damaged, which is logged."""
    try:
        prepared = load_prepared(folder)
        damaged = damaged_files(folder, stop=stop) if verify else []
        if not damaged:
            return prepared
        reason = f"{folder}: damaged prepared model: {', '.join(damaged)} changed on disk"
    except ModelError as error:
        reason = error.message
    if folder.exists():
        logger.warning("prepared anew: %s", reason)
    return None


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
        if not _holds(folder, raw):
            with atomic_folder(folder) as work:
                write_text(work, text, raw)
    return folder


def _holds(folder: Path, tokenizer: bytes) -> bool:
    """Whether a folder of text files was written whole and is as it was."""
    try:
        parse(TextConfig, (folder / TEXT).read_bytes())
        return (folder / TOKENIZER).read_bytes() == tokenizer
    except (OSError, ValueError):
        return False


def open_checkpoint(files: Sequence[Path]) -> Checkpoint:
    """The checkpoint in a GGUF file, or in the files of a Hugging Face directory."""
    folder = files[0].parent
    if (folder / "config.json") in files:
        return open_directory(folder)
    return open_gguf_checkpoint(files[0])


def _read(
    source: Source, files: Sequence[Path], *, bar: bool, stop: threading.Event | None
) -> tuple[Checkpoint, list[CanonicalTensor]]:
    """The checkpoint, whose tensors and tokenizer are what they should be, and its layout.

    A large vocabulary takes seconds, in which nothing can be stopped; nothing is written yet.
    """
    size = sum(file.stat().st_size for file in files)
    with progress_of("reading", source.name, size, bar=bar, stop=stop) as advance:
        checkpoint = open_checkpoint(files)
        layout = list(canonical_tensors(checkpoint.config))
        check_tensors(checkpoint, (piece for target in layout for piece in target.pieces))
        _check_tokenizer(checkpoint)
        advance(size)
    return checkpoint, layout


def _write(
    checkpoint: Checkpoint,
    layout: list[CanonicalTensor],
    work: Path,
    dtype: Storage,
    writing: Callable[[int], AbstractContextManager[Callable[[int], object]]],
) -> dict[str, FileRecord]:
    """All files of a prepared model, and what was written; `writing` shows so many bytes."""
    entries, metadata = _entries(checkpoint, layout, dtype)
    total = sum(entry.bytes for entry in entries)
    free = shutil.disk_usage(work).free
    if free < total + len(checkpoint.tokenizer_json) + _SPARE_BYTES:
        raise ModelError(
            f"{checkpoint.path}: preparing it takes {total / 2**20:,.0f} MiB in {work.parent}, "
            f"where {free / 2**20:,.0f} MiB are free"
        )
    records = write_records(work, checkpoint.config, checkpoint.text, checkpoint.tokenizer_json)
    with writing(total) as advance:
        weights = write_container(work / WEIGHTS, entries, metadata, advance)
    return {**records, WEIGHTS: FileRecord(bytes=weights.bytes, sha256=weights.sha256)}


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
