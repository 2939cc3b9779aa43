"""Admission: whether a sequence fits, on arrival at all, and now beside those that run.

A sequence is admitted where the *peak* of block use that is predicted for all running sequences
fits the pool. Sequences that decode grow in lockstep, a token a step, and leave in the order of
their remaining lengths, so the peak lies at one of the ends. One that has not finished its prefill
may be delayed, so it counts with its final size throughout; so do all where drafts let some grow
faster than others.

Callers allow far more tokens than most answers use; reserving all of them would leave the batch
half empty. So a sequence that may stop early is expected to reach a high quantile of recent
lengths; once it has, to go on for half of what it has. A wrong estimate costs a preemption.

Candidates are offered to the policy in order, one at a time. An offered one holds its prefix hits
already, so that its `todo` is true, and those after it are judged as if it were admitted; if the
policy leaves it out, the hits are given back. The first that does not fit ends the offers: nobody
overtakes for being small, so a large request waits only until enough running ones have ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import ceil

from headway.errors import InvalidRequest, RequestTooLarge
from headway.scheduling.block_pool import BlockPool, PrefixCache
from headway.scheduling.queues import RequestQueue
from headway.scheduling.sequence import Sequence
from headway.scheduling.waiting import WaitingQueue
from headway.types import Limits, Request


def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // block_size)


def check_request(request: Request, limits: Limits, *, num_blocks: int, block_size: int) -> None:
    """Raise `InvalidRequest` that names the field if the request can never be served."""
    prompt, allowed = len(request.prompt), request.sampling.max_tokens
    if not prompt:
        raise InvalidRequest("the prompt is empty", field="prompt")
    if allowed < 1:
        raise InvalidRequest(f"max_tokens must be at least 1, got {allowed}", field="max_tokens")
    if prompt >= limits.max_model_len:
        raise RequestTooLarge(
            f"the prompt has {prompt} tokens; with one generated token at least, this exceeds the "
            f"context of {limits.max_model_len}",
            field="prompt",
        )
    if prompt + allowed > limits.max_model_len:
        raise RequestTooLarge(
            f"prompt ({prompt}) and max_tokens ({allowed}) exceed the context of "
            f"{limits.max_model_len} tokens",
            field="max_tokens",
        )
    # The last token is never fed back, so it is not stored.
    if blocks_for(prompt + allowed - 1, block_size) > num_blocks:
        raise RequestTooLarge(
            f"prompt ({prompt}) and max_tokens ({allowed}) exceed the KV cache of "
            f"{num_blocks * block_size} tokens",
            field="prompt" if blocks_for(prompt, block_size) > num_blocks else "max_tokens",
        )


def peak_blocks(growing: Iterable[tuple[int, int]], block_size: int) -> int:
    """An upper bound on the blocks that sequences which grow in lockstep ever have at once.

    `growing` has (remaining, stored) per sequence: steps until it leaves, and tokens stored before
    the first of them. When the k-th of the longest-lived leaves after r steps, the k have the sum
    of their stored tokens and k * r more, each with a last block that may be all but empty.
    """
    peak = total = 0
    slack = block_size - 1
    for count, (remaining, stored) in enumerate(sorted(growing, reverse=True), 1):
        total += stored
        peak = max(peak, (total + count * (remaining + slack)) // block_size)
    return peak


FIRST_GUESS = 256
WINDOW = 256
FEWEST = 8
QUANTILE = 0.8


class LengthEstimate:
    """A quantile of the lengths, in tokens, of the last generations that ended by themselves."""

    def __init__(self, *, first_guess: int = FIRST_GUESS) -> None:
        self._recent: deque[int] = deque(maxlen=WINDOW)
        self._typical = first_guess

    def learn(self, generated: int) -> None:
        """A generation has ended after so many tokens."""
        self._recent.append(generated)
        if len(self._recent) >= FEWEST:
            ranked = sorted(self._recent)
            self._typical = ranked[ceil(QUANTILE * len(ranked)) - 1]

    def remaining(self, generated: int) -> int:
        """Expected further tokens, at least 1, of a sequence that has `generated` so far."""
        return max(1, self._typical - generated, generated // 2)


class KVEstimate:
    """The block use that is predicted for the running sequences.

    With `reserve_all` nothing is predicted: each counts with all the tokens that its caller allows,
    shared prefixes included, as if its memory were one piece that is set aside on admission. Where
    they do not grow in `lockstep`, final sizes count instead of the peak.
    """

    def __init__(
        self,
        pool: BlockPool,
        lengths: LengthEstimate,
        running: RequestQueue,
        *,
        reserve_all: bool = False,
        lockstep: bool = True,
    ) -> None:
        self._pool = pool
        self._lengths = lengths
        self._running = list(running)
        self._peaks = lockstep and not reserve_all
        self._certain = reserve_all or not all(seq.preemptible for seq in running)
        self._final = sum(map(self._final_blocks, self._running))

    def fits(self, seq: Sequence) -> bool:
        """Whether the sequence, which holds its hits, fits too. If so it counts from now on."""
        # While one that runs must not be preempted again, none is guessed to be short.
        if not seq.preemptible and not self._certain:
            self._certain = True
            self._final = sum(map(self._final_blocks, self._running))
        self._running.append(seq)
        self._final += self._final_blocks(seq)
        # The sum of all final sizes bounds the peak and is cheap; mostly it is enough.
        most = self._pool.num_blocks
        if self._final <= most or (self._peaks and self._peak() <= most):
            return True
        self._running.pop()
        self._final -= self._final_blocks(seq)
        return False

    def _remaining(self, seq: Sequence) -> int:
        if self._certain or not seq.stop_ids:
            return seq.left
        return min(seq.left, self._lengths.remaining(seq.generated))

    def _final_blocks(self, seq: Sequence) -> int:
        return blocks_for(len(seq.tokens) + self._remaining(seq) - 1, self._pool.block_size)

    def _peak(self) -> int:
        """Shared blocks stay until the last sequence leaves: they count once, and always."""
        size = self._pool.block_size
        steady = self._pool.num_blocks - self._pool.free
        growing = []
        for seq in self._running:
            shared = self._pool.shared(seq.blocks)
            steady -= len(seq.blocks) - shared
            if seq.todo == 1 and seq.state == "running":
                growing.append((self._remaining(seq), len(seq.tokens) - 1 - shared * size))
            else:
                steady += self._final_blocks(seq) - shared
        return steady + peak_blocks(growing, size)


class Candidates:
    """The `candidates` of a policy's view, for one decision."""

    def __init__(
        self,
        *,
        waiting: WaitingQueue,
        estimate: Callable[[], KVEstimate] | None,
        prefixes: PrefixCache,
        free_slots: int,
        step: int,
    ) -> None:
        self._waiting = waiting
        self._make_estimate = estimate
        self._estimate: KVEstimate | None = None
        self._prefixes = prefixes
        self._free_slots = free_slots
        self._step = step
        self.offered: list[Sequence] = []
        self.refused: Sequence | None = None
        """The first for which there is a slot but no memory."""

    def __iter__(self) -> Iterator[Sequence]:
        """Offer sequences; a second iteration starts with those that were offered before."""
        if self._make_estimate is None:
            return
        for index, seq in enumerate(self._waiting):
            if index >= len(self.offered) and not self.offer(seq):
                return
            yield seq

    def offer(self, seq: Sequence) -> bool:
        """Whether this waiting sequence, which was not offered yet, fits beside the offered ones;
        if so it is the next of them."""
        if (
            self._make_estimate is None
            or self.refused is not None
            or len(self.offered) >= self._free_slots
        ):
            return False
        if self._estimate is None:
            self._estimate = self._make_estimate()
        self._prefixes.attach(seq, self._step)
        if not self._estimate.fits(seq):
            self._prefixes.free(seq)
            self.refused = seq
            return False
        self.offered.append(seq)
        return True

    def withdraw(self) -> None:
        """Nobody is admitted: the offered ones give their hits back."""
        for seq in self.offered:
            self._prefixes.free(seq)
        self.offered.clear()
