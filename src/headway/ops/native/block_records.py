"""Which blocks of a KV cache are whole, written where it can be read after its writer was killed.

Every block has a record in the same memory as the cache. A block is *sealed* once it is full and
computed, and unsealed before anything else is written to it. The last thing that is written of a
record is its seal, a digest of all else in it, of the block's place, and of a fingerprint of
whatever the contents depend on. So a record says the truth or nothing, at whatever byte the writer
stopped: one that is torn, that was meant for another place, or that belongs to another model, has
no seal that fits. Knows neither tokens nor what is in a block.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple, Protocol

RECORD_BYTES = 64
NAME_BYTES = 16
_BODY = struct.Struct(f"<{NAME_BYTES}s{NAME_BYTES}sQ")
_SEAL_AT = _BODY.size
_SEAL_BYTES = 8
_NO_SEAL = bytes(_SEAL_BYTES)


class ByteMemory(Protocol):
    """Bytes that can be read and written in slices, such as a memoryview."""

    def __getitem__(self, index: slice, /) -> bytes | bytearray | memoryview: ...
    def __setitem__(self, index: slice, value: bytes, /) -> None: ...


class SealedBlock(NamedTuple):
    """What the record of a sealed block says."""

    name: bytes
    """Of its contents and all before them: 16 bytes."""
    parent: bytes
    """The name of the block before it; zeros for the first of a sequence."""
    number: int
    """The later it was sealed the higher; no two seals of one cache have the same."""


class BlockRecords:
    """The records of blocks 0 to `num_blocks - 1`, `RECORD_BYTES` of `memory` for each.

    `fingerprint` has 1 to 64 bytes and is equal where blocks of equal names have equal contents.
    """

    def __init__(self, memory: ByteMemory, *, num_blocks: int, fingerprint: bytes) -> None:
        self._memory = memory
        self._num_blocks = num_blocks
        self._fingerprint = fingerprint
        self._last = 0

    def sealed(self) -> list[tuple[int, bytes]]:
        """The sealed blocks and their names, in the order in which they may be evicted.

        Those of a sequence that was added to lately come last, and of a sequence its last block
        comes first. To be asked once, before the first `seal`.
        """
        found: dict[bytes, tuple[int, SealedBlock]] = {}
        for block in range(self._num_blocks):
            record = self.read(block)
            if record is None:
                continue
            self._last = max(self._last, record.number)
            if record.name in found:  # which no pool leaves; it would take one of them for empty
                self.unseal(block)
            else:
                found[record.name] = (block, record)
        used = _last_used({name: record for name, (_, record) in found.items()})
        order = sorted(found.values(), key=lambda each: (used[each[1].name], -each[1].number))
        return [(block, record.name) for block, record in order]

    def read(self, block: int) -> SealedBlock | None:
        """What a block's record says; None for one that is not sealed."""
        begin = block * RECORD_BYTES
        record = bytes(self._memory[begin : begin + _SEAL_AT + _SEAL_BYTES])
        seal = record[_SEAL_AT:]
        if seal == _NO_SEAL or seal != self._seal_of(block, record[:_SEAL_AT]):
            return None
        return SealedBlock(*_BODY.unpack_from(record))

    def names(self) -> dict[bytes, int]:
        """The names of blocks that seem to be sealed, and which those are; `read` makes sure."""
        records = bytes(self._memory[0 : self._num_blocks * RECORD_BYTES])
        found = {}
        for begin in range(0, len(records), RECORD_BYTES):
            seal = begin + _SEAL_AT
            if records[seal : seal + _SEAL_BYTES] != _NO_SEAL:
                found[records[begin : begin + NAME_BYTES]] = begin // RECORD_BYTES
        return found

    def seal(self, block: int, name: bytes, parent: bytes) -> None:
        """Declare an unsealed block full and computed. `parent` is b"" for a first block."""
        self._last += 1
        body = _BODY.pack(name, parent, self._last)
        begin = block * RECORD_BYTES
        self._memory[begin : begin + _SEAL_AT] = body
        self._memory[begin + _SEAL_AT : begin + _SEAL_AT + _SEAL_BYTES] = self._seal_of(block, body)

    def unseal(self, block: int) -> None:
        """Declare that a block's contents are bad, or about to be overwritten."""
        seal = block * RECORD_BYTES + _SEAL_AT
        self._memory[seal : seal + _SEAL_BYTES] = _NO_SEAL

    def _seal_of(self, block: int, body: bytes) -> bytes:
        place = block.to_bytes(8, "little")
        return blake2b(place + body, digest_size=_SEAL_BYTES, key=self._fingerprint).digest()


def _last_used(records: Mapping[bytes, SealedBlock]) -> dict[bytes, int]:
    """For each name the highest number of its block and of those that come after it."""
    used: dict[bytes, int] = {}
    # A block is sealed after those before it.
    for record in sorted(records.values(), key=lambda each: each.number, reverse=True):
        latest = used[record.name] = max(used.get(record.name, 0), record.number)
        used[record.parent] = max(used.get(record.parent, 0), latest)
    return used
