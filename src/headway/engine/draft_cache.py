"""What a draft model has stored: whose keys and values, for which tokens, in which blocks.

Its KV cache is its own, and so are its blocks. A sequence that finds no room gets no drafts, which
is no loss of tokens, so nothing is ever preempted here: room comes from sequences that nobody has
asked about for a while, those first that were asked about longest ago. Full blocks of one prefix
are shared, and found again by whoever continues a conversation. Knows neither the scheduler nor
what computes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headway.scheduling.block_pool import BlockPool
from headway.scheduling.sequence import salt_of
from headway.types import Request
from headway.types.block_hash import block_hashes

IDLE_ROUNDS = 64
"""Rounds of drafting after which a sequence that was in none of them may lose its room. With fewer,
two that are asked about in turn would each throw out what the other needs again."""


@dataclass(slots=True, eq=False)
class DraftSequence:
    """A request as the draft model knows it."""

    number: int
    """Its name for the runner."""
    request: Request
    salt: bytes | None = None
    """Whom it shares prefixes with; None for nobody."""
    tokens: list[int] = field(default_factory=list)
    """Those whose keys and values are stored: the request's, and behind them drafts of the last
    round, which may have been wrong."""
    blocks: list[int] = field(default_factory=list)
    """Where they are stored."""
    checked: int = 0
    """How many of `tokens` are known to be the request's."""
    hashes: list[bytes] = field(default_factory=list)
    """Names of full blocks of the request's tokens."""
    cached: int = 0
    """How many blocks, from the first, others can find."""
    entered: bool = False
    """The runner knows it."""
    failed: bool = False
    """The draft model cannot sample for it."""
    round: int = 0
    """In which it was asked about last."""

    def keep_common(self, tokens: Seq[int]) -> bool:
        """Keep what is stored of `tokens`, all that are known of the request by now, but for the
        last of them, after which there is to be sampled. True where others had been stored."""
        end = min(len(self.tokens), len(tokens) - 1)
        common = min(self.checked, end)
        while common < end and self.tokens[common] == tokens[common]:
            common += 1
        differed = common < len(self.tokens)
        del self.tokens[common:]
        self.checked = common
        return differed


class DraftCache:
    """The sequences of a draft model, and who has which blocks."""

    def __init__(self, *, num_blocks: int, block_size: int, prefix_caching: bool = True) -> None:
        """Without `prefix_caching`, prefixes are shared within a group of requests alone."""
        self._pool = BlockPool(num_blocks=num_blocks, block_size=block_size)
        self._prefix_caching = prefix_caching
        self._sequences: OrderedDict[str, DraftSequence] = OrderedDict()
        """By request, the one that was asked about longest ago first."""
        self._ended: list[int] = []
        self._count = 0
        self._round = 0

    def __len__(self) -> int:
        """Sequences that something is kept of."""
        return len(self._sequences)

    @property
    def free(self) -> int:
        """Blocks that nobody has."""
        return self._pool.free

    def begin_round(self) -> None:
        """Sequences are about to be asked about."""
        self._round += 1

    def find(self, request: Request) -> DraftSequence:
        """The sequence of a request, a new one where there is none."""
        seq = self._sequences.get(request.id)
        if seq is not None and seq.request is not request:  # another one of the same name
            self.forget(request.id)
            seq = None
        if seq is None:
            self._count += 1
            salt = salt_of(request, prefix_caching=self._prefix_caching)
            seq = self._sequences[request.id] = DraftSequence(self._count, request, salt)
        self._sequences.move_to_end(request.id)
        seq.round = self._round
        return seq

    def attach(self, seq: DraftSequence, tokens: Seq[int]) -> None:
        """Give a sequence of these tokens, of which none is stored, what is stored of their prefix.

        The last token is never among it, since somebody must compute what comes after it.
        """
        if seq.tokens or seq.salt is None:
            return
        size = self._pool.block_size
        seq.hashes += block_hashes(tokens, size, seq.salt, seq.hashes)
        hits = self._pool.match(seq.hashes[: (len(tokens) - 1) // size])
        self._pool.acquire(hits)
        self._pool.release(seq.blocks[: len(hits)])
        seq.blocks[: len(hits)] = hits
        seq.tokens[:] = tokens[: len(hits) * size]
        seq.checked, seq.cached = len(seq.tokens), len(hits)

    def advance(self, seq: DraftSequence, tokens: Seq[int]) -> None:
        """Note that more is stored of a sequence, up to the end of `tokens` at most without drafts:
        full blocks may be found from now on."""
        size = self._pool.block_size
        seq.checked = min(len(seq.tokens), len(tokens))
        full = slice(seq.cached, seq.checked // size)
        if seq.salt is None or full.start >= full.stop:
            return
        seq.hashes += block_hashes(tokens, size, seq.salt, seq.hashes)
        for block, name in zip(seq.blocks[full], seq.hashes[full], strict=True):
            self._pool.cache(block, name)
        seq.cached = full.stop

    def reserve(self, seq: DraftSequence, positions: int) -> bool:
        """Give a sequence the blocks for so many tokens in all, if they can be had."""
        needed = -(-positions // self._pool.block_size) - len(seq.blocks)
        if needed <= 0:
            return True
        missing, idle = needed - self._pool.free, []
        for other in self._sequences.values():
            if missing <= 0 or self._round - other.round < IDLE_ROUNDS:
                break
            idle.append(other)
            missing -= len(other.blocks)
        if missing > 0:
            return False
        for other in idle:
            self.forget(other.request.id)
        if needed > self._pool.free:  # they shared some with others
            return False
        seq.blocks += self._pool.take(needed)
        return True

    def leave(self, seq: DraftSequence) -> None:
        """The runner is to forget a sequence; what is stored of it stays."""
        if seq.entered:
            self._ended.append(seq.number)
            seq.entered = False

    def forget(self, request_id: str) -> None:
        """Keep nothing of a request; harmless for one that is unknown."""
        seq = self._sequences.pop(request_id, None)
        if seq is not None:
            self.release(seq)

    def release(self, seq: DraftSequence) -> None:
        """Take all blocks back from a sequence, which starts over if it is asked about again."""
        self.leave(seq)
        self._pool.release(seq.blocks)
        seq.blocks, seq.tokens, seq.checked, seq.cached = [], [], 0, 0

    def fail(self, seq: DraftSequence) -> None:
        """Nothing can be sampled for a sequence: nobody is to find what is stored of it either."""
        seq.failed = True
        self._pool.invalidate(seq.blocks)
        self.release(seq)

    def take_ended(self) -> list[int]:
        """The sequences that the runner is to forget, since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def check(self) -> None:
        """Raise `AssertionError` where a block is lost, or has two owners."""
        self._pool.check()
        held = len({block for seq in self._sequences.values() for block in seq.blocks})
        if held + self._pool.free != self._pool.num_blocks:
            raise AssertionError(f"{held} blocks are held, {self._pool.free} free")
