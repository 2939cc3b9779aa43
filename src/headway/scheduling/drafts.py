"""Speculation: draft tokens are computed along with a decode, and those that were right are kept.

A runner samples after the last known token and after every draft, and gives the tokens up to the
first that differs from its draft (Leviathan et al., "Fast inference from transformers via
speculative decoding", ICML 2023). Since a token depends on those before it, the seed and its
position alone, these are exactly the tokens that one step for each would have given, whatever the
drafts were. Drafts never take memory or tokens from anything else that the step computes.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import NamedTuple, Protocol

from headway.scheduling.allocation import ScheduledTokens, take_blocks
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence
from headway.types import Limits, Request

Drafts = dict[Sequence, Seq[int]]


class Wanted(NamedTuple):
    """A sequence that is about to decode, and how many drafts are wanted for it."""

    request: Request
    tokens: Seq[int]
    """All that are known, prompt and generated. They must not be changed, and will be longer in the
    next step."""
    most: int
    """Most drafts: at least 1."""


class Guess(NamedTuple):
    """How a sequence may go on."""

    tokens: Seq[int] = ()
    """Of the model's vocabulary. Empty: no guess; more than were wanted are cut off."""
    kind: str = ""
    """Guesses of one proposer and one kind are right about as often: whoever decides how many
    drafts pay learns by it. There must be few kinds."""


class Proposer(Protocol):
    """Guesses how sequences go on."""

    @property
    def source(self) -> str:
        """A name for people and for what is learned, such as "ngram"."""
        ...

    @property
    def seconds(self) -> float:
        """What the last `propose` took: 0.0 where that is next to nothing beside a step. It is not
        learned as the step's own time."""
        ...

    def may_propose(self, request: Request) -> bool:
        """Whether there may ever be drafts for a request; the others are not asked about."""
        ...

    def cost(self, width: int) -> float:
        """Seconds that it takes to find one further draft for each of `width` sequences together;
        0.0 where that is next to nothing beside a step. It decides how many drafts are wanted."""
        ...

    def propose(self, wanted: Seq[Wanted]) -> Seq[Guess]:
        """A guess for each of a step's sequences, in their order. Right or wrong, no guess changes
        a token. An empty one is no wrong one; nothing is raised for any one of them."""
        ...

    def forget(self, request_id: str) -> None:
        """Nothing is asked about a request any more, or not for long: it has ended, was aborted, or
        was preempted. What is kept of it can go. It may be unknown."""
        ...


def propose_drafts(
    proposer: Proposer, scheduled: ScheduledTokens, queues: Queues, limits: Limits
) -> Drafts:
    """Drafts for the step's decodes, as far as its tokens and the free blocks allow."""
    drafts: Drafts = {}
    budget = limits.max_num_batched_tokens - sum(scheduled.values())
    pool = queues.pool
    for seq, count in scheduled.items():
        if not seq.may_draft or count != seq.todo or count > 1:
            continue
        room = (len(seq.blocks) + pool.free) * pool.block_size - seq.computed
        # The last token that a sequence may generate is never fed back.
        most = min(budget, room - 1, seq.left - 1)
        if most < 1:
            continue
        (guess,) = proposer.propose([Wanted(seq.request, seq.tokens, most)])
        found = guess.tokens[:most]
        if found:
            take_blocks(seq, 1 + len(found), queues)
            drafts[seq] = found
            seq.drafted = True
            budget -= len(found)
    return drafts
