"""From what a user calls a model to the files that hold it."""

from __future__ import annotations

import re
from pathlib import Path

from headway.checkpoint.download import fetch_known
from headway.checkpoint.huggingface.model import weight_files
from headway.checkpoint.known import find_known, known_models
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
