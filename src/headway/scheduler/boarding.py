"""Who may board in this step: the waiting line as a policy sees it, with memory behind it.

Sequences are offered in order, one at a time. An offered one holds its prefix hits already, so that
its `todo` is true and those after it are judged with it on board; if the policy leaves it behind,
the hits are given back. The first that does not fit ends the offers: nobody overtakes for being
small, so a large request waits only until enough of those on board have left.
"""

from __future__ import annotations

from collections.abc import Iterator

from headway.blocks import BlockPool
from headway.scheduler.admission import blocks_for, peak_blocks
from headway.scheduler.lengths import LengthEstimate
from headway.scheduler.line import Line
from headway.scheduler.prefixes import Prefixes
from headway.scheduler.sequence import Sequence


class Forecast:
    """The block use that is predicted for the sequences on board.

    With `reserve_all` nothing is predicted: everybody counts with all the tokens that its caller
    allows, shared prefixes included, as if its memory were one piece that is set aside on boarding.
    """

    def __init__(
        self, pool: BlockPool, lengths: LengthEstimate, running: Line, *, reserve_all: bool = False
    ) -> None:
        self._pool = pool
        self._lengths = lengths
        self._on_board = list(running)
        self._reserve_all = reserve_all
        self._certain = reserve_all or any(seq.immune for seq in running)
        self._final = sum(map(self._final_blocks, self._on_board))

    def fits(self, seq: Sequence) -> bool:
        """Whether the sequence, which holds its hits, fits too. If so it counts from now on."""
        # While somebody on board must not be preempted again, nobody is guessed to be short.
        if seq.immune and not self._certain:
            self._certain = True
            self._final = sum(map(self._final_blocks, self._on_board))
        self._on_board.append(seq)
        self._final += self._final_blocks(seq)
        # The sum of all final sizes bounds the peak and is cheap; mostly it is enough.
        most = self._pool.num_blocks
        if self._final <= most or (not self._reserve_all and self._peak() <= most):
            return True
        self._on_board.pop()
        self._final -= self._final_blocks(seq)
        return False

    def _remaining(self, seq: Sequence) -> int:
        if self._certain or not seq.stop_ids:
            return seq.left
        return min(seq.left, self._lengths.remaining(seq.generated))

    def _final_blocks(self, seq: Sequence) -> int:
        return blocks_for(len(seq.tokens) + self._remaining(seq) - 1, self._pool.block_size)

    def _peak(self) -> int:
        """Blocks with several holders stay until the last leaves: they count once, and always."""
        size = self._pool.block_size
        steady = self._pool.num_blocks - self._pool.free
        growing = []
        for seq in self._on_board:
            shared = self._pool.shared(seq.blocks)
            steady -= len(seq.blocks) - shared
            if seq.todo == 1 and seq.state == "running":
                growing.append((self._remaining(seq), len(seq.tokens) - 1 - shared * size))
            else:
                steady += self._final_blocks(seq) - shared
        return steady + peak_blocks(growing, size)


class Offers:
    """`Waiting` of the policies, for one step."""

    def __init__(
        self, *, waiting: Line, forecast: Forecast | None, prefixes: Prefixes, seats: int, step: int
    ) -> None:
        self._waiting = waiting
        self._forecast = forecast
        self._prefixes = prefixes
        self._seats = seats
        self._step = step
        self.offered: list[Sequence] = []
        self.refused: Sequence | None = None
        """The first for whom there is a seat but no memory."""

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_arrival(self) -> float:
        return min(seq.arrival for seq in self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        """Offer sequences; a second iteration starts with those that were offered before."""
        if self._forecast is None:
            return
        for index, seq in enumerate(self._waiting):
            if index >= self._seats or self.refused is seq:
                return
            if index == len(self.offered):
                self._prefixes.place(seq, self._step)
                if not self._forecast.fits(seq):
                    self._prefixes.displace(seq)
                    self.refused = seq
                    return
                self.offered.append(seq)
            yield seq

    def withdraw(self) -> None:
        """Nobody boards after all: the offered ones give their hits back."""
        for seq in self.offered:
            self._prefixes.displace(seq)
        self.offered.clear()
