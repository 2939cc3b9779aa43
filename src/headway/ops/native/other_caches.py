"""Blocks copied from the KV caches of other engines on this machine, which go on meanwhile.

Their files are read and never mapped: a mapped file that its owner empties would end whoever looks
at it. A block may be overwritten while it is copied, so its record is read before and after; only
if it is the same both times, with the number of the same seal, the copy is whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from headway.ops.native.block_records import BlockRecords
from headway.ops.native.kept_cache import RECORDS_AT, KeptFile, KeptLayout
from headway.ops.protocol import CacheShape

logger = logging.getLogger(__name__)


class OtherCaches:
    """See `BlockStore`: a source is the path of a file, and blocks are copied into `own`, all bytes
    of a cache of this shape. Only files with an equal fingerprint are read."""

    def __init__(self, own: memoryview, fingerprint: bytes, shape: CacheShape) -> None:
        self._own = own
        self._fingerprint = fingerprint
        self._layers = shape.num_layers
        self._block_bytes = len(own) // shape.num_layers // shape.num_blocks
        self._names: tuple[str, dict[bytes, int]] = ("", {})
        """The source that was looked at last, and where its blocks were."""

    def match(self, source: str, names: Sequence[bytes]) -> int:
        """See `BlockStore`; costs about a millisecond for thousands of blocks.

        It costs nothing for the next requests of many that come from one source: what was seen
        there is not looked up again, since `load` makes sure of it.
        """
        seen, where = self._names
        if seen == source and all(name in where for name in names):
            return len(names)
        try:
            with self._opened(source) as other:
                found = {} if other is None else other.records.names()
        except OSError as error:
            logger.info("what was computed elsewhere is computed again: %s", error)
            return 0
        self._names = (source, found)
        return next((n for n, name in enumerate(names) if name not in found), len(names))

    def load(self, source: str, names: Sequence[bytes], blocks: Sequence[int]) -> int:
        """See `BlockStore`."""
        if self._names[0] != source:
            self.match(source, names)
        found = self._names[1]
        loaded = 0
        try:
            with self._opened(source) as other:
                for name, block in zip(names, blocks, strict=True):
                    if other is None or name not in found:
                        break
                    if not self._copy(other, found[name], name, block):
                        break
                    loaded += 1
        except OSError as error:
            logger.info("what was computed elsewhere is computed again: %s", error)
        if loaded < len(names):
            self._names = ("", {})  # it has changed
        return loaded

    def _copy(self, other: _OtherCache, source: int, name: bytes, block: int) -> bool:
        """Copy one block, all layers; false where it was not there throughout."""
        before = other.records.read(source)
        if before is None or before.name != name:
            return False
        size = self._block_bytes
        ours, theirs = len(self._own) // self._layers, other.layout.size // self._layers
        for layer in range(self._layers):
            at = layer * ours + block * size
            there = other.layout.cache_at + layer * theirs + source * size
            if os.preadv(other.descriptor, [self._own[at : at + size]], there) != size:
                return False
        return other.records.read(source) == before

    @contextmanager
    def _opened(self, source: str) -> Iterator[_OtherCache | None]:
        """The file of that path; None for one of another kind. Raises `OSError`.

        Whoever held the file may have closed it, and have opened anything under its number.
        """
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            layout = KeptFile(descriptor, self._fingerprint).layout()
            yield None if layout is None else _OtherCache(descriptor, layout, self._fingerprint)
        finally:
            os.close(descriptor)


class _OtherCache:
    """The file of another cache, open."""

    def __init__(self, descriptor: int, layout: KeptLayout, fingerprint: bytes) -> None:
        self.descriptor = descriptor
        self.layout = layout
        self.records = BlockRecords(
            _FileBytes(descriptor, RECORDS_AT),
            num_blocks=layout.num_blocks,
            fingerprint=fingerprint,
        )


class _FileBytes:
    """A file's bytes from a place on, to be read in slices."""

    def __init__(self, descriptor: int, begin: int) -> None:
        self._descriptor = descriptor
        self._begin = begin

    def __getitem__(self, index: slice) -> bytes:
        return os.pread(self._descriptor, index.stop - index.start, self._begin + index.start)

    def __setitem__(self, index: slice, value: bytes) -> None:
        raise TypeError("the cache of another engine is not ours to write")
