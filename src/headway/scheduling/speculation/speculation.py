"""Speculation: draft tokens are computed along with a decode, and those that were right are kept.

A runner samples after the last known token and after every draft, and gives the tokens up to the
first that differs from its draft (Leviathan et al., "Fast inference from transformers via
speculative decoding", ICML 2023). Since a token depends on those before it, the seed and its
position alone, these are exactly the tokens that one step for each would have given, whatever the
drafts were. Drafts never take memory or tokens from anything else that the step computes.

What may follow is guessed by proposers; how many of these drafts are worth computing is up to a
rule, of which there are two: all of them (here), or those that pay (`paying`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headway.scheduling.allocation import ScheduledTokens, take_blocks
from headway.scheduling.drafts import Proposer, Wanted
from headway.scheduling.policy.base import endless
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence
from headway.scheduling.speculation.acceptance import Kind
from headway.types import Limits
from headway.types.speculation import MOST_BATCH, MOST_DRAFTS

Drafts = dict[Sequence, Seq[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftStep:
    """A step that is planned but for its drafts."""

    number: int
    decodes: Seq[Sequence]
    others: Seq[tuple[Sequence, int]]
    """Those that compute parts of their prompts, or several tokens again, and how many."""
    most: Mapping[Sequence, int]
    """Of decodes that may have drafts: how many at most, at least 1."""
    most_tokens: int
    """Most drafts in all."""
    most_seconds: Callable[[], float] = endless
    """What the step may take at most, nearly certainly."""


class FoundDrafts(NamedTuple):
    """A guess at how a sequence goes on, not empty, and whose it is."""

    tokens: Seq[int]
    kind: Kind


Guesses = Mapping[Sequence, FoundDrafts]


class DraftRule(Protocol):
    """Decides how many drafts are looked for and computed."""

    declined: int
    """Decodes that could have had drafts, where it was not worth it."""

    def opens(self, step: DraftStep) -> bool:
        """Whether any draft may be worth computing; else nobody is asked for some."""
        ...

    def asks(
        self, step: DraftStep, proposer: Proposer, asked: Seq[Sequence], found: Guesses
    ) -> Seq[int]:
        """How many drafts a proposer is asked for of each sequence; others were found before."""
        ...

    def counts(self, step: DraftStep, found: Guesses) -> Mapping[Sequence, int]:
        """How many of the found drafts are computed."""
        ...

    def begins(
        self, step: DraftStep, given: Mapping[Sequence, int], asking: Mapping[str, float]
    ) -> None:
        """The step has so many drafts: no more than were counted. `asking` has the seconds that
        each source took, of those that were asked and take any."""
        ...

    def accepted(self, seq: Sequence, count: int) -> None:
        """Of its drafts, the first `count` were right and no more."""
        ...

    def took(self, seconds: float | None) -> None:
        """The last step is over, after so many seconds, without the time to find its drafts; None
        where that is not known."""
        ...

    def forget(self, seq: Sequence) -> None:
        """A sequence has ended, or was preempted."""
        ...


class AllDrafts:
    """Computes every draft there is: to make a recorded step again, and for tests."""

    declined = 0

    def opens(self, step: DraftStep) -> bool:  # noqa: ARG002
        return True

    def asks(
        self,
        step: DraftStep,
        proposer: Proposer,  # noqa: ARG002
        asked: Seq[Sequence],
        found: Guesses,  # noqa: ARG002
    ) -> Seq[int]:
        return [step.most[seq] for seq in asked]

    def counts(self, step: DraftStep, found: Guesses) -> Mapping[Sequence, int]:  # noqa: ARG002
        return {seq: len(guess.tokens) for seq, guess in found.items()}

    def begins(
        self, step: DraftStep, given: Mapping[Sequence, int], asking: Mapping[str, float]
    ) -> None:
        pass

    def accepted(self, seq: Sequence, count: int) -> None:
        pass

    def took(self, seconds: float | None) -> None:
        pass

    def forget(self, seq: Sequence) -> None:
        pass


class Speculation:
    """Where a scheduler gets the drafts of its steps.

    Proposers are asked one after the other, about the sequences for which those before had no
    guess. At most `most` drafts for each, in steps of at most `most_sequences`.
    """

    def __init__(
        self,
        proposers: Seq[Proposer],
        rule: DraftRule,
        *,
        most: int = MOST_DRAFTS,
        most_sequences: int = MOST_BATCH,
    ) -> None:
        self.rule = rule
        self.asking: dict[str, float] = {}
        """Seconds that sources took in the last call of `drafts`, of those that take any."""
        self._proposers = proposers
        self._most = most
        self._most_sequences = most_sequences

    def may_propose(self, seq: Sequence) -> bool:
        """Whether there may ever be drafts for a sequence."""
        return any(each.may_propose(seq.request) for each in self._proposers)

    def forget(self, seq: Sequence) -> None:
        """A sequence has ended, or was preempted: what is kept of it goes."""
        self.rule.forget(seq)
        for proposer in self._proposers:
            proposer.forget(seq.request.id)

    def drafts(
        self,
        scheduled: ScheduledTokens,
        queues: Queues,
        limits: Limits,
        *,
        step: int,
        most_seconds: Callable[[], float] = endless,
    ) -> Drafts:
        """The step's drafts, as far as its tokens and the free blocks allow, with their blocks."""
        self.asking = {}
        if len(scheduled) > self._most_sequences:
            return {}
        planned = self._planned(scheduled, queues, limits, step, most_seconds)
        if not planned.most or not self.rule.opens(planned):
            return {}
        found = self._found(planned)
        counts = self.rule.counts(planned, found)
        drafts: Drafts = {}
        budget, pool = planned.most_tokens, queues.pool
        for seq, count in counts.items():
            room = (len(seq.blocks) + pool.free) * pool.block_size - seq.computed - 1
            tokens = found[seq].tokens[: max(0, min(count, budget, room))]
            if tokens:
                take_blocks(seq, 1 + len(tokens), queues)
                drafts[seq] = tokens
                seq.drafted_in = step
                budget -= len(tokens)
        given = {seq: len(tokens) for seq, tokens in drafts.items()}
        self.rule.begins(planned, given, self.asking)
        return drafts

    def _planned(
        self,
        scheduled: ScheduledTokens,
        queues: Queues,
        limits: Limits,
        step: int,
        most_seconds: Callable[[], float],
    ) -> DraftStep:
        decodes: list[Sequence] = []
        others: list[tuple[Sequence, int]] = []
        most: dict[Sequence, int] = {}
        budget = limits.max_num_batched_tokens - sum(scheduled.values())
        pool = queues.pool
        for seq, count in scheduled.items():
            if not count == 1 == seq.todo:
                others.append((seq, count))
                continue
            decodes.append(seq)
            if seq.may_draft:
                room = (len(seq.blocks) + pool.free) * pool.block_size - seq.computed
                # The last token that a sequence may generate is never fed back.
                few = min(budget, room - 1, seq.left - 1, self._most)
                if few > 0:
                    most[seq] = few
        return DraftStep(
            number=step,
            decodes=decodes,
            others=others,
            most=most,
            most_tokens=budget,
            most_seconds=most_seconds,
        )

    def _found(self, step: DraftStep) -> Guesses:
        found: dict[Sequence, FoundDrafts] = {}
        for proposer in self._proposers:
            asked = [
                seq for seq in step.most if seq not in found and proposer.may_propose(seq.request)
            ]
            if not asked:
                continue
            counts = dict(zip(asked, self.rule.asks(step, proposer, asked, found), strict=True))
            wanted = [
                Wanted(seq.request, seq.tokens, count) for seq, count in counts.items() if count
            ]
            if not wanted:
                continue
            guesses = iter(proposer.propose(wanted))
            if proposer.seconds:
                self.asking[proposer.source] = proposer.seconds
            for seq, count in counts.items():
                guess = next(guesses) if count else None
                if guess is not None and guess.tokens:
                    kind = (proposer.source, guess.kind)
                    found[seq] = FoundDrafts(guess.tokens[:count], kind)
        return found
