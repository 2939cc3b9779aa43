"""The cache folder: content hashes, locks, and folders that appear whole or not at all.

Safe under any number of processes and under being killed at any point: work happens in a hidden
folder beside its target, under a lock that dies with its process, and a rename publishes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from headway.checkpoint.progress import check_stop
from headway.codec import decode, encode, make_folder, read_bytes, write_bytes
from headway.errors import InvalidRequest, ModelError

try:
    import fcntl
except ImportError:  # Windows: two processes may do the same work, and the first rename wins
    fcntl = None  # type: ignore[assignment]

_INDEX = "hashes.json"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_READ_BYTES = 2**22
_POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


def content_hash(
    files: list[Path], home: Path, *, stop: threading.Event | None = None, anew: bool = False
) -> str:
    """SHA-256 over names and contents of files, remembered by (path, size, mtime) of each.

    A single file's is that file's own SHA-256, whatever its name. `anew` reads the files whatever
    is remembered of them.
    """
    index = {} if anew else _read_index(home)
    digests, fresh = [], {}
    for file in files:
        key = _key(file)
        known = index.get(key)
        if known is None:
            known = fresh[key] = file_hash(file, stop=stop)
        digests.append((file.name, known))
    if fresh:
        _write_index(home, fresh)
    if len(digests) == 1:
        return digests[0][1]
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests))
    return hashlib.sha256(listing.encode()).hexdigest()


def has_hashes(files: list[Path], home: Path) -> bool:
    """Whether `content_hash` would read none of the files."""
    index = _read_index(home)
    return all(_key(file) in index for file in files)


def file_hash(path: Path, *, stop: threading.Event | None = None) -> str:
    """SHA-256 of one file, in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while part := stream.read(_READ_BYTES):
                check_stop(stop)
                digest.update(part)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return digest.hexdigest()


class HashingFile:
    """A new file that is hashed while it is written, in a thread, as hashing holds no lock."""

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file = path.open("wb")
        self._thread = ThreadPoolExecutor(1, "hashing")

    @property
    def sha256(self) -> str:
        """Of all that was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, part: bytes | memoryview) -> None:
        """Write some bytes and hash them; both are done on return, so that memory can be reused."""
        hashing = self._thread.submit(self._digest.update, part)
        self.bytes += self._file.write(part)
        hashing.result()

    def __enter__(self) -> HashingFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        self._file.close()


@contextlib.contextmanager
def locked(target: Path, *, stop: threading.Event | None = None) -> Iterator[None]:
    """Hold the one lock that belongs to `target`, waiting for whoever holds it.

    Raises `InvalidRequest` where the folder that `target` is to lie in cannot be written.
    """
    try:
        make_folder(target.parent)
        stream = (target.parent / f".{target.name}.lock").open("a")
    except (InvalidRequest, OSError) as error:
        reason = error.message if isinstance(error, InvalidRequest) else str(error)
        raise InvalidRequest(
            f"{reason}; HEADWAY_HOME names another folder for models", field="HEADWAY_HOME"
        ) from error
    with stream:
        if fcntl is not None:
            # Not in one call that waits, which could not be stopped.
            while not _lock(stream.fileno()):
                check_stop(stop)
                time.sleep(_POLL_SECONDS)
        yield


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` if the block succeeds, and vanishes if it fails.

    Call under `locked(target)`; what an earlier process left when it was killed is removed, and so
    is whatever stands at `target`.
    """
    prefix = f".{target.name}.part-"
    if fcntl is not None:
        for left in target.parent.glob(f"{prefix}*"):
            _remove(left)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    work.chmod(0o755)
    try:
        yield work
        _remove(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _key(file: Path) -> str:
    try:
        facts = file.stat()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    return f"{file.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"


def _read_index(home: Path) -> dict[str, str]:
    path = home / _INDEX
    if not path.exists():
        return {}
    try:
        found = decode(dict[str, str], read_bytes(path), str(path))
    except InvalidRequest as error:
        logger.warning("files of models are hashed again: %s", error)
        return {}
    return {key: digest for key, digest in found.items() if _SHA256.match(digest)}


def _write_index(home: Path, fresh: dict[str, str]) -> None:
    """Remember hashes; that it fails costs the next start some time, and nothing else."""
    index = home / _INDEX
    try:
        with locked(index):
            write_bytes(index, encode(_read_index(home) | fresh, pretty=True))
    except InvalidRequest as error:
        logger.warning("files of models will be hashed again at the next start: %s", error)
