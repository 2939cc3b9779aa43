"""Who sat where: a sequence takes the lowest free slot of the batch and keeps it until it leaves.

Sums of time are always kept, single stays only where they are to be drawn.
"""

from __future__ import annotations

from heapq import heappop, heappush

from headway.report.run import Bar
from headway.sim.answer import Answer


class Slots:
    """The slots of one replica's batch."""

    def __init__(self, *, keep_bars: bool) -> None:
        self.bars: list[Bar] = []
        self.seconds = 0.0
        """Time that sequences spent in slots, summed."""
        self.used = 0
        """How many slots were ever taken."""
        self._free: list[int] = []
        self._keep = keep_bars

    def board(self, answer: Answer, now: float) -> None:
        if self._free:
            answer.slot = heappop(self._free)
        else:
            answer.slot = self.used
            self.used += 1
        answer.boarded = now
        answer.shown = None

    def leave(self, answer: Answer, now: float) -> None:
        self.seconds += now - answer.boarded
        if self._keep:
            first = now if answer.shown is None else answer.shown
            self.bars.append(Bar(answer.slot, answer.boarded, first, now, str(answer.index)))
        heappush(self._free, answer.slot)
        answer.slot = -1
