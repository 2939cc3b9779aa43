"""The block pool: reference counts, blocks that can be found by name, and eviction of the least
recently used.

A block is *referenced* (by one sequence or several) or free, and *cached* if it has a name, under
which its contents can be hit. Free blocks without a name are taken first, then the cached one that
was released longest ago. Sharing copies nothing: a hit is one more reference. `BlockPool` knows
nothing of sequences. Where blocks outlive the engine, it also has them sealed and unsealed, so
that the next one finds those that are whole, and begins with them as its cached ones.

`PrefixCache` names the blocks of sequences and finds them again. A sequence that starts announces
the names of the blocks it is going to compute. Another one whose next unmatched block is among them
is *deferred*: it computes nothing, because in a moment it hits. This serves both n > 1 and bursts
of requests with one prefix. It waits only for a leader that moves: when that ends, is preempted or
gets no token in a step, its followers go on without it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from typing import Protocol

from headway.scheduling.sequence import Sequence
from headway.types.block_hash import block_hashes

LOOKED_UP_AGAIN = 16
"""Steps after which it is looked up again how much of a waiting prompt is cached."""


class SealedBlocks(Protocol):
    """Which blocks are whole, kept where it outlives the engine."""

    def sealed(self) -> Iterable[tuple[int, bytes]]:
        """Blocks that an engine before this one left whole, and their names; the order is that in
        which they may be evicted."""
        ...

    def seal(self, block: int, name: bytes, parent: bytes, /) -> None:
        """A block is full and computed. `parent` names the block before it, b"" if it has none."""
        ...

    def unseal(self, block: int, /) -> None:
        """A sealed block is about to be overwritten, or its contents are bad."""
        ...


class BlockStore(Protocol):
    """Blocks outside of this engine. What the engines save there is their sealed blocks."""

    def match(self, source: str, names: Seq[bytes], /) -> int:
        """How many blocks of these names, from the first on, the source seems to have."""
        ...

    def load(self, source: str, names: Seq[bytes], blocks: Seq[int], /) -> int:
        """Copy blocks of these names into `blocks` of the pool, each whole or not at all.

        Returns how many there are now, from the first on: fewer than asked for where the source
        has lost one.
        """
        ...


class BlockPool:
    """Ids 0 to `num_blocks - 1`, each a block of `block_size` token positions.

    With `outliving`, what was left sealed there is cached from the beginning. `store` has blocks
    that are not in the pool.
    """

    __slots__ = (
        "_cached",
        "_free",
        "_names",
        "_outliving",
        "_references",
        "_stored",
        "block_size",
        "num_blocks",
        "store",
    )

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        outliving: SealedBlocks | None = None,
        store: BlockStore | None = None,
    ) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"a pool of {num_blocks} blocks of {block_size} tokens")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.store = store
        self._references = [0] * num_blocks
        self._names: list[bytes | None] = [None] * num_blocks
        self._stored: dict[bytes, int] = {}
        # Free blocks: those without a name, and those with one by the time of their release.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._outliving = outliving
        if outliving is not None:
            self._adopt(outliving.sealed())

    @property
    def free(self) -> int:
        """Blocks that can be taken now, cached ones included."""
        return len(self._free) + len(self._cached)

    @property
    def cached(self) -> int:
        """Free blocks whose contents may still be hit."""
        return len(self._cached)

    def match(self, names: Iterable[bytes]) -> list[int]:
        """The blocks of the longest stored prefix of `names`. Changes nothing."""
        found = []
        for name in names:
            block = self._stored.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def stores(self, name: bytes) -> bool:
        """Whether a block with this name could be hit now."""
        return name in self._stored

    def acquire(self, ids: Iterable[int]) -> None:
        """Add a reference to each block that `match` has found."""
        for block in ids:
            if not self._references[block]:
                del self._cached[block]
            self._references[block] += 1

    def take(self, count: int) -> list[int]:
        """Reference `count` free blocks for new contents; `ValueError` where fewer are free."""
        if count > self.free:
            raise ValueError(f"{count} blocks wanted, {self.free} free")
        free, references = self._free, self._references
        rest = max(0, len(free) - count)
        taken = free[rest:]
        del free[rest:]
        taken.reverse()
        while len(taken) < count:
            taken.append(self._evict())
        for block in taken:
            references[block] = 1
        return taken

    def release(self, ids: Seq[int]) -> None:
        """Drop one reference to each block of a chain; its tail will be evicted before its head."""
        references, names = self._references, self._names
        for block in reversed(ids):
            left = references[block] - 1
            if left < 0:
                raise ValueError(f"block {block} is released but not referenced")
            references[block] = left
            if not left:
                if names[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    def cache(self, block: int, name: bytes, parent: bytes = b"") -> None:
        """Declare a referenced block full and computed: it may be hit under `name` from now on.

        `parent` names the block before it, if there is one. Where another block already has the
        name, that one goes on serving hits.
        """
        if self._references[block] and self._names[block] is None and name not in self._stored:
            self._names[block] = name
            self._stored[name] = block
            if self._outliving is not None:
                self._outliving.seal(block, name, parent)

    def invalidate(self, ids: Iterable[int]) -> None:
        """Declare the contents of referenced blocks bad: nobody new may hit them."""
        for block in ids:
            name = self._names[block]
            if name is not None and self._references[block]:
                self._forget(block, name)

    def shared(self, ids: Seq[int]) -> int:
        """How many blocks at the head of a block table have other references too.

        Only prefixes are ever shared, so the search may halve.
        """
        if not ids or self._references[ids[0]] < 2:
            return 0
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            if self._references[ids[middle]] > 1:
                low = middle + 1
            else:
                high = middle
        return low

    def check(self) -> None:
        """Raise `AssertionError` if any invariant is broken."""
        free, cached = set(self._free), set(self._cached)
        referenced = {block for block, count in enumerate(self._references) if count}
        named = {block for block, name in enumerate(self._names) if name is not None}
        _expect(len(free) == len(self._free), "a block is free twice")
        _expect(min(self._references) >= 0, "a block has a negative count")
        _expect(
            not (free & cached or free & referenced or cached & referenced),
            "a block is in two states",
        )
        _expect(len(free) + len(cached) + len(referenced) == self.num_blocks, "a block is lost")
        _expect(cached <= named and not free & named, "names and free lists disagree")
        _expect(
            {name: block for block, name in enumerate(self._names) if name is not None}
            == self._stored,
            "the store and the names disagree",
        )

    def _evict(self) -> int:
        block, _ = self._cached.popitem(last=False)
        name = self._names[block]
        if name is not None:
            self._forget(block, name)
        return block

    def _forget(self, block: int, name: bytes) -> None:
        self._names[block] = None
        del self._stored[name]
        if self._outliving is not None:
            self._outliving.unseal(block)

    def _adopt(self, sealed: Iterable[tuple[int, bytes]]) -> None:
        for block, name in sealed:
            self._names[block] = name
            self._stored[name] = block
            self._cached[block] = None
        self._free = [block for block in self._free if block not in self._cached]


def _expect(condition: bool, message: str) -> None:
    # Not `assert`: the check must also hold where Python runs with -O.
    if not condition:
        raise AssertionError(message)


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
        if len(hits) < len(names) and self._leads(names[len(hits)], step):
            seq.deferred = True
            return
        self._pool.acquire(hits)
        seq.deferred = False
        seq.blocks = hits
        seq.computed = len(hits) * self._pool.block_size
        seq.todo = len(seq.tokens) - seq.computed
        seq.active_step = step
        for name in seq.hashes[len(hits) :]:
            if not self._leads(name, step):
                self._leaders[name] = seq

    def uncached(self, seq: Sequence, step: int) -> int:
        """Tokens that a waiting sequence likely has to compute, as it was a few steps ago."""
        if step >= seq.looked_up + LOOKED_UP_AGAIN:
            seq.looked_up, seq.likely_hits = step, self._likely_hits(seq, step)
        return seq.todo - seq.likely_hits

    def _likely_hits(self, seq: Sequence, step: int) -> int:
        """Tokens that a sequence without blocks need not compute, if it starts soon: they are
        stored, or another one is about to compute them.

        Found by halving, which is cheap and nearly always right: of a chain, the tail is evicted
        before the head.
        """
        if seq.wants_prompt_logprobs:
            return 0
        size, names = self._pool.block_size, seq.hashes
        low, high = 0, min(len(names), (len(seq.tokens) - 1) // size)
        while low < high:
            middle = (low + high) // 2
            if self._pool.stores(names[middle]) or self._leads(names[middle], step):
                low = middle + 1
            else:
                high = middle
        return low * size

    def free(self, seq: Sequence) -> None:
        """Take all blocks back from a sequence; nobody waits for it any longer."""
        for name in seq.hashes[seq.computed // self._pool.block_size :]:
            if self._leaders.get(name) is seq:
                del self._leaders[name]
        self._pool.release(seq.blocks)
        seq.blocks = []
        seq.computed = 0
        seq.todo = len(seq.tokens)
        seq.deferred = False
        seq.loading = 0

    def advance(self, seq: Sequence, computed: int) -> None:
        """Note that tokens are computed up to `computed`: full blocks may be hit from now on."""
        size = self._pool.block_size
        first, seq.computed = seq.computed // size, computed
        seq.todo = len(seq.tokens) - computed
        if computed < (first + 1) * size or seq.salt is None:
            return
        if len(seq.hashes) < computed // size:
            self.name(seq)
        cache, leaders = self._pool.cache, self._leaders
        full = slice(first, computed // size)
        parent = seq.hashes[first - 1] if first else b""
        for block, name in zip(seq.blocks[full], seq.hashes[full], strict=True):
            cache(block, name, parent)
            parent = name
            if leaders.get(name) is seq:
                del leaders[name]

    def _leads(self, name: bytes, step: int) -> bool:
        """Whether a sequence that moves is going to compute the block of this name."""
        leader = self._leaders.get(name)
        return leader is not None and leader.active_step >= step - 1

    def invalidate(self, seq: Sequence) -> None:
        """What the sequence computed is bad: nobody new may hit any of its blocks."""
        self._pool.invalidate(seq.blocks)
