"""A line of sequences by (priority, arrival): one for those who wait, one for those who run.

Where every live sequence is, and its moves: it waits, boards, is put back, ends.

The moves keep the two lines, the blocks and what the runner knows in agreement; nothing else may
change a sequence's state. Who moves, and when, is decided elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.prefix_cache import PrefixCache
from headway.scheduling.sequence import Sequence

_order = attrgetter("order")


class RequestQueue:
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


class Queues:
    """The lines of those who wait and those who run, and an index of both."""

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.prefixes = PrefixCache(pool)
        self.waiting = RequestQueue()
        self.running = RequestQueue()
        self.live: dict[int, Sequence] = {}
        self.by_request: dict[str, Sequence] = {}
        self.departed = 0
        """How many have boarded since nobody was running."""
        self.relief = 0
        """Grows whenever memory may have become less scarce than it was forecast."""
        self.preemptions = 0
        self._held: list[Sequence] = []
        self._left: list[int] = []

    def arrive(self, seq: Sequence) -> None:
        self.prefixes.name(seq)
        self.live[seq.id] = seq
        self.by_request[seq.request.id] = seq
        self.waiting.add(seq)

    def board(self, seq: Sequence) -> None:
        """From the waiting line to the running one, with the hits it was offered with."""
        if not self.running:
            self.departed = 0
        self.departed += 1
        self.waiting.remove(seq)
        self.running.add(seq)
        seq.state = "running"
        if seq.held:
            self._held.append(seq)

    def preempt(self, seq: Sequence) -> None:
        """Back to its place in the waiting line; what it computed will be computed again."""
        self.preemptions += 1
        seq.preemptions += 1
        self._leave(seq)
        seq.state = "waiting"
        self.waiting.add(seq)

    def end(self, seq: Sequence) -> None:
        if seq.state == "running":
            self._leave(seq)
        else:
            self.waiting.remove(seq)
        seq.state = "ended"
        del self.live[seq.id]
        del self.by_request[seq.request.id]

    def place_held(self, step: int) -> None:
        """See whether those who wait for a shared prefix can have it, or must go on without."""
        if self._held:
            for seq in self._held:
                self.prefixes.place(seq, step)
            self._held = [seq for seq in self._held if seq.held]

    def take_left(self) -> list[int]:
        """Sequences that have left since the last call, of those that the runner knows."""
        left, self._left = self._left, []
        return left

    def check(self) -> None:
        """Raise `AssertionError` if blocks or sequences are lost or in two places."""
        self.pool.check()
        waiting, running = list(self.waiting), list(self.running)
        in_tables = {block for seq in running for block in seq.blocks}
        size = self.pool.block_size
        for holds, broken in (
            (len(in_tables) == self.pool.num_blocks - self.pool.free, "a block leaks"),
            ({seq.id for seq in waiting + running} == set(self.live), "a sequence is lost"),
            (len(waiting) + len(running) == len(self.live), "a sequence is in two lines"),
            (len(self.live) == len(self.by_request), "the indices disagree"),
            (all(s.state == "waiting" and not s.blocks for s in waiting), "a waiting one holds"),
            (all(s.state == "running" and s.todo > 0 for s in running), "nothing to do"),
            (waiting == sorted(waiting, key=lambda s: s.order), "the waiting line is unsorted"),
            (running == sorted(running, key=lambda s: s.order), "the running line is unsorted"),
            (all(s.computed <= len(s.blocks) * size for s in running), "a token has no place"),
            ({s for s in running if s.held} == set(self._held), "a held one is forgotten"),
        ):
            if not holds:
                raise AssertionError(broken)

    def _leave(self, seq: Sequence) -> None:
        """Off the running line, without blocks, and the runner is to be told."""
        self.running.remove(seq)
        if seq.held:
            self._held.remove(seq)
        self.prefixes.displace(seq)
        self.relief += 1
        if seq.entered:
            self._left.append(seq.id)
            seq.entered = False
