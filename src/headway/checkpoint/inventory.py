"""Models by name: finding and downloading their files, and what lies in the cache.

A name is a known model's, a path's, or a repository's on the Hugging Face hub. The cache holds
downloads and prepared models, which are listed with their sizes and can be removed.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headway.checkpoint.cache import content_hash
from headway.checkpoint.huggingface.model import weight_files
from headway.checkpoint.known import fetch_known, find_known, known_models
from headway.checkpoint.prepared import load_prepared
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
_HUB_PREFIX = "models--"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model's files, found and downloaded, and the hash that stands for their content."""

    files: tuple[Path, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One entry of the list of models. `bytes` is what it takes on disk, 0 if it is not there."""

    name: str
    kind: Literal["known", "downloaded", "prepared"]
    bytes: int
    about: str
    folder: Path | None = None


def find(source: str, *, progress: bool = True) -> Source:
    """Find a model by name or path, and download it if needed.

    `progress` shows bars on standard error where that is a terminal. Raises `ModelNotFound` for a
    name that leads nowhere.
    """
    home = cache_home()
    files = resolve(source, home, progress=progress)
    return Source(files=tuple(files), digest=content_hash(files, home)[:24])


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


def list_models() -> list[StoredModel]:
    """Known models that are not downloaded, then downloads, then prepared models."""
    home = cache_home()
    downloaded = _downloads(home)
    names = {entry.name for entry in downloaded}
    known = [
        StoredModel(name=model.name, kind="known", bytes=0, about=model.about)
        for model in known_models()
        if model.name not in names
    ]
    return [*known, *downloaded, *_prepared(home)]


def pull_model(source: str, *, progress: bool = True) -> list[Path]:
    """Download a model by name, if it is not there yet; returns its files."""
    return resolve(source, cache_home(), progress=progress)


def remove_model(name: str) -> list[StoredModel]:
    """Remove what `list_models` shows under this name; returns it.

    A download's name is the model's, a prepared model's is its folder's. Raises `ModelNotFound`
    where the cache has neither.
    """
    known = find_known(name)
    wanted = known.name if known is not None else name
    found = [entry for entry in list_models() if entry.name == wanted and entry.folder is not None]
    if not found:
        raise ModelNotFound(f"{name}: nothing of this name is in {cache_home()}", field="model")
    for entry in found:
        if entry.folder is not None:
            shutil.rmtree(entry.folder)
    return found


def _downloads(home: Path) -> list[StoredModel]:
    found = []
    for folder in _folders(home / "downloads"):
        known = find_known(folder.name)
        if known is not None:
            found.append(_entry(folder, known.name, "downloaded", known.about))
    for folder in _folders(home / "downloads" / "hub"):
        if folder.name.startswith(_HUB_PREFIX):
            name = folder.name.removeprefix(_HUB_PREFIX).replace("--", "/")
            found.append(_entry(folder, name, "downloaded", "from the Hugging Face hub"))
    return found


def _prepared(home: Path) -> list[StoredModel]:
    found = []
    for folder in _folders(home / "prepared"):
        try:
            about = load_prepared(folder).config.name
        except ModelError:
            about = "damaged, or of another version"
        found.append(_entry(folder, folder.name, "prepared", about))
    return found


def _entry(
    folder: Path, name: str, kind: Literal["downloaded", "prepared"], about: str
) -> StoredModel:
    size = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    return StoredModel(name=name, kind=kind, bytes=size, about=about, folder=folder)


def _folders(parent: Path) -> list[Path]:
    """The visible folders in a folder; hidden ones are locks and unfinished work."""
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
