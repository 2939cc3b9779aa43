"""What a policy sees, what it answers, and the one way to fill a step that all of them share.

A policy decides who computes how many tokens in the next step. It writes nothing, reads no clock
and knows no blocks: allocation, prefix hits, memory-aware admission and preemption are the
scheduler's, which may give less than was decided but never more. Same view, same decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from headway.types import Limits


class SequenceView(Protocol):
    """A sequence as a policy sees it."""

    @property
    def id(self) -> int: ...

    @property
    def todo(self) -> int:
        """Tokens known but not computed: 1 for a sequence that decodes, never 0."""
        ...

    @property
    def held(self) -> bool:
        """Another sequence computes the same prefix right now: compute nothing, soon it hits."""
        ...

    @property
    def arrival(self) -> float: ...

    @property
    def priority(self) -> int: ...


class Waiting(Protocol):
    """The sequences that wait, by (priority, arrival).

    Iterating offers those that may board now, as far as seats and memory go; to look at one is to
    suppose that all before it board. `len` counts all who wait, offered or not.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SequenceView]: ...

    def oldest_arrival(self) -> float:
        """Clock seconds; there must be somebody."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state of the engine at the start of a step."""

    now: float
    running: Seq[SequenceView]
    """By (priority, arrival)."""
    waiting: Waiting
    limits: Limits
    seats: int
    """How many more sequences may board."""
    departed: int
    """How many have boarded since nobody was running."""
    free_blocks: int
    block_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Pairs (sequence id, tokens), in the order in which memory goes to them.

    A waiting sequence in a pair boards, even with no token yet. Where there are no pairs,
    `ask_again` is the time at which the answer may change by itself (None: only by an arrival).
    """

    shares: Seq[tuple[int, int]] = ()
    idle_slots: int = 0
    """Slots of a departed batch whose sequences have ended while others go on."""
    ask_again: float | None = None


class Policy(Protocol):
    """Decides each step's batch."""

    @property
    def timeless(self) -> bool:
        """While all on board decode and nobody may board, neither `now` nor `free_blocks` matters.

        A simulator may then skip ahead through such steps.
        """
        ...

    def decide(self, view: View) -> Decision: ...


def fill(
    view: View, boarding: Iterable[SequenceView] = (), *, seat_all: bool = False
) -> list[tuple[int, int]]:
    """Decodes first, then prefills in order, then whoever boards, within the step's limits.

    Where several partial prefills are allowed, each first gets an equal ration, so that a short
    prompt passes a long one; what is left goes to the earliest. With `seat_all` everybody in
    `boarding` boards, even with no token yet; otherwise boarding stops where nothing is left.
    """
    decodes: list[tuple[int, int]] = []
    prefills: list[SequenceView] = []
    for seq in view.running:
        if seq.todo == 1:
            decodes.append((seq.id, 1))
        elif not seq.held:
            prefills.append(seq)
    budget = view.limits.max_num_batched_tokens - len(decodes)
    if not budget and not seat_all:
        return decodes
    partial_left = view.limits.max_num_partial_prefills
    ration = max(1, budget // partial_left)
    counts: dict[int, int] = {}
    cut: list[tuple[int, int]] = []
    for seq in chain(prefills, boarding):
        todo = seq.todo
        count = 0 if seq.held else min(todo, budget)
        if count < todo or count > ration:
            # It does not fit as a whole, or not beside the rations of others.
            count = min(count, ration) if partial_left else 0
            if count:
                cut.append((seq.id, todo - count))
                partial_left -= 1
        if not count and not seq.held and not seat_all:
            break
        counts[seq.id] = count
        budget -= count
        if not budget and not seat_all:
            break
    for number, missing in cut:
        more = min(missing, budget)
        counts[number] += more
        budget -= more
    return [*decodes, *counts.items()]


def board_whole_batch(view: View) -> Decision:
    """A departure: everybody who finds a seat boards, and keeps it until the last one ends."""
    return Decision(shares=fill(view, view.waiting, seat_all=True))


def run_on(view: View) -> Decision:
    """Between departures: those on board go on, and nobody else boards."""
    return Decision(shares=fill(view), idle_slots=view.departed - len(view.running))
