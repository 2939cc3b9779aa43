"""The manifest of a prepared model: the size and SHA-256 of its files, and what it was made from.

Sizes are compared at every start, digests when an engine could not start, on request, and in the
background while it serves. Prepared models of before manifests were written have none; of them only
the weights' size is known, from their header.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from headway.checkpoint.cache import file_hash
from headway.codec import Format, decode_document, encode_document, read_bytes
from headway.errors import InvalidRequest, ModelError

MANIFEST = "manifest.json"
_FORMAT = Format(
    what="the manifest of a prepared model",
    key="headway_manifest",
    version=1,
    remedy="remove the prepared model with `headway models rm`",
)
_LARGEST = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file as it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a prepared folder holds, beside the manifest itself."""

    source: str
    """The name that the model was prepared under: a known model's, a hub name, or a path."""
    files: dict[str, FileRecord]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_bytes(encode_document(manifest, _FORMAT))


def read_manifest(folder: Path) -> Manifest | None:
    """None where there is none; raises `ModelError` where it is damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return decode_document(Manifest, read_bytes(path, most=_LARGEST), _FORMAT, str(path))
    except InvalidRequest as error:
        raise ModelError(f"{folder}: damaged prepared model: {error}") from error


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raise `ModelError` for a file that is missing or has another size."""
    for name, record in manifest.files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError as error:
            raise ModelError(f"{folder}: damaged prepared model: {error}") from error
        if found != record.bytes:
            raise ModelError(
                f"{folder}: damaged prepared model: {name} has {found:,} of {record.bytes:,} bytes"
            )


def damaged_files(folder: Path, *, stop: threading.Event | None = None) -> list[str]:
    """The files that are not what was written; reads all of them. Empty without a manifest.

    Raises `ModelError` where the manifest itself is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return []
    return [
        name
        for name, record in manifest.files.items()
        if _hash(folder / name, stop) != record.sha256
    ]


def _hash(path: Path, stop: threading.Event | None) -> str | None:
    try:
        return file_hash(path, stop=stop)
    except ModelError:
        return None
