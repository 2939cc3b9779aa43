"""Fast-forward: many uneventful steps at the cost of one.

Between two events (a sequence arrives, is admitted, ends, runs out of memory) every step is the
same: each running sequence decodes one token. A simulator asks how many such steps are certain to
come, up to one that ends a sequence, and has them done at once: tokens noted, blocks taken and
cached in the very order in which stepping would have, so that nothing later can tell the
difference. What is not certain is not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from typing import NamedTuple

from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence

_TAKES, _CACHES = 0, 1


class FastForward(NamedTuple):
    """Steps in which every running sequence decodes a token, and none ends before the last."""

    steps: int
    idle_slots: int = 0
    """Of each of them."""
    until: float | None = None
    """Only those of them that begin before that time (clock seconds) are certain."""


class NoCandidates:
    """The `candidates` of a policy's view when none may be admitted; knows whether it looked."""

    def __init__(self) -> None:
        self.looked = False

    def __iter__(self) -> Iterator[Sequence]:
        self.looked = True
        yield from ()

    def offer(self, _: Sequence) -> bool:
        self.looked = True
        return False


def all_decode(tokens: Seq[tuple[int, int]], running: Seq[Sequence]) -> bool:
    """Whether the decision is one token for each running sequence, and each is under way."""
    return len(tokens) == len(running) and all(
        pair == (seq.id, 1)
        and seq.todo == 1
        and seq.entered
        and seq.first_token_at is not None
        and not seq.deferred
        for pair, seq in zip(tokens, running, strict=True)
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


def decode_all(queues: Queues, steps: int, tokens: Mapping[int, Seq[int]], last_step: int) -> None:
    """Every running sequence makes so many decodes; `tokens` has what each of them sampled.

    A block is taken when the step that needs it is planned, and cached when the step that fills it
    is committed: so the takes of a step come before its caching, both in the queue's order.
    """
    running = queues.running.sequences
    size = queues.pool.block_size
    moments: list[tuple[int, int, int]] = []
    for index, seq in enumerate(running):
        room = len(seq.blocks) * size - seq.computed
        if room < steps:
            moments += [(at, _TAKES, index) for at in range(room, steps, size)]
        filling = size - 1 - seq.computed % size
        if filling < steps and seq.salt is not None:
            moments += [(at, _CACHES, index) for at in range(filling, steps, size)]
    ends = [len(seq.tokens) + steps for seq in running]
    for at, kind, index in sorted(moments):
        seq = running[index]
        if kind == _TAKES:
            seq.blocks += queues.pool.take(1)
        else:
            made, known = tokens[seq.id], ends[index] - steps
            # Named as stepping would: before the step's own token is known.
            seq.tokens += made[len(seq.tokens) - known : at]
            queues.prefixes.advance(seq, known + at)
    for seq, end in zip(running, ends, strict=True):
        made = tokens[seq.id]
        missing = end - len(seq.tokens)
        seq.tokens += made if missing == steps else made[steps - missing :]
        seq.computed, seq.todo = end - 1, 1
        seq.active_step = last_step
