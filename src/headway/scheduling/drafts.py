"""Speculation: draft tokens are computed along with a decode, and those that were right are kept.

A runner samples after the last known token and after every draft, and gives the tokens up to the
first that differs from its draft (Leviathan et al., "Fast inference from transformers via
speculative decoding", ICML 2023). Since a token depends on those before it, the seed and its
position alone, these are exactly the tokens that one step for each would have given, whatever the
drafts were. Drafts never take memory or tokens from anything else that the step computes.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Protocol

from headway.scheduling.allocation import ScheduledTokens, take_blocks
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence
from headway.types import Limits, Request

Drafts = dict[Sequence, Seq[int]]


class Proposer(Protocol):
    """Guesses how sequences go on. The same tokens must give the same drafts."""

    def may_propose(self, request: Request) -> bool:
        """Whether there may ever be drafts for a request; the others are not asked about."""
        ...

    def propose(self, request: Request, tokens: Seq[int], most: int) -> Seq[int]:
        """Up to `most` tokens that may follow `tokens`, all that are known of the request so far.

        They must be in the model's vocabulary. Empty: no guess.
        """
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
        found = proposer.propose(seq.request, seq.tokens, most)[:most] if most > 0 else ()
        if found:
            take_blocks(seq, 1 + len(found), queues)
            drafts[seq] = found
            seq.drafted = True
            budget -= len(found)
    return drafts
