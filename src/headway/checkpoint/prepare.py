"""From what a user calls a model to the files that hold it.

Preparing a model: its files, whatever their format, as one folder in canonical form.

Done once for each content and storage type and cached; a later call finds the folder and returns
within milliseconds. See `layout` for the tensors and `prepared` for the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from headway.checkpoint.cache import appearing, content_hash, locked
from headway.checkpoint.convert import native_entries, plain_entries
from headway.checkpoint.download import bar, fetch_known
from headway.checkpoint.gguf.model import open_gguf_checkpoint
from headway.checkpoint.huggingface.model import open_directory, weight_files
from headway.checkpoint.huggingface.text import read_text
from headway.checkpoint.known import find_known, known_models
from headway.checkpoint.layout import TensorTarget, targets
from headway.checkpoint.prepared import (
    FORMAT,
    STORAGE_KEY,
    WEIGHTS,
    Prepared,
    TensorEntry,
    load_prepared,
    write_container,
    write_records,
    write_text,
)
from headway.checkpoint.source import Checkpoint, match
from headway.checkpoint.storage import STORAGES, Storage, native_form, plain_dtype
from headway.config import cache_home
from headway.errors import ModelError, ModelNotFound

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w./-]+\.gguf)?\Z")
_TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)


def resolve(source: str, home: Path, *, progress: bool) -> list[Path]:
    """The files of a model, downloaded if need be.

    A name is, in this order: a known model, an existing file or directory, a hub name
    (`owner/name`, or `owner/name:file.gguf`). Raises `ModelNotFound` for anything else.
    """
    known = find_known(source)
    if known is not None:
        return [fetch_known(known, home, progress=progress)]
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        return directory_files(path)
    if _HUB_NAME.match(source):
        return _from_hub(source, home, progress=progress)
    names = ", ".join(model.name for model in known_models())
    raise ModelNotFound(
        f"{source}: neither a known model ({names}) nor a file or directory here", field="model"
    )


def directory_files(folder: Path) -> list[Path]:
    """What a model directory is made of: its config, its text files and its weights."""
    if not (folder / "config.json").is_file():
        found = sorted(folder.glob("*.gguf"))
        if len(found) == 1:
            return found
        raise ModelError(f"{folder}: has no config.json, and {len(found)} GGUF files, not one")
    text = [folder / name for name in _TEXT_FILES if (folder / name).is_file()]
    return [folder / "config.json", *text, *weight_files(folder)]


def _from_hub(source: str, home: Path, *, progress: bool) -> list[Path]:
    """Download a repository's safetensors and text files, or the one GGUF file that is named."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if progress else disable_progress_bars)()
    owner_name, _, file = source.partition(":")
    cache = home / "downloads" / "hub"
    try:
        if file:
            return [Path(hf_hub_download(owner_name, file, cache_dir=cache))]
        wanted = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
        folder = snapshot_download(
            owner_name, cache_dir=cache, allow_patterns=[*wanted, *_TEXT_FILES]
        )
    except Exception as error:  # the client has dozens of errors of its own and of its HTTP library
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelNotFound(
            f"{source}: not found on, or not downloaded from, the Hugging Face hub: {reason[0]}",
            field="model",
        ) from error
    return directory_files(Path(folder))


_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model's files, found and downloaded, and the hash that stands for their content."""

    files: tuple[Path, ...]
    digest: str


def find(source: str, *, progress: bool = True) -> Source:
    """Find a model by name or path, and download it if needed.

    `progress` shows bars on standard error where that is a terminal. Raises `ModelNotFound` for a
    name that leads nowhere.
    """
    home = cache_home()
    files = resolve(source, home, progress=progress)
    return Source(files=tuple(files), digest=content_hash(files, home)[:24])


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
            with appearing(folder) as work:
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
            with appearing(folder) as work:
                write_text(work, text, raw)
    return folder


def open_checkpoint(source: Source) -> Checkpoint:
    """The checkpoint in a GGUF file, or in the files of a Hugging Face directory."""
    folder = source.files[0].parent
    if (folder / "config.json") in source.files:
        return open_directory(folder)
    return open_gguf_checkpoint(source.files[0])


def _convert(checkpoint: Checkpoint, work: Path, *, dtype: Storage, progress: bool) -> None:
    layout = list(targets(checkpoint.config))
    match(checkpoint, (piece for target in layout for piece in target.pieces))
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
    with bar(f"Preparing {checkpoint.config.name}", total, progress) as advance:
        write_container(work / WEIGHTS, entries, metadata, advance)


def _entries(
    checkpoint: Checkpoint, layout: list[TensorTarget], dtype: Storage
) -> tuple[list[TensorEntry], dict[str, str]]:
    """What is written, and the file's metadata: its storage and what each packed matrix is."""
    plain, form = plain_dtype(dtype), native_form(dtype)
    if plain is not None:
        return list(plain_entries(checkpoint, layout, plain)), {}
    assert form is not None
    entries, matrices = native_entries(checkpoint, layout, form)
    return entries, {STORAGE_KEY: dtype, **matrices}


def _check_tokenizer(checkpoint: Checkpoint) -> None:
    try:
        Tokenizer.from_buffer(checkpoint.tokenizer_json)
    except Exception as error:  # the package raises plain Exception for whatever it dislikes
        raise ModelError(f"{checkpoint.path}: unusable tokenizer: {error}") from error
