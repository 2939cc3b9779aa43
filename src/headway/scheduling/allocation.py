"""From a policy's decision to the tokens that each sequence computes: blocks are given out here.

Running sequences come first, in the order of the decision; then candidates are admitted. A running
sequence that finds no free block preempts those behind it in the queue, the last first. So the
first in the queue always goes on, and nobody loses anything to somebody behind.
"""

from __future__ import annotations

from headway.scheduling.admission import Candidates, blocks_for
from headway.scheduling.policy import Decision
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence
from headway.types import Limits

ScheduledTokens = dict[Sequence, int]


def allocate(
    decision: Decision, *, candidates: Candidates, queues: Queues, limits: Limits, step: int
) -> ScheduledTokens:
    """Tokens for each sequence of the step, with the blocks to store them."""
    scheduled: ScheduledTokens = {}
    admitted: list[tuple[Sequence, int]] = []
    partial_left = limits.max_num_partial_prefills
    size, live = queues.pool.block_size, queues.live
    for number, wanted in decision.tokens:
        seq = live[number]
        if wanted == 1 == seq.todo and seq.computed < len(seq.blocks) * size:
            # Nearly always: a decode whose last block has room, as no block of one that waits has.
            seq.active_step = step
            scheduled[seq] = 1
            continue
        if seq.state == "waiting":
            admitted.append((seq, wanted))
            continue
        count = _make_room(seq, wanted, candidates=candidates, queues=queues, scheduled=scheduled)
        if 0 < count < seq.todo:
            count = count if partial_left else 0
            partial_left -= 1 if count else 0
        if count:
            take_blocks(seq, count, queues)
            seq.active_step = step
            scheduled[seq] = count
    if candidates.offered:
        _admit(
            admitted,
            candidates=candidates,
            queues=queues,
            scheduled=scheduled,
            partial_left=partial_left,
        )
    return scheduled


def preempt(decision: Decision, *, candidates: Candidates, queues: Queues) -> None:
    """Preempt whom the policy names; raises `ValueError` where one does not run, or may not be."""
    candidates.withdraw()
    for numbers, move in (
        (decision.preempt, queues.preempt),
        (decision.give_way, queues.give_way),
    ):
        for number in numbers:
            seq = queues.live.get(number)
            if seq is None or seq.state != "running" or not seq.preemptible:
                raise ValueError(
                    f"the policy preempts sequence {number}, which cannot be preempted"
                )
            move(seq)


def _admit(
    admitted: list[tuple[Sequence, int]],
    *,
    candidates: Candidates,
    queues: Queues,
    scheduled: ScheduledTokens,
    partial_left: int,
) -> None:
    """Admit the offered sequences that were decided on; the others give their hits back."""
    wanted = dict(admitted)
    for seq in candidates.offered:
        if seq not in wanted:
            queues.prefixes.free(seq)
            continue
        queues.admit(seq)
        count = min(wanted[seq], _room(seq, queues))
        if 0 < count < seq.todo:
            count = count if partial_left else 0
            partial_left -= 1 if count else 0
        if count and not seq.deferred:
            take_blocks(seq, count, queues)
            scheduled[seq] = count


def _make_room(
    seq: Sequence,
    wanted: int,
    *,
    candidates: Candidates,
    queues: Queues,
    scheduled: ScheduledTokens,
) -> int:
    """Room for one token at least, if those behind can give it; how many of `wanted` fit.

    First nobody is admitted; then the last in the queue is preempted, and so on. One that has
    nobody behind it to preempt pauses with its blocks until those ahead of it end.
    """
    if not wanted or seq.deferred:
        return 0
    while (room := _room(seq, queues)) < 1:
        if candidates.offered:
            candidates.withdraw()
            continue
        victim = _victim_behind(seq, queues)
        if victim is None:
            return 0
        scheduled.pop(victim, None)
        queues.preempt(victim)
    return min(wanted, room)


def _victim_behind(seq: Sequence, queues: Queues) -> Sequence | None:
    """The last of those behind whose callers hold most; nobody whose caller holds fewer."""
    victim, most = None, queues.waiting.claim(seq)
    for other in reversed(queues.running.sequences):
        if other is seq:
            break
        if other.blocks and other.preemptible:
            claim = queues.waiting.claim(other)
            if claim > most or (victim is None and claim == most):
                victim, most = other, claim
    return victim


def _room(seq: Sequence, queues: Queues) -> int:
    """Tokens that the sequence can store now, taking every free block if need be."""
    pool = queues.pool
    return (len(seq.blocks) + pool.free) * pool.block_size - seq.computed


def take_blocks(seq: Sequence, count: int, queues: Queues) -> None:
    """Give the sequence the blocks that its next `count` tokens need; they must be free."""
    size = queues.pool.block_size
    if seq.computed + count > len(seq.blocks) * size:
        needed = blocks_for(seq.computed + count, size) - len(seq.blocks)
        seq.blocks += queues.pool.take(needed)
