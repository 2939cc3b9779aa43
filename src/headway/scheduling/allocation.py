"""From a policy's decision to who computes how much: memory is given out here, or taken away.

Running sequences come first, in the order of the decision; then the offered ones board. A running
sequence that finds no block takes it from those behind it in line, last first. So the first in line
always goes on, and nobody loses anything to somebody behind.
"""

from __future__ import annotations

from headway.scheduling.admission import Candidates, blocks_for
from headway.scheduling.policy import Decision
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence
from headway.types import Limits

ScheduledTokens = dict[Sequence, int]


def allocate(
    decision: Decision, *, offers: Candidates, roster: Queues, limits: Limits, step: int
) -> ScheduledTokens:
    """Tokens for each sequence of the step, with the blocks to store them."""
    grants: ScheduledTokens = {}
    boarding: list[tuple[Sequence, int]] = []
    partial_left = limits.max_num_partial_prefills
    size, live = roster.pool.block_size, roster.live
    for number, wanted in decision.shares:
        seq = live[number]
        if seq.state == "running":
            if wanted == seq.todo == 1 and seq.computed < len(seq.blocks) * size:
                # Nearly always: a decode whose last block has room.
                seq.active_step = step
                grants[seq] = 1
                continue
            count = _make_room(seq, wanted, offers=offers, roster=roster, grants=grants)
        else:
            boarding.append((seq, wanted))
            continue
        if 0 < count < seq.todo:
            count = count if partial_left else 0
            partial_left -= 1 if count else 0
        if count:
            _take_blocks(seq, count, roster)
            seq.active_step = step
            grants[seq] = count
    if offers.offered:
        _board(boarding, offers=offers, roster=roster, grants=grants, partial_left=partial_left)
    return grants


def _board(
    boarding: list[tuple[Sequence, int]],
    *,
    offers: Candidates,
    roster: Queues,
    grants: ScheduledTokens,
    partial_left: int,
) -> None:
    """Seat the offered sequences that were decided on; the others give their hits back."""
    wanted = dict(boarding)
    for seq in offers.offered:
        if seq not in wanted:
            roster.prefixes.displace(seq)
            continue
        roster.board(seq)
        count = min(wanted[seq], _room(seq, roster))
        if 0 < count < seq.todo:
            count = count if partial_left else 0
            partial_left -= 1 if count else 0
        if count and not seq.held:
            _take_blocks(seq, count, roster)
            grants[seq] = count


def _make_room(
    seq: Sequence, wanted: int, *, offers: Candidates, roster: Queues, grants: ScheduledTokens
) -> int:
    """Room for one token at least, if those behind can give it; how many of `wanted` fit.

    First nobody boards; then the last in line is preempted, and so on. One that has nobody behind
    it to preempt pauses with its blocks until those ahead of it end.
    """
    if not wanted or seq.held:
        return 0
    while (room := _room(seq, roster)) < 1:
        if offers.offered:
            offers.withdraw()
            continue
        victim = _victim_behind(seq, roster)
        if victim is None:
            return 0
        grants.pop(victim, None)
        roster.preempt(victim)
    return min(wanted, room)


def _victim_behind(seq: Sequence, roster: Queues) -> Sequence | None:
    for other in reversed(roster.running.sequences):
        if other is seq:
            break
        if other.blocks and not other.immune:
            return other
    return None


def _room(seq: Sequence, roster: Queues) -> int:
    """Tokens that the sequence can store now, taking every free block if need be."""
    pool = roster.pool
    return (len(seq.blocks) + pool.free) * pool.block_size - seq.computed


def _take_blocks(seq: Sequence, count: int, roster: Queues) -> None:
    size = roster.pool.block_size
    if seq.computed + count > len(seq.blocks) * size:
        needed = blocks_for(seq.computed + count, size) - len(seq.blocks)
        seq.blocks += roster.pool.take(needed)
