"""What a policy sees, what it answers, and the one way to fill a step that policies share.

A policy decides which sequences compute how many tokens in the next step, in which order sequences
queue, and who must give memory back. It writes nothing, reads no clock and knows no blocks:
allocation, prefix hits and admission to the KV cache are the scheduler's, which may give less than
was decided but never more. Same view, same decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from headway.steptime.online import StepTimes
from headway.types import Limits, ServiceClass
from headway.types.objectives import Pace


class SequenceView(Protocol):
    """A sequence as a policy sees it. Times are in seconds on the engine's clock."""

    @property
    def id(self) -> int: ...

    @property
    def todo(self) -> int:
        """Tokens known but not computed: 1 for a sequence that decodes, never 0."""
        ...

    @property
    def computed(self) -> int:
        """Tokens whose keys and values are stored."""
        ...

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        ...

    @property
    def deferred(self) -> bool:
        """Another sequence computes the same prefix right now: compute nothing, soon it hits."""
        ...

    @property
    def preemptible(self) -> bool:
        """Whether it may be preempted: one that was so too often already may not."""
        ...

    @property
    def arrival(self) -> float: ...

    @property
    def first_token_at(self) -> float | None:
        """When its first token was there; None before."""
        ...

    @property
    def priority(self) -> int: ...

    @property
    def tenant(self) -> str: ...

    @property
    def caller(self) -> str:
        """Who queues as one within the tenant; empty where nobody said."""
        ...

    @property
    def group(self) -> str:
        """Whose prompt is the same: continuations of one prompt; empty where there is one."""
        ...

    @property
    def answering(self) -> bool:
        """Of the same request, another continuation was admitted: its client may have tokens."""
        ...

    @property
    def service_class(self) -> ServiceClass: ...

    @property
    def pace(self) -> Pace:
        """What its objectives ask."""
        ...

    @property
    def due(self) -> float:
        """When its next token is due by its TPOT; infinite without one, and before its first."""
        ...

    @property
    def late(self) -> bool:
        """A policy has relegated it."""
        ...


Tokens = Seq[tuple[int, int]]
"""Pairs (sequence id, number of tokens)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state of the engine at the start of a step. Sequences come in the policy's order."""

    now: float
    running: Seq[SequenceView]
    """Those in the batch, which have a slot and mostly blocks."""
    waiting: Seq[SequenceView]
    """All that wait, whether they could be admitted now or not."""
    waiting_later: Callable[[tuple[float, ...]], Iterator[SequenceView]]
    """Those of `waiting` whose callers have nobody of a standing before this one waiting."""
    candidates: Iterable[SequenceView]
    """Those of `waiting`, from its first, that may be admitted now, as far as free slots and memory
    go. To look at one is to suppose that all before it are admitted; its `todo` and `computed` then
    tell of its prefix hits."""
    limits: Limits
    free_slots: int
    """How many more sequences may be admitted."""
    launch_size: int
    """How many have been admitted since nobody was running: the size of a static batch."""
    whose_turn_ends: Callable[[], SequenceView | None]
    """The running sequence whose caller takes more than its fair share of the slots, so that its
    place is due to the first of `waiting`; None where it is nobody's. For when that one cannot be
    admitted; cheap where callers hold about as many."""
    offer: Callable[[int], bool]
    """Whether the one of `waiting` with this id may be admitted now, beside all that were offered
    before; it is then one of the candidates. For a policy with an order of its own."""
    uncached: Callable[[int], int]
    """Tokens that the one of `waiting` with this id likely has to compute: at least 1, and fewer
    than its `todo` by the prefix hits that it would have now. An estimate, cheap to ask for."""
    step: int
    """The number of the step."""
    paced: bool
    """Whether any live sequence has objectives."""
    step_times: StepTimes | None
    """What predicts the seconds of steps; None where nothing is known of the machine."""


def endless() -> float:
    """The seconds of a step that may take any."""
    return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy answers."""

    tokens: Tokens = ()
    """Who computes how much, in the order in which memory goes to them. A candidate that is listed
    is admitted, even with no token yet."""
    preempt: Seq[int] = ()
    """Running sequences that give their blocks and slots back and wait again. That is done at
    once, and the policy is asked again: the rest of this decision does not count."""
    give_way: Seq[int] = ()
    """As `preempt`, of sequences that `View.whose_turn_ends` named."""
    relegate: Seq[int] = ()
    """Waiting sequences that cannot be on time: they are `late` from now on."""
    shed: Seq[int] = ()
    """Waiting sequences that have computed nothing and are refused."""
    retry_after: float = 1.0
    """Seconds until those may find room."""
    ask_again: float | None = None
    """Until when this answer holds, if nothing happens but that time passes and every sequence
    decodes what it was given; None: as long as that may be. With no `tokens`, the engine sleeps
    until then at the longest; with some, a simulator may skip ahead through equal steps until then
    (`view.now`: none of them)."""
    most_seconds: Callable[[], float] = field(default=endless, compare=False)
    """Seconds that the step may take, nearly certainly, if drafts are added to it. Asked only where
    there may be some."""
    idle_slots: int = 0
    """For statistics: slots of a static batch whose sequences have ended while others go on."""


class Policy(Protocol):
    """Decides each step's batch. Policies inherit from it what they do not decide themselves."""

    reorder: bool = False
    """Whether `order` may change while a sequence is queued; both queues are then sorted before
    every decision."""
    fair: bool = True
    """Whether callers of one priority take turns in the waiting queue, and `order` says only which
    of a caller's sequences is first. A policy with an order of its own sets it False."""

    by_deadline: bool = False
    """Whether callers of one tenant that run equally much come in the policy's order, and not by
    what they were served."""

    def standing(self, seq: SequenceView) -> tuple[float, ...]:
        """What counts before any fairness between callers, smallest first."""
        return (seq.priority,)

    def order(self, seq: SequenceView) -> tuple[float, ...]:
        """The place in both queues among those of one standing, smallest first; equals go by
        submission.

        Running sequences that find no memory take it from the last ones.
        """
        return (seq.arrival,)

    def decide(self, view: View) -> Decision:
        """The next step's batch."""
        ...


def fill(
    view: View, candidates: Iterable[SequenceView] = (), *, admit_all: bool = False
) -> list[tuple[int, int]]:
    """Decodes first, then prefills in order, then `candidates`, within the step's limits.

    Where several partial prefills are allowed, each first gets an equal chunk, so that a short
    prompt passes a long one; what is left goes to the earliest. With `admit_all` all candidates are
    admitted, even with no token yet; otherwise admission stops where no tokens are left.
    """
    decodes = [(seq.id, 1) for seq in view.running if seq.todo == 1]
    prefills: list[SequenceView] = []
    if len(decodes) < len(view.running):
        prefills = [seq for seq in view.running if seq.todo > 1 and not seq.deferred]
    budget = view.limits.max_num_batched_tokens - len(decodes)
    if not budget and not admit_all:
        return decodes
    partial_left = view.limits.max_num_partial_prefills
    chunk = max(1, budget // partial_left)
    counts: dict[int, int] = {}
    cut: list[tuple[int, int]] = []
    for seq in chain(prefills, candidates):
        todo = seq.todo
        count = 0 if seq.deferred else min(todo, budget)
        if count < todo or count > chunk:
            # It does not fit as a whole, or not beside the chunks of others.
            count = min(count, chunk) if partial_left else 0
            if count:
                cut.append((seq.id, todo - count))
                partial_left -= 1
        if not count and not seq.deferred and not admit_all:
            break
        counts[seq.id] = count
        budget -= count
        if not budget and not admit_all:
            break
    for number, missing in cut:
        more = min(missing, budget)
        counts[number] += more
        budget -= more
    return [*decodes, *counts.items()]


def launch_batch(view: View) -> Decision:
    """A static batch starts: all candidates are admitted, and keep their slots to its end."""
    return Decision(tokens=fill(view, view.candidates, admit_all=True))


def continue_batch(view: View) -> Decision:
    """A static batch goes on: nobody is admitted before its last sequence has ended."""
    return Decision(tokens=fill(view), idle_slots=view.launch_size - len(view.running))
