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

    def decide(self, view: View) -> Decision: ...


def fill(
    view: View, boarding: Iterable[SequenceView] = (), *, seat_all: bool = False
) -> list[tuple[int, int]]:
    """Decodes first, then prefills in order, then whoever boards, within the step's limits.

    With `seat_all` everybody in `boarding` boards, those beyond the token budget with no token yet;
    otherwise boarding stops where the budget ends.
    """
    budget = view.limits.max_num_batched_tokens
    partial_left = view.limits.max_num_partial_prefills
    shares: list[tuple[int, int]] = []
    prefills: list[SequenceView] = []
    for seq in view.running:
        if seq.todo == 1:
            shares.append((seq.id, 1))
        elif not seq.held:
            prefills.append(seq)
    budget -= len(shares)
    if not budget and not seat_all:
        return shares
    for seq in chain(prefills, boarding):
        todo = seq.todo
        count = 0 if seq.held else min(todo, budget)
        if 0 < count < todo:
            count = count if partial_left else 0
            partial_left -= 1 if count else 0
        shares.append((seq.id, count))
        budget -= count
        if not budget and not seat_all:
            break
    return shares


def board_whole_batch(view: View) -> Decision:
    """A departure: everybody who finds a seat boards, and keeps it until the last one ends."""
    return Decision(shares=fill(view, view.waiting, seat_all=True))


def run_on(view: View) -> Decision:
    """Between departures: those on board go on, and nobody else boards."""
    return Decision(shares=fill(view), idle_slots=view.departed - len(view.running))
