"""The cache folder: content hashes, locks, and folders that appear whole or not at all.

Safe under any number of processes and under being killed at any point: work happens in a hidden
folder beside its target, under a lock that dies with its process, and a rename publishes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headway.codec import decode, encode, read_bytes, write_bytes
from headway.errors import InvalidRequest, ModelError

try:
    import fcntl
except ImportError:  # Windows: two processes may do the same work, and the first rename wins
    fcntl = None  # type: ignore[assignment]

_INDEX = "hashes.json"
_READ_BYTES = 2**22


def content_hash(files: list[Path], home: Path) -> str:
    """SHA-256 over names and contents of files, remembered by (path, size, mtime) of each.

    A single file's is that file's own SHA-256, whatever its name.
    """
    index = _read_index(home)
    digests, fresh = [], {}
    for file in files:
        key = _key(file)
        known = index.get(key)
        if known is None:
            known = fresh[key] = file_hash(file)
        digests.append((file.name, known))
    if fresh:
        _write_index(home, fresh)
    if len(digests) == 1:
        return digests[0][1]
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of one file, in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while part := stream.read(_READ_BYTES):
                digest.update(part)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return digest.hexdigest()


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the one lock that belongs to `target`, waiting for whoever holds it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("a") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` if the block succeeds, and vanishes if it fails.

    Call under `locked(target)`; what an earlier process left when it was killed is removed.
    """
    prefix = f".{target.name}.part-"
    if fcntl is not None:
        for left in target.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    work.chmod(0o755)
    try:
        yield work
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _key(file: Path) -> str:
    try:
        facts = file.stat()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    return f"{file.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"


def _read_index(home: Path) -> dict[str, str]:
    try:
        return decode(dict[str, str], read_bytes(home / _INDEX), _INDEX)
    except InvalidRequest:
        return {}  # nothing remembered: the files are hashed again


def _write_index(home: Path, fresh: dict[str, str]) -> None:
    index = home / _INDEX
    with locked(index):
        write_bytes(index, encode(_read_index(home) | fresh, pretty=True))
