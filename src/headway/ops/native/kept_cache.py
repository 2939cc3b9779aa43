"""The memory of a KV cache that outlives its process: a file of memory that whoever starts engines
holds open, and that the next engine maps again.

In the file come a header, the record of every block, and from the next huge page on the cache. The
header says what the file was laid out for. An engine that computes the same finds it as it was left
and may *adopt* its sealed blocks; any other begins with an empty file. One engine at a time may
have it.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

from headway.ops.native.block_records import RECORD_BYTES, BlockRecords
from headway.ops.native.shared_memory import HUGE_PAGE, PagesAhead, SharedMapping

_HEADER = struct.Struct("<16s64sQQ")
_MAGIC = b"headway kv 1"
RECORDS_AT = mmap.PAGESIZE
_AHEAD = 2 * HUGE_PAGE
"""Of each layer, taken ahead of what is used."""


class KeptLayout(NamedTuple):
    """How a file is laid out: for a cache of `size` bytes in so many blocks."""

    num_blocks: int
    size: int

    @property
    def cache_at(self) -> int:
        """Where the cache begins: at a huge page, after a page of header and the records."""
        records = RECORDS_AT + self.num_blocks * RECORD_BYTES
        return -(-records // HUGE_PAGE) * HUGE_PAGE

    @property
    def length(self) -> int:
        """Bytes of the whole file."""
        return self.cache_at + self.size


class KeptFile:
    """A descriptor of such a file, and the fingerprint of what is to be kept in it.

    The fingerprint is as that of `BlockRecords`. The descriptor stays its owner's.
    """

    def __init__(self, descriptor: int, fingerprint: bytes) -> None:
        self._descriptor = descriptor
        self.fingerprint = fingerprint

    def layout(self) -> KeptLayout | None:
        """How the file is laid out, if it has a cache that may be adopted; None if it has none.

        Raises `OSError` where the file cannot be read.
        """
        header = os.pread(self._descriptor, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return None
        _, _, num_blocks, size = _HEADER.unpack(header)
        found = KeptLayout(num_blocks, size)
        whole = os.fstat(self._descriptor).st_size == found.length
        return found if whole and header == self._header(found) else None

    def open(
        self, *, num_blocks: int, size: int, num_layers: int, huge_pages: bool = True
    ) -> KeptCache:
        """Map the file for a cache of `size` bytes: as it was left if it fits, else all zeros.

        With `huge_pages` the system is asked for those. Raises `OSError` where there is not so much
        memory.
        """
        wanted = KeptLayout(num_blocks, size)
        if self.layout() != wanted:
            os.ftruncate(self._descriptor, 0)
            os.ftruncate(self._descriptor, wanted.length)
            os.pwrite(self._descriptor, self._header(wanted), 0)
        mapping = SharedMapping(self._descriptor, wanted.length)
        ahead = PagesAhead(mapping, wanted.cache_at, size, num_layers)
        if not huge_pages:
            ahead.stop()
        return KeptCache(mapping, wanted, self.fingerprint, ahead)

    def _header(self, layout: KeptLayout) -> bytes:
        return _HEADER.pack(_MAGIC, self.fingerprint, *layout)


class KeptCache:
    """A mapped file: where the cache is, and the seals of its blocks (see `SealedBlocks`)."""

    def __init__(
        self, mapping: SharedMapping, layout: KeptLayout, fingerprint: bytes, ahead: PagesAhead
    ) -> None:
        begin, num_blocks = layout.cache_at, layout.num_blocks
        self._mapping = mapping
        self.address = mapping.address + begin
        self.view = mapping.view[begin:]
        self._records = BlockRecords(
            mapping.view[RECORDS_AT:begin], num_blocks=num_blocks, fingerprint=fingerprint
        )
        self._ahead = ahead
        self._block_bytes = layout.size // ahead.parts // num_blocks

    def sealed(self) -> list[tuple[int, bytes]]:
        """See `BlockRecords.sealed`."""
        return self._records.sealed()

    def unseal(self, block: int) -> None:
        """See `BlockRecords.unseal`."""
        self._records.unseal(block)

    def seal(self, block: int, name: bytes, parent: bytes) -> None:
        """See `BlockRecords.seal`. Pages are taken ahead of the highest block in use."""
        self._records.seal(block, name, parent)
        if (block + 1) * self._block_bytes > self._ahead.reached - _AHEAD // 2:
            self._ahead.reach((block + 1) * self._block_bytes + _AHEAD)

    def touch_ahead(self, size: int) -> None:
        """Let the first blocks of all layers, `size` bytes in all, be taken in the background."""
        self._ahead.reach(size // self._ahead.parts)
