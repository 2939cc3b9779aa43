"""Blocks that another engine has computed are loaded instead of computed again.

A request that moves here says where its keys and values were. Once it is admitted, and holds what
it hits in the own pool, the blocks after that are loaded, some of them in every step: no more
tokens than a step may compute, which takes a few hundredths of the time. Meanwhile the sequence is
deferred, as one that waits for its leader is, and those with the same prefix wait for it. What is
loaded is cached as if it had been computed here; what is no longer there is computed.

A block is in a sequence's table only once it is loaded whole, so a sequence may be preempted or
end at any time.
"""

from __future__ import annotations

from headway.scheduling.block_pool import BlockPool, BlockStore, PrefixCache
from headway.scheduling.sequence import Sequence

LOAD_SECONDS = 0.0002
"""Until the next plan, where there is nothing to compute but more to load."""


class BlockLoader:
    """Loads the blocks of admitted sequences, up to `most_tokens` in a step."""

    def __init__(
        self, pool: BlockPool, prefixes: PrefixCache, store: BlockStore, most_tokens: int
    ) -> None:
        self._pool = pool
        self._prefixes = prefixes
        self._store = store
        self._most = max(1, most_tokens // pool.block_size)
        self._left = self._most
        """Blocks that may still be loaded in this step."""

    def begin_step(self) -> None:
        self._left = self._most

    def begin(self, seq: Sequence) -> None:
        """Look where the sequence was before, if anywhere, for blocks after those that it holds.

        If there are any it is deferred until they are loaded. One that waits for a leader is not
        looked at, nor one that must compute its prompt.
        """
        source = seq.request.kv_source
        if not source or seq.deferred or seq.wants_prompt_logprobs:
            return
        names = seq.hashes[len(seq.blocks) : (len(seq.tokens) - 1) // self._pool.block_size]
        if names:
            seq.loading = self._store.match(source, names)
            seq.deferred = seq.loading > 0

    def load(self, seq: Sequence, step: int) -> None:
        """Load as many blocks of a sequence as this step may; after the last it is not deferred."""
        if self._left:
            self._load(seq, min(seq.loading, self._left, self._pool.free))
        seq.active_step = step
        seq.deferred = seq.loading > 0

    def _load(self, seq: Sequence, count: int) -> None:
        first = len(seq.blocks)
        blocks = self._pool.take(count)
        names = seq.hashes[first : first + count]
        loaded = self._store.load(seq.request.kv_source, names, blocks)
        self._pool.release(blocks[loaded:])
        self._left -= count
        seq.blocks += blocks[:loaded]
        seq.loading = seq.loading - loaded if 0 < loaded == count else 0
        self._prefixes.advance(seq, (first + loaded) * self._pool.block_size)
        seq.hits = seq.computed
