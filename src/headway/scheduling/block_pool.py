"""The block pool: reference counts, a store of sealed blocks, and eviction of the least recent.

A block is *held* (count above zero), *cached* (nobody holds it, its contents have a name and may be
hit) or *blank* (nobody holds it, nothing in it is worth finding). Cached and blank blocks are both
free; blank ones are taken first, then the cached one that was released longest ago. Sharing copies
nothing: a hit is one more holder. The pool knows nothing of sequences.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """Ids 0 to `num_blocks - 1`, each a block of `block_size` token positions."""

    __slots__ = ("_blank", "_cached", "_holders", "_names", "_stored", "block_size", "num_blocks")

    def __init__(self, *, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"a pool of {num_blocks} blocks of {block_size} tokens")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._holders = [0] * num_blocks
        self._names: list[bytes | None] = [None] * num_blocks
        self._stored: dict[bytes, int] = {}
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be taken now, cached ones included."""
        return len(self._blank) + len(self._cached)

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

    def acquire(self, ids: Iterable[int]) -> None:
        """Hold blocks that `match` has found."""
        for block in ids:
            if not self._holders[block]:
                del self._cached[block]
            self._holders[block] += 1

    def take(self, count: int) -> list[int]:
        """Hold `count` blocks for new contents; raises `ValueError` where fewer are free."""
        if count > self.free:
            raise ValueError(f"{count} blocks wanted, {self.free} free")
        blank, holders = self._blank, self._holders
        rest = max(0, len(blank) - count)
        taken = blank[rest:]
        del blank[rest:]
        taken.reverse()
        while len(taken) < count:
            taken.append(self._evict())
        for block in taken:
            holders[block] = 1
        return taken

    def release(self, ids: Sequence[int]) -> None:
        """Give up one hold on each block of a chain; its tail will be evicted before its head."""
        holders, names = self._holders, self._names
        for block in reversed(ids):
            left = holders[block] - 1
            if left < 0:
                raise ValueError(f"block {block} is released but nobody holds it")
            holders[block] = left
            if not left:
                if names[block] is None:
                    self._blank.append(block)
                else:
                    self._cached[block] = None

    def seal(self, block: int, name: bytes) -> None:
        """Declare a held block full and computed: it may be hit under `name` from now on.

        Where another block already has the name, that one goes on serving hits.
        """
        if self._holders[block] and self._names[block] is None and name not in self._stored:
            self._names[block] = name
            self._stored[name] = block

    def unseal(self, ids: Iterable[int]) -> None:
        """Declare the contents of held blocks bad: nobody new may hit them."""
        for block in ids:
            name = self._names[block]
            if name is not None and self._holders[block]:
                self._names[block] = None
                del self._stored[name]

    def shared(self, ids: Sequence[int]) -> int:
        """How many blocks at the head of a block table have other holders too.

        Only prefixes are ever shared, so the search may halve.
        """
        if not ids or self._holders[ids[0]] < 2:
            return 0
        low, high = 1, len(ids)
        while low < high:
            middle = (low + high) // 2
            if self._holders[ids[middle]] > 1:
                low = middle + 1
            else:
                high = middle
        return low

    def check(self) -> None:
        """Raise `AssertionError` if any invariant is broken."""
        blank, cached = set(self._blank), set(self._cached)
        held = {block for block, holders in enumerate(self._holders) if holders}
        named = {block for block, name in enumerate(self._names) if name is not None}
        _expect(len(blank) == len(self._blank), "a block is blank twice")
        _expect(min(self._holders) >= 0, "a block has a negative count")
        _expect(not (blank & cached or blank & held or cached & held), "a block is in two states")
        _expect(len(blank) + len(cached) + len(held) == self.num_blocks, "a block is lost")
        _expect(cached <= named and not blank & named, "names and free lists disagree")
        _expect(
            {name: block for block, name in enumerate(self._names) if name is not None}
            == self._stored,
            "the store and the names disagree",
        )

    def _evict(self) -> int:
        block, _ = self._cached.popitem(last=False)
        name = self._names[block]
        if name is not None:
            del self._stored[name]
            self._names[block] = None
        return block


def _expect(condition: bool, message: str) -> None:
    # Not `assert`: the check must also hold where Python runs with -O.
    if not condition:
        raise AssertionError(message)
