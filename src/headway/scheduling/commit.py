"""A step's result taken in: tokens stored, full blocks cached, ended sequences gone, events made.

With hundreds of streams nearly everything in a step is a decode of which nothing is to be told but
its token. Those are done in the loop itself: what they need and no more, without a call for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq

from headway.scheduling.admission import LengthEstimate
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import (
    Sequence,
    end_event,
    ending,
    keep_prompt_logprobs,
    token_event,
    until_end,
)
from headway.scheduling.stats import SchedulerStats
from headway.types import FinishReason, Sampled, Slice, StepPlan, StepResult, TokenEvent


class Committer:
    """Takes the results of one scheduler's steps in; counts in `stats`, and `lengths` learns."""

    def __init__(
        self,
        queues: Queues,
        lengths: LengthEstimate,
        stats: SchedulerStats,
        on_drafts: Callable[[Sequence, int], None] | None = None,
    ) -> None:
        """`on_drafts` is told how many of a sequence's drafts were right."""
        self._on_drafts = on_drafts
        self._queues = queues
        self._lengths = lengths
        self._stats = stats

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[TokenEvent]:
        """What each request of a step is told, whose result was there `now`.

        Raises `ValueError` where the result is not that of the plan.
        """
        live, size = self._queues.live, self._queues.pool.block_size
        for news in result.prompt_logprobs:
            if news.seq in live:
                keep_prompt_logprobs(live[news.seq], news)
        events = []
        live_one = live.get
        tokens = len(plan.slices)
        """At least one each."""
        for part, sampled in _paired(plan.slices, result.sampled):
            number, computed = part.seq, part.start + 1
            if sampled is not None and sampled.seq != number:
                raise ValueError(f"sequence {number} sampled, {sampled.seq} came back")
            seq = live_one(number)
            if (
                seq is not None
                and sampled is not None
                and sampled.error is None
                and part.outputs == 1 == seq.todo
                and computed % size
                and seq.first_token_at is not None
                and not seq.untold_preemptions
                and computed + 1 < seq.full_length
                and (token := sampled.tokens[-1]) not in seq.stop_ids
            ):
                # A decode that fills no block and ends nothing: as `_commit_slice`, in a third of
                # its time. One token is still to do.
                seq.computed = computed
                seq.tokens.append(token)
                name, logprobs = seq.request.id, sampled.logprobs
                events.append(TokenEvent(id=name, tokens=sampled.tokens, logprobs=logprobs))
                continue
            tokens += len(part.tokens) - 1
            event = None if seq is None else self._commit_slice(seq, part, sampled, now)
            if event is not None:
                events.append(event)
        self._stats.step_tokens = tokens
        self._stats.computed_tokens += tokens
        return events

    def end(self, seq: Sequence, finish: FinishReason) -> None:
        """A sequence has all its tokens."""
        if finish == "stop":
            self._lengths.learn(seq.generated)
        self._queues.end(seq)

    def _commit_slice(
        self, seq: Sequence, part: Slice, sampled: Sampled | None, now: float
    ) -> TokenEvent | None:
        """One slice is computed: store what it gave, and end the sequence if it was the last."""
        count = len(part.tokens)
        if sampled is None:
            self._queues.prefixes.advance(seq, part.start + count)
            return None
        if sampled.error is not None:
            self._queues.prefixes.invalidate(seq)
            event = end_event(seq, "error", error=sampled.error)
            self._queues.end(seq)
            return event
        tokens, logprobs = sampled.tokens, sampled.logprobs
        if part.outputs > 1:
            tokens = self._accept(seq, part, sampled)
            logprobs = logprobs[: len(tokens)]
        else:
            self._queues.prefixes.advance(seq, part.start + count)
            # One that has computed its prompt decodes from now on, so the estimate is better.
            self._queues.capacity_epoch += count > 1
        seq.tokens.append(tokens[-1])
        seq.todo += 1
        finish = ending(seq)
        event = token_event(seq, tokens, logprobs, finish, now, drafts=part.outputs - 1)
        if finish is not None:
            self.end(seq, finish)
        return event

    def _accept(self, seq: Sequence, part: Slice, sampled: Sampled) -> tuple[int, ...]:
        """Take in drafts that were right, and all before them: what is computed ends there.

        Gives the accepted tokens and the one sampled after them, which is not taken in yet.
        """
        if not 1 <= len(sampled.tokens) <= part.outputs:
            raise ValueError(f"{len(sampled.tokens)} tokens of {part.outputs} outputs")
        tokens = until_end(seq, sampled.tokens)
        seq.tokens += tokens[:-1]
        self._queues.prefixes.advance(seq, len(seq.tokens))
        self._count(part.outputs - 1, len(tokens) - 1)
        if self._on_drafts is not None:
            self._on_drafts(seq, len(sampled.tokens) - 1)
        return tokens

    def _count(self, drafts: int, accepted: int) -> None:
        stats = self._stats
        stats.drafts += 1
        stats.draft_tokens += drafts
        stats.accepted_tokens += accepted
        counts = stats.accepted_per_position
        stats.accepted_per_position = tuple(
            [count + (place < accepted) for place, count in enumerate(counts)]
        )


def _paired(slices: Seq[Slice], sampled: Seq[Sampled]) -> Iterable[tuple[Slice, Sampled | None]]:
    """Each slice with what it sampled; None where it has no outputs."""
    if len(slices) == len(sampled):
        return zip(slices, sampled, strict=True)
    results = iter(sampled)
    return [(part, next(results) if part.outputs else None) for part in slices]
