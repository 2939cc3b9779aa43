"""Lets buffers that are never needed at the same time share memory.

A linear scan: a buffer is alive from the operation that first writes it to the last that touches
it. One operation never writes where it reads (unless it was lowered so), because what it writes
is placed before what it read is let go.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from headway.ops.native.operations import BufferSpec, Listing, Operation


def share_buffers(listing: Listing) -> Listing:
    """The same program over as few buffers as their forms, widths and lives allow."""
    last: dict[int, int] = {}
    for index, operation in enumerate(listing.operations):
        for buffer in (*operation.reads, *operation.writes):
            last[buffer] = index
    kept: list[BufferSpec] = []
    free: defaultdict[BufferSpec, list[int]] = defaultdict(list)
    place: dict[int, int] = {}
    operations = []
    for index, operation in enumerate(listing.operations):
        for buffer in operation.writes:
            if buffer not in place:
                spec = listing.buffers[buffer]
                if not free[spec]:
                    kept.append(spec)
                    free[spec].append(len(kept) - 1)
                place[buffer] = free[spec].pop()
        operations.append(_renumbered(operation, place))
        for buffer in {*operation.reads, *operation.writes}:
            if last[buffer] == index:
                free[listing.buffers[buffer]].append(place[buffer])
    return Listing(operations=tuple(operations), buffers=tuple(kept))


def _renumbered(operation: Operation, place: dict[int, int]) -> Operation:
    return replace(
        operation,
        source=place.get(operation.source, -1),
        source2=place.get(operation.source2, -1),
        out=place.get(operation.out, -1),
        out2=place.get(operation.out2, -1),
    )
