"""Skipping ahead: many uneventful steps at the cost of one.

Between two events (somebody arrives, boards, ends, runs out of memory) every step is the same: each
running sequence decodes one token. A simulator asks how many such steps are certain to come, up to
one that ends somebody, and has them done at once: tokens noted, blocks taken and sealed in the very
order in which stepping would have, so that nothing later can tell the difference. What is not
certain is not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from typing import NamedTuple

from headway.scheduling.queues import Queues, RequestQueue
from headway.scheduling.sequence import Sequence

TAKES, SEALS = 0, 1


class FastForward(NamedTuple):
    """Steps in which every running sequence decodes a token, and nobody leaves before the last."""

    steps: int
    idle_slots: int = 0
    """Of each of them."""


class ClosedQueue:
    """`Waiting` of the policies when nobody may board; it knows whether a policy cared."""

    def __init__(self, waiting: RequestQueue) -> None:
        self._waiting = waiting
        self.looked = False

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_arrival(self) -> float:
        return min(seq.arrival for seq in self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        self.looked = True
        yield from ()


def all_decode(shares: Seq[tuple[int, int]], running: Seq[Sequence]) -> bool:
    """Whether the decision is one token for each running sequence, and each is under way."""
    return len(shares) == len(running) and all(
        share == (seq.id, 1)
        and len(seq.tokens) - seq.computed == 1
        and seq.entered
        and seq.announced
        and not seq.held
        for share, seq in zip(shares, running, strict=True)
    )


def steps_until_an_end(running: Seq[Sequence]) -> int:
    """Steps after which the first one has all the tokens that it was allowed."""
    return min([seq.full_length - len(seq.tokens) for seq in running])


def steps_with_room(running: Seq[Sequence], most: int, *, free: int, block_size: int) -> int:
    """Of `most` steps, those for which the free blocks are enough."""
    if most <= 0:
        return 0
    room = [len(seq.blocks) * block_size - seq.computed for seq in running]

    def needed(steps: int) -> int:
        return sum(-(-(steps - left) // block_size) for left in room if steps > left)

    if free >= len(room) * (-(-most // block_size) + 1) or needed(most) <= free:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= free else (low, middle)
    return low


def advance(roster: Queues, steps: int, tokens: Mapping[int, Seq[int]], *, last_step: int) -> None:
    """Every running sequence makes so many decodes; `tokens` has what each of them sampled.

    A block is taken when the step that needs it is planned, and sealed when the step that fills it
    is committed: so the takes of a step come before its seals, both in the order of the line.
    """
    running = roster.running.sequences
    size = roster.pool.block_size
    moments: list[tuple[int, int, int]] = []
    for index, seq in enumerate(running):
        room = len(seq.blocks) * size - seq.computed
        if room < steps:
            moments += [(at, TAKES, index) for at in range(room, steps, size)]
        filling = size - 1 - seq.computed % size
        if filling < steps and seq.salt is not None:
            moments += [(at, SEALS, index) for at in range(filling, steps, size)]
    ends = [len(seq.tokens) + steps for seq in running]
    for at, kind, index in sorted(moments):
        seq = running[index]
        if kind == TAKES:
            seq.blocks += roster.pool.take(1)
        else:
            made, known = tokens[seq.id], ends[index] - steps
            # Named as stepping would: before the step's own token is known.
            seq.tokens += made[len(seq.tokens) - known : at]
            roster.prefixes.advance(seq, known + at)
    for seq, end in zip(running, ends, strict=True):
        made = tokens[seq.id]
        missing = end - len(seq.tokens)
        seq.tokens += made if missing == steps else made[steps - missing :]
        seq.computed = end - 1
        seq.furthest = max(seq.furthest, end - 1)
        seq.active_step = last_step
