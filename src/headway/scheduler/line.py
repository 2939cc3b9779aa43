"""A line of sequences by (priority, arrival): one for those who wait, one for those who run."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from headway.scheduler.sequence import Sequence

_order = attrgetter("order")


class Line:
    """Sorted on entry; iterating costs nothing, entry and exit cost a binary search."""

    __slots__ = ("sequences",)

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.sequences)

    def add(self, seq: Sequence) -> None:
        insort(self.sequences, seq, key=_order)

    def remove(self, seq: Sequence) -> None:
        del self.sequences[bisect_left(self.sequences, seq.order, key=_order)]
