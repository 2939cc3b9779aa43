"""Checking what the cache holds against its digests, and mending it: `headway models verify`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headway.checkpoint.cache import file_hash
from headway.checkpoint.inventory import Source, StoredModel, find_stored
from headway.checkpoint.known import damaged_download, find_known, known_models
from headway.checkpoint.manifest import damaged_files
from headway.checkpoint.prepare import prepare
from headway.checkpoint.prepared import FORMAT, load_prepared
from headway.checkpoint.storage import STORAGES
from headway.environment import cache_home
from headway.errors import HeadwayError, ModelError, ModelNotFound

Verdict = Literal["sound", "mended", "unknown", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedModel:
    """What was found out about one entry of the cache, and what was done about it.

    `sound`, `mended` (it was damaged and was downloaded or prepared anew), `unknown` (nothing was
    recorded to compare it with) or `damaged` (it still is).
    """

    entry: StoredModel
    verdict: Verdict
    reason: str = ""


def verify_models(name: str | None = None) -> Iterator[VerifiedModel]:
    """Read everything under a name (as `find_stored` understands it; None: all), and mend it.

    Downloads come before what is prepared from them. Raises `ModelNotFound` where there is nothing.
    """
    entries = find_stored(name)
    if not entries and name is not None:
        raise ModelNotFound(f"{name}: nothing of this name is in {cache_home()}", field="model")
    for entry in entries:
        assert entry.folder is not None
        if entry.kind == "prepared":
            yield _verify_prepared(entry, entry.folder)
        else:
            yield _verify_download(entry, entry.folder)


def _verify_prepared(entry: StoredModel, folder: Path) -> VerifiedModel:
    digest, _, rest = folder.name.partition("-")
    storage = next((each for each in STORAGES if rest == f"{each}-{FORMAT}"), None)
    if storage is None:
        return VerifiedModel(entry=entry, verdict="unknown", reason="of another version")
    try:
        prepared = load_prepared(folder)
        if prepared.manifest is None:
            return VerifiedModel(entry=entry, verdict="unknown", reason="prepared without digests")
        files = damaged_files(folder)
        if not files:
            return VerifiedModel(entry=entry, verdict="sound")
        reason = f"{', '.join(files)} changed on disk"
    except ModelError as error:
        reason = error.message
    name = next((known.name for known in known_models() if known.sha256.startswith(digest)), "")
    name = name or entry.source
    if not name:
        return VerifiedModel(entry=entry, verdict="damaged", reason=reason)
    try:
        prepare(Source(name=name, digest=digest), dtype=storage, verify=True)
    except HeadwayError as error:
        reason = f"{reason}; it cannot be prepared anew: {error}"
        return VerifiedModel(entry=entry, verdict="damaged", reason=reason)
    return VerifiedModel(entry=entry, verdict="mended", reason=reason)


def _verify_download(entry: StoredModel, folder: Path) -> VerifiedModel:
    known = find_known(entry.name)
    if known is None:
        return _verify_hub(entry, folder)
    if not damaged_download(known, cache_home()):
        return VerifiedModel(entry=entry, verdict="sound")
    reason = f"{known.file} is not what was published"
    try:
        Source(name=known.name, digest="").fetch()
    except HeadwayError as error:
        reason = f"{reason}; it cannot be downloaded again: {error}"
        return VerifiedModel(entry=entry, verdict="damaged", reason=reason)
    return VerifiedModel(entry=entry, verdict="mended", reason=reason)


def _verify_hub(entry: StoredModel, folder: Path) -> VerifiedModel:
    """Large files of the hub are named after their SHA-256 there; of small ones nothing is known.

    A damaged one is downloaded again when the model is prepared again.
    """
    blobs = [path for path in (folder / "blobs").glob("*") if len(path.name) == 64]
    damaged = [path.name for path in blobs if file_hash(path) != path.name]
    if damaged:
        return VerifiedModel(
            entry=entry,
            verdict="damaged",
            reason=f"{', '.join(damaged)} changed on disk; `headway models rm` removes it",
        )
    verdict: Verdict = "sound" if blobs else "unknown"
    return VerifiedModel(entry=entry, verdict=verdict, reason="" if blobs else "has no digests")
