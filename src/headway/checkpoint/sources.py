"""From what a user calls a model to the files that hold it."""

from __future__ import annotations

from pathlib import Path

from headway.checkpoint.download import fetch_known
from headway.checkpoint.known import find_known, known_models
from headway.errors import ModelNotFound


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
    names = ", ".join(model.name for model in known_models())
    raise ModelNotFound(
        f"{source}: neither a known model ({names}) nor a file or directory here", field="model"
    )
