"""Shared prefixes: naming blocks, finding them again, and waiting for one that is being computed.

A sequence that starts announces the names of the blocks it is going to compute. Another one whose
next unmatched block is among them is *deferred*: it computes nothing, because in a moment it hits.
This serves both n > 1 and bursts of requests with one prefix. It waits only for a leader that
moves: when that ends, is preempted or gets no token in a step, its followers go on without it.
"""

from __future__ import annotations

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.sequence import Sequence
from headway.types.block_hash import block_hashes


class PrefixCache:
    """The prefix side of one block pool."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._leaders: dict[bytes, Sequence] = {}

    def name(self, seq: Sequence) -> None:
        """Name the full blocks of the tokens known so far that have no name yet."""
        if seq.salt is not None:
            seq.hashes += block_hashes(seq.tokens, self._pool.block_size, seq.salt, seq.hashes)

    def attach(self, seq: Sequence, step: int) -> None:
        """Give a sequence without blocks its hits and make it a leader, or defer it.

        The last token is never hit, since somebody must compute what comes after it.
        """
        names: list[bytes] = []
        if not seq.wants_prompt_logprobs:
            names = seq.hashes[: (len(seq.tokens) - 1) // self._pool.block_size]
        hits = self._pool.match(names)
        if len(hits) < len(names):
            leader = self._leaders.get(names[len(hits)])
            if leader is not None and leader.active_step >= step - 1:
                seq.deferred = True
                return
        self._pool.acquire(hits)
        seq.deferred = False
        seq.blocks = hits
        seq.computed = len(hits) * self._pool.block_size
        seq.active_step = step
        for name in seq.hashes[len(hits) :]:
            leader = self._leaders.get(name)
            if leader is None or leader.active_step < step - 1:
                self._leaders[name] = seq

    def free(self, seq: Sequence) -> None:
        """Take all blocks back from a sequence; nobody waits for it any longer."""
        for name in seq.hashes[seq.computed // self._pool.block_size :]:
            if self._leaders.get(name) is seq:
                del self._leaders[name]
        self._pool.release(seq.blocks)
        seq.blocks = []
        seq.computed = 0
        seq.deferred = False

    def advance(self, seq: Sequence, computed: int) -> None:
        """Note that tokens are computed up to `computed`: full blocks may be hit from now on."""
        size = self._pool.block_size
        first, seq.computed = seq.computed // size, computed
        if computed < (first + 1) * size or seq.salt is None:
            return
        if len(seq.hashes) < computed // size:
            self.name(seq)
        cache, leaders = self._pool.cache, self._leaders
        full = slice(first, computed // size)
        for block, name in zip(seq.blocks[full], seq.hashes[full], strict=True):
            cache(block, name)
            if leaders.get(name) is seq:
                del leaders[name]

    def invalidate(self, seq: Sequence) -> None:
        """What the sequence computed is bad: nobody new may hit any of its blocks."""
        self._pool.invalidate(seq.blocks)
