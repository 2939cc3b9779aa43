"""The scheduler: the mechanism behind every policy.

It owns the sequences and the blocks: it admits, allocates, preempts, aborts, and turns a policy's
decision into a `StepPlan` and a step's result into events. Time and results are handed to it, so it
is deterministic. It knows neither tensors nor who will compute its plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace

from headway.errors import InvalidRequest
from headway.scheduling.admission import Candidates, KVEstimate, LengthEstimate, check_request
from headway.scheduling.allocation import ScheduledTokens, allocate
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.fast_forward import (
    ClosedQueue,
    FastForward,
    advance,
    all_decode,
    steps_until_an_end,
    steps_with_room,
)
from headway.scheduling.policy import Policy, View, Waiting
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import (
    Sequence,
    end_event,
    ending,
    keep_prompt_logprobs,
    new_sequence,
    token_event,
)
from headway.scheduling.stats import Idle, IdleStats, SchedulerStats
from headway.types import (
    FinishReason,
    Limits,
    NewSequence,
    Request,
    Sampled,
    Slice,
    StepPlan,
    StepResult,
    TokenEvent,
)


class Scheduler:
    """Use: `add` and `abort` between steps; `plan`, compute, `commit` for each step."""

    def __init__(
        self,
        *,
        policy: Policy,
        pool: BlockPool,
        limits: Limits,
        prefix_caching: bool = True,
        lengths: LengthEstimate | None = None,
        reserve_all: bool = False,
    ) -> None:
        self.limits = limits
        self.pool = pool
        self._policy = policy
        self._prefix_caching = prefix_caching
        self._reserve_all = reserve_all
        self._roster = Queues(pool)
        self._lengths = lengths or LengthEstimate()
        # The head of the line, for whom there was no memory, and the roster's relief at that time.
        self._refused: tuple[Sequence, int] | None = None
        self._added = 0
        self._stats = SchedulerStats()
        # Beyond so many decodes a step could not give each of them its token.
        self._width = min(limits.max_num_seqs, limits.max_num_batched_tokens)

    def add(self, request: Request) -> TokenEvent | None:
        """Queue a request; its end at once if what it resumes was already complete.

        Raises `InvalidRequest` for an id in use or an empty prompt, and `RequestTooLarge` for one
        that could never be served; the error names the field.
        """
        if request.id in self._roster.by_request:
            raise InvalidRequest(f"a request with id {request.id} is running", field="id")
        check_request(
            request,
            self.limits,
            num_blocks=self.pool.num_blocks,
            block_size=self.pool.block_size,
        )
        self._added += 1
        seq = new_sequence(self._added, request, prefix_caching=self._prefix_caching)
        finish = ending(seq) if request.generated else None
        if finish is not None:
            stopped_by = seq.tokens[-1] if finish == "stop" else None
            return end_event(seq, finish, stop_reason=stopped_by)
        self._roster.arrive(seq)
        return None

    def abort(self, request_id: str) -> TokenEvent | None:
        """End a request; its blocks are free at once. None if there is no such request."""
        seq = self._roster.by_request.get(request_id)
        if seq is None:
            return None
        event = end_event(seq, "abort")
        self._roster.end(seq)
        return event

    def plan(self, now: float) -> StepPlan | Idle:
        """The next step, which must be computed and committed before another is planned."""
        step = self._stats.step + 1
        self._roster.place_held(step)
        offers = self._make_offers(step)
        decision = self._policy.decide(self._view(now, offers))
        if offers.refused is not None:
            self._refused = (offers.refused, self._roster.relief)
        grants = allocate(
            decision, offers=offers, roster=self._roster, limits=self.limits, step=step
        )
        if not grants:
            return Idle(until=decision.ask_again)
        self._stats.step = step
        self._stats.idle_slots = decision.idle_slots
        return self._write_plan(grants, now)

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[TokenEvent]:  # noqa: ARG002
        """Take a step's result in; what each of its requests hears. Passes over those aborted."""
        if not plan.step == result.step == self._stats.step:
            raise ValueError(
                f"step {self._stats.step} planned, {plan.step} of result {result.step} committed"
            )
        for news in result.prompt_logprobs:
            if news.seq in self._roster.live:
                keep_prompt_logprobs(self._roster.live[news.seq], news)
        events = []
        live = self._roster.live
        sampled = iter(result.sampled)
        tokens = 0
        for piece in plan.slices:
            tokens += len(piece.tokens)
            token = next(sampled) if piece.sample else None
            if token is not None and token.seq != piece.seq:
                raise ValueError(f"sequence {piece.seq} sampled, {token.seq} came back")
            seq = live.get(piece.seq)
            if seq is not None:
                event = self._advance(seq, piece, token)
                if event is not None:
                    events.append(event)
        self._stats.step_tokens = tokens
        self._stats.computed_tokens += tokens
        return events

    def quiet_steps(self, now: float, most: int) -> FastForward:
        """How many of the next `most` steps are certain to be one decode of everybody on board.

        The last of them may end somebody. Certain as far as the scheduler can know: within `most`
        nobody may arrive, and only the last step may give a stop token. Changes nothing.
        """
        roster = self._roster
        running = roster.running.sequences
        if not running or most < 1 or not self._policy.timeless:
            return FastForward(0)
        line = ClosedQueue(roster.waiting)
        decision = self._policy.decide(self._view(now, line))
        if line.looked and self._may_board():
            return FastForward(0)
        if not all_decode(decision.shares, running):
            return FastForward(0)
        most = min(most, steps_until_an_end(running))
        steps = steps_with_room(running, most, free=self.pool.free, block_size=self.pool.block_size)
        return FastForward(steps, decision.idle_slots)

    def advance(self, quiet: FastForward, tokens: Mapping[int, Seq[int]]) -> list[TokenEvent]:
        """Do what planning and committing these quiet steps would; what those that end hear.

        `quiet` is the last answer of `quiet_steps`, or a part of it, with nothing done in between;
        `tokens` has, for each running sequence, the token that it sampled in each step. Tokens of
        those that go on are told to nobody, and who had left before is told with the next plan.
        """
        running = self._roster.running.sequences
        count = len(running)
        self._stats.step += quiet.steps
        self._stats.idle_slots = quiet.idle_slots
        self._stats.step_tokens = count
        self._stats.computed_tokens += count * quiet.steps
        advance(self._roster, quiet.steps, tokens, last_step=self._stats.step)
        events = []
        for seq, finish in [(seq, ending(seq)) for seq in running]:
            if finish is None:
                continue
            sampled = Sampled(seq=seq.id, token=seq.tokens[-1])
            events.append(token_event(seq, sampled, finish))
            self._finish(seq, finish)
        return events

    def stats(self) -> SchedulerStats:
        """A copy of the counters and the present state."""
        return replace(
            self._stats,
            running=len(self._roster.running),
            waiting=len(self._roster.waiting),
            free_blocks=self.pool.free,
            cached_blocks=self.pool.cached,
            preemptions=self._roster.preemptions,
        )

    def leftover(self) -> IdleStats:
        """The part of `stats` that a recording has of every step; costs next to nothing."""
        return IdleStats(self._stats.idle_slots, len(self._roster.waiting))

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._roster.live)

    def check(self) -> None:
        """Raise `AssertionError` if blocks or sequences are lost or in two places."""
        self._roster.check()

    def _make_offers(self, step: int) -> Candidates:
        roster = self._roster
        seats = self._width - len(roster.running)
        forecast = None
        if self._may_board():
            forecast = KVEstimate(
                self.pool, self._lengths, roster.running, reserve_all=self._reserve_all
            )
        return Candidates(
            waiting=roster.waiting,
            forecast=forecast,
            prefixes=roster.prefixes,
            seats=seats,
            step=step,
        )

    def _may_board(self) -> bool:
        roster = self._roster
        return (
            self._width > len(roster.running)
            and bool(roster.waiting)
            and not self._refusal_stands()
        )

    def _refusal_stands(self) -> bool:
        """Whether the same sequence heads the line and memory is no better: no need to ask."""
        if self._refused is None:
            return False
        seq, relief = self._refused
        return seq is self._roster.waiting.sequences[0] and relief == self._roster.relief

    def _view(self, now: float, waiting: Waiting) -> View:
        running = self._roster.running.sequences
        return View(
            now=now,
            running=running,
            waiting=waiting,
            limits=self.limits,
            seats=self._width - len(running),
            departed=self._roster.departed,
            free_blocks=self.pool.free,
            block_size=self.pool.block_size,
        )

    def _write_plan(self, grants: ScheduledTokens, now: float) -> StepPlan:
        slices, entries = [], []
        for seq, count in grants.items():
            if not seq.entered:
                entries.append(self._enter(seq, now))
            start = seq.computed
            slices.append(
                Slice(
                    seq=seq.id,
                    start=start,
                    tokens=seq.tokens[start : start + count],
                    blocks=seq.blocks,
                    sample=count == len(seq.tokens) - start,
                )
            )
        return StepPlan(
            step=self._stats.step,
            slices=slices,
            entries=entries,
            ended=self._roster.take_left(),
        )

    def _enter(self, seq: Sequence, now: float) -> NewSequence:
        """Tell the runner of a sequence; the first time, count what the prefix cache gave it."""
        seq.entered = True
        prompt_len = len(seq.request.prompt)
        if seq.scheduled_at is None:
            seq.scheduled_at = now
            seq.cached_tokens = min(seq.computed, prompt_len)
            if seq.salt is not None and not seq.wants_prompt_logprobs:
                self._stats.prefix_queries += prompt_len
                self._stats.prefix_hits += seq.cached_tokens
        return NewSequence(
            seq=seq.id,
            tokens=tuple(seq.tokens),
            prompt_len=prompt_len,
            sampling=seq.request.sampling,
        )

    def _advance(self, seq: Sequence, piece: Slice, sampled: Sampled | None) -> TokenEvent | None:
        """One slice is computed: store what it gave, and end the sequence if it was the last."""
        count = len(piece.tokens)
        computed = piece.start + count
        if seq.furthest > piece.start:
            self._stats.recomputed_tokens += min(computed, seq.furthest) - piece.start
        if seq.furthest < computed:  # noqa: PLR1730 - for every token of every step: no call
            seq.furthest = computed
        if sampled is not None and sampled.error is not None:
            self._roster.prefixes.condemn(seq)
            event = end_event(seq, "error", error=sampled.error)
            self._roster.end(seq)
            return event
        if count == 1 and computed % self.pool.block_size:
            seq.computed = computed  # nearly always: a decode that fills no block
        else:
            self._roster.prefixes.advance(seq, computed)
        if sampled is None:
            return None
        if count > 1:
            self._roster.relief += 1  # it decodes from now on, so the forecast is better
        seq.tokens.append(sampled.token)
        finish = ending(seq)
        event = token_event(seq, sampled, finish)
        if finish is not None:
            self._finish(seq, finish)
        return event

    def _finish(self, seq: Sequence, finish: FinishReason) -> None:
        if finish == "stop":
            self._lengths.learn(seq.generated)
        self._roster.end(seq)
