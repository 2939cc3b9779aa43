"""Whose KV cache it is: the fingerprint of all that the contents of its blocks depend on.

A block's name stands for tokens alone. The same tokens give other keys and values in another model,
number format, instruction set or build of the kernels, so all these are in the fingerprint; the
number of threads and of blocks are not, since no bit depends on them.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from pathlib import Path

from headway.checkpoint import Prepared
from headway.native import build_of
from headway.native.abi import CacheKind
from headway.ops.native import KeptFile
from headway.ops.protocol import CacheShape

_MEMORY_FILES = "/memfd:"
"""How Linux names files of memory."""

_VERSION = 1
"""Raised whenever the same program is given other blocks, or a model other operations."""

logger = logging.getLogger(__name__)


def kept_file(
    descriptor: int | None, source: Prepared, one: CacheShape, kind: CacheKind, isa: str
) -> KeptFile | None:
    """The file of a KV cache, for whoever computes the same bits; None without a descriptor.

    `one` is the shape of the cache but for the number of its blocks.
    """
    if descriptor is None:
        return None
    try:
        # A program in between may have closed it, and opened another file under its number.
        target = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError as error:
        target = str(error)
    if not target.startswith(_MEMORY_FILES):
        logger.warning(
            "the KV cache will not outlive this engine: %d is no file of memory but %s",
            descriptor,
            target,
        )
        return None
    told = (_VERSION, build_of(), isa, kind.name, source.storage, one, _contents(source))
    return KeptFile(descriptor, blake2b(repr(told).encode()).digest())


def _contents(source: Prepared) -> list[tuple[str, ...]]:
    """What tells the model's files from those of all others."""
    if source.manifest is not None:
        files = source.manifest.files
        return sorted((name, record.sha256) for name, record in files.items())
    stats = ((path.name, path.stat()) for path in source.folder.iterdir())
    return sorted((name, str(each.st_size), str(each.st_mtime_ns)) for name, each in stats)
