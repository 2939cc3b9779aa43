"""What lies in the cache: downloads and prepared models, their sizes, and their removal."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headway.checkpoint.known import find_known, known_models
from headway.checkpoint.prepare import resolve
from headway.checkpoint.prepared import load_prepared
from headway.config import cache_home
from headway.errors import ModelError, ModelNotFound

_HUB_PREFIX = "models--"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One entry of the list of models. `bytes` is what it takes on disk, 0 if it is not there."""

    name: str
    kind: Literal["known", "downloaded", "prepared"]
    bytes: int
    about: str
    folder: Path | None = None


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
