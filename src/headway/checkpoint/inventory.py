"""Models by name: finding and downloading their files, and what lies in the cache.

A name is a known model's, a path's, or a repository's on the Hugging Face hub. The cache holds
downloads and prepared models, which are listed with their sizes and can be removed.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headway.checkpoint.cache import content_hash, has_hashes
from headway.checkpoint.hub import (
    downloaded_from_hub,
    fetch_from_hub,
    hub_folder,
    name_on_hub,
)
from headway.checkpoint.huggingface.hub_download import TEXT_FILES
from headway.checkpoint.huggingface.model import weight_files
from headway.checkpoint.known import fetch_known, find_known, known_models
from headway.checkpoint.prepared import load_prepared
from headway.environment import cache_home
from headway.errors import ModelError, ModelNotFound, did_you_mean

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w./-]+\.gguf)?\Z")
_DIGEST = 24
"""Characters of a content's hash that name it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model's name and the hash that stands for its content; `fetch` gives its files.

    A prepared model is found by the hash alone, so that it starts without the files.
    """

    name: str
    """A known model's, a hub name, or an absolute path."""
    digest: str
    read: bool = False
    """Whether all files were read just now, for the hash."""

    def fetch(
        self, *, progress: bool = True, stop: threading.Event | None = None
    ) -> tuple[Path, ...]:
        """The files, downloaded if need be, and their content checked against the hash.

        Downloads that are damaged are downloaded again. Raises `ModelError` for files of the
        user's own.
        """
        home = cache_home()
        known = find_known(self.name)
        if known is not None:
            return (fetch_known(known, home, progress=progress, verify=True, stop=stop),)
        files = resolve(self.name, home, progress=progress, stop=stop)
        if not self.read and not self._matches(files, home, stop):
            download = downloaded_from_hub(home, self.name)
            if download is None or Path(self.name).exists():
                raise ModelError(f"{self.name}: changed, or damaged, since it was hashed")
            logger.warning("downloaded again: %s is damaged", download)
            shutil.rmtree(download, ignore_errors=True)
            files = resolve(self.name, home, progress=progress, stop=stop)
            if not self._matches(files, home, stop):
                raise ModelError(f"{self.name}: is another model by now; start again")
        return tuple(files)

    def _matches(self, files: list[Path], home: Path, stop: threading.Event | None) -> bool:
        return content_hash(files, home, stop=stop, anew=True)[:_DIGEST] == self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One entry of the list of models. `bytes` is what it takes on disk, 0 if it is not there."""

    name: str
    kind: Literal["known", "downloaded", "prepared"]
    bytes: int
    about: str
    folder: Path | None = None
    source: str = ""
    """The name that a prepared model was made under, where that is recorded."""


def find(source: str, *, progress: bool = True, stop: threading.Event | None = None) -> Source:
    """Find a model by name or path, and download it if its hash is not known otherwise.

    That of a known model is, and that of a hub name that was prepared before and whose download is
    gone. `progress` shows bars on standard error where that is a terminal. Raises `ModelNotFound`
    for a name that leads nowhere.
    """
    known = find_known(source)
    if known is not None:
        return Source(name=known.name, digest=known.sha256[:_DIGEST])
    home = cache_home()
    path = Path(source).expanduser()
    name = str(path.resolve()) if path.exists() else source
    if not path.exists() and downloaded_from_hub(home, source) is None:
        for folder in prepared_from(source):
            return Source(name=source, digest=folder.name[:_DIGEST])
    files = resolve(source, home, progress=progress, stop=stop)
    read = not has_hashes(files, home)
    return Source(name=name, digest=content_hash(files, home, stop=stop)[:_DIGEST], read=read)


def resolve(
    source: str, home: Path, *, progress: bool, stop: threading.Event | None = None
) -> list[Path]:
    """The files of a model, downloaded if need be.

    A name is, in this order: a known model, an existing file or directory, a hub name
    (`owner/name`, or `owner/name:file.gguf`). Raises `ModelNotFound` for anything else.
    """
    known = find_known(source)
    if known is not None:
        return [fetch_known(known, home, progress=progress, stop=stop)]
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        return directory_files(path)
    if _HUB_NAME.match(source):
        found = fetch_from_hub(source, home, progress=progress, stop=stop)
        return [found] if found.is_file() else directory_files(found)
    names = [name for model in known_models() for name in (model.name, *model.aliases)]
    listed = ", ".join(model.name for model in known_models())
    raise ModelNotFound(
        f"{source}: neither a known model ({listed}) nor a file or directory here"
        f"{did_you_mean(source.lower(), names)}",
        field="model",
    )


def directory_files(folder: Path) -> list[Path]:
    """What a model directory is made of: its config, its text files and its weights."""
    if not (folder / "config.json").is_file():
        found = sorted(folder.glob("*.gguf"))
        if len(found) == 1:
            return found
        raise ModelError(f"{folder}: has no config.json, and {len(found)} GGUF files, not one")
    text = [folder / name for name in TEXT_FILES if (folder / name).is_file()]
    return [folder / "config.json", *text, *weight_files(folder)]


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
    return [*known, *downloaded, *_prepared()]


def pull_model(source: str, *, progress: bool = True) -> list[Path]:
    """Download a model by name, if it is not there yet; returns its files."""
    return resolve(source, cache_home(), progress=progress)


def remove_model(name: str) -> list[StoredModel]:
    """Remove what `list_models` shows under this name; returns it.

    A model's name, as it was downloaded or prepared under, stands for its download and all that was
    prepared from it; a prepared model's folder for itself, and without its storage for all storages
    of the model. Raises `ModelNotFound` where the cache has nothing of it, and `ModelError` where
    it cannot be removed.
    """
    found = find_stored(name)
    if not found:
        raise ModelNotFound(f"{name}: nothing of this name is in {cache_home()}", field="model")
    for entry in found:
        if entry.folder is not None:
            try:
                shutil.rmtree(entry.folder)
            except OSError as error:
                raise ModelError(f"{entry.folder}: cannot be removed: {error}") from error
    return found


def find_stored(name: str | None = None) -> list[StoredModel]:
    """Downloads and prepared models of this name, as `remove_model` understands it; None: all."""
    stored = [entry for entry in list_models() if entry.folder is not None]
    if name is None:
        return stored
    names = {name, str(Path(name).expanduser().resolve())}
    digest = name
    known = find_known(name)
    if known is not None:
        names.add(known.name)
        digest = known.sha256[:_DIGEST]
    return [
        entry
        for entry in stored
        if names & {entry.name, entry.source}
        or (entry.kind == "prepared" and entry.name.partition("-")[0] == digest)
    ]


def prepared_home() -> Path:
    return cache_home() / "prepared"


def prepared_from(name: str) -> list[Path]:
    """The folders of the models that were prepared under this name, newest first."""
    found = [entry for entry in _prepared() if entry.source == name and entry.folder is not None]
    folders = [entry.folder for entry in found if entry.folder is not None]
    return sorted(folders, key=lambda folder: -folder.stat().st_mtime)


def _downloads(home: Path) -> list[StoredModel]:
    found = []
    for folder in _folders(home / "downloads"):
        known = find_known(folder.name)
        if known is not None:
            found.append(_entry(folder, known.name, "downloaded", known.about))
    for folder in _folders(hub_folder(home)):
        name = name_on_hub(folder)
        if name is not None:
            found.append(_entry(folder, name, "downloaded", "from the Hugging Face hub"))
    return found


def _prepared() -> list[StoredModel]:
    found = []
    for folder in _folders(prepared_home()):
        source = ""
        try:
            prepared = load_prepared(folder)
            about = prepared.config.name
            source = "" if prepared.manifest is None else prepared.manifest.source
        except ModelError:
            about = "damaged, or of another version"
        found.append(_entry(folder, folder.name, "prepared", about, source))
    return found


def _entry(
    folder: Path,
    name: str,
    kind: Literal["downloaded", "prepared"],
    about: str,
    source: str = "",
) -> StoredModel:
    size = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    return StoredModel(name=name, kind=kind, bytes=size, about=about, folder=folder, source=source)


def _folders(parent: Path) -> list[Path]:
    """The visible folders in a folder; hidden ones are locks and unfinished work."""
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
