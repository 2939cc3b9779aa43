"""Preparing a model: its files, whatever their format, as one folder in canonical form.

Done once for each content and storage type and cached; a later call finds the folder and returns
within milliseconds. See `layout` for the tensors and `prepared` for the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from headway.checkpoint.cache import appearing, content_hash, locked
from headway.checkpoint.cast import ITEM_BYTES, StorageDtype
from headway.checkpoint.gguf.model import open_gguf_checkpoint
from headway.checkpoint.huggingface.model import open_directory
from headway.checkpoint.huggingface.text import read_text
from headway.checkpoint.layout import targets
from headway.checkpoint.prepared import (
    FORMAT,
    WEIGHTS,
    Prepared,
    load_prepared,
    write_records,
    write_text,
)
from headway.checkpoint.progress import bar
from headway.checkpoint.source import Checkpoint, match
from headway.checkpoint.sources import resolve
from headway.checkpoint.weights import stored_bytes, write_weights
from headway.config import cache_home
from headway.errors import ModelError, ModelNotFound

_SPARE_BYTES = 64 * 2**20


def prepare(source: str, *, dtype: StorageDtype, progress: bool = True) -> Prepared:
    """Find a model by name or path, download it if needed, and convert it once.

    `progress` shows bars on standard error where that is a terminal. Raises `ModelNotFound` for a
    name that leads nowhere and `ModelError` for files that cannot be used.
    """
    if dtype not in ITEM_BYTES:
        raise ModelError(f"weights cannot be stored as {dtype!r}", field="dtype")
    home = cache_home()
    files = resolve(source, home, progress=progress)
    folder = home / "prepared" / f"{content_hash(files, home)[:24]}-{dtype}-{FORMAT}"
    with contextlib.suppress(ModelError):
        return load_prepared(folder)
    with locked(folder):
        with contextlib.suppress(ModelError):
            return load_prepared(folder)  # another process was faster
        try:
            with appearing(folder) as work:
                _convert(open_checkpoint(files), work, dtype=dtype, progress=progress)
        except OSError as error:
            raise ModelError(f"{files[0]}: cannot be prepared: {error}") from error
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
            with appearing(folder) as work:
                write_text(work, text, raw)
    return folder


def open_checkpoint(files: list[Path]) -> Checkpoint:
    """The checkpoint in a GGUF file, or in the files of a Hugging Face directory."""
    folder = files[0].parent
    if (folder / "config.json") in files:
        return open_directory(folder)
    return open_gguf_checkpoint(files[0])


def _convert(checkpoint: Checkpoint, work: Path, *, dtype: StorageDtype, progress: bool) -> None:
    layout = list(targets(checkpoint.config))
    match(checkpoint, (piece for target in layout for piece in target.pieces))
    _check_tokenizer(checkpoint)
    total = stored_bytes(layout, dtype)
    free = shutil.disk_usage(work).free
    if free < total + len(checkpoint.tokenizer_json) + _SPARE_BYTES:
        raise ModelError(
            f"{checkpoint.path}: preparing it takes {total / 2**20:,.0f} MiB in {work.parent}, "
            f"where {free / 2**20:,.0f} MiB are free"
        )
    write_records(work, checkpoint.config, checkpoint.text, checkpoint.tokenizer_json)
    with bar(f"Preparing {checkpoint.config.name}", total, progress) as advance:
        write_weights(work / WEIGHTS, checkpoint, layout, dtype=dtype, advance=advance)


def _check_tokenizer(checkpoint: Checkpoint) -> None:
    try:
        Tokenizer.from_buffer(checkpoint.tokenizer_json)
    except Exception as error:  # the package raises plain Exception for whatever it dislikes
        raise ModelError(f"{checkpoint.path}: unusable tokenizer: {error}") from error
