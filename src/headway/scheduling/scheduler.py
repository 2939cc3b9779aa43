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
from headway.scheduling.allocation import ScheduledTokens, allocate, preempt
from headway.scheduling.block_pool import BlockPool
from headway.scheduling.commit import Committer
from headway.scheduling.cycle import Cycle
from headway.scheduling.fast_forward import (
    FastForward,
    NoCandidates,
    all_decode,
    decode_all,
    steps_until_an_end,
    steps_with_room,
)
from headway.scheduling.loading import LOAD_SECONDS
from headway.scheduling.policy import Decision, Policy, View
from headway.scheduling.queues import Queues
from headway.scheduling.refusals import Refusals
from headway.scheduling.sequence import (
    Sequence,
    end_event,
    ending,
    new_sequence,
    token_event,
)
from headway.scheduling.speculation.speculation import Drafts, Speculation
from headway.scheduling.stats import Idle, IdleStats, SchedulerStats
from headway.steptime.online import StepTimes
from headway.types import (
    Limits,
    NewSequence,
    Request,
    Slice,
    StepPlan,
    StepResult,
    TokenEvent,
)
from headway.types.batch_news import WaitsFor

AHEAD_STEPS = 32
"""A sequence that had no drafts for so many steps grows as all others do, until it has some."""


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
        step_times: StepTimes | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        self.limits = limits
        self.pool = pool
        self._policy = policy
        self._prefix_caching = prefix_caching
        self._reserve_all = reserve_all
        self._cycle = Cycle(step_times)
        self._speculation = speculation
        self._queues = Queues(pool, policy, most_loaded=limits.max_num_batched_tokens)
        self.traffic = self._queues.traffic
        self._refusals = Refusals(self._queues)
        self._lengths = lengths or LengthEstimate()
        # The first that waits, for which there was no memory, and the capacity epoch at that time.
        self._refused: tuple[Sequence, int] | None = None
        self._added = 0
        self._stats = SchedulerStats()
        on_drafts = None
        if speculation is not None:
            self._queues.on_leave = speculation.forget
            on_drafts = speculation.rule.accepted
        self._committer = Committer(self._queues, self._lengths, self._stats, on_drafts)
        # Beyond so many decodes a step could not give each of them its token.
        self._width = min(limits.max_num_seqs, limits.max_num_batched_tokens)

    def add(self, request: Request) -> TokenEvent | None:
        """Queue a request; its end at once if what it resumes was already complete.

        Raises `InvalidRequest` for an id in use or an empty prompt, and `RequestTooLarge` for one
        that could never be served; the error names the field.
        """
        if request.id in self._queues.by_request:
            raise InvalidRequest(f"a request with id {request.id} is running", field="id")
        check_request(
            request, self.limits, num_blocks=self.pool.num_blocks, block_size=self.pool.block_size
        )
        self._added += 1
        seq = new_sequence(self._added, request, prefix_caching=self._prefix_caching)
        seq.may_draft = self._speculation is not None and self._speculation.may_propose(seq)
        finish = ending(seq) if request.generated else None
        if finish is not None:
            stopped_by = seq.tokens[-1] if finish == "stop" else None
            return end_event(seq, finish, stop_reason=stopped_by)
        self._queues.arrive(seq)
        return None

    def abort(self, request_id: str) -> TokenEvent | None:
        """End a request; its blocks are free at once. None if there is no such request."""
        seq = self._queues.by_request.get(request_id)
        if seq is None:
            return None
        event = end_event(seq, "abort")
        self._queues.end(seq)
        if not self._queues.live:
            self._cycle.forget()
        return event

    def plan(self, now: float) -> StepPlan | Idle:
        """The next step, which must be computed and committed before another is planned."""
        seconds = self._cycle.end(now)
        if self._speculation is not None:
            self._speculation.rule.took(seconds)
        step = self._stats.step + 1
        self._queues.attach_deferred(step)
        if self._policy.reorder:
            self._queues.sort()
        decision, candidates = self._decide(now, step)
        self._refusals.apply(decision)
        scheduled = allocate(
            decision, candidates=candidates, queues=self._queues, limits=self.limits, step=step
        )
        if not scheduled:
            until = now + LOAD_SECONDS if self._queues.loading else decision.ask_again
            return Idle(until=until)
        drafts: Drafts = {}
        if self._speculation is not None:
            drafts = self._speculation.drafts(
                scheduled,
                self._queues,
                self.limits,
                step=step,
                most_seconds=decision.most_seconds,
            )
        self._stats.step = step
        self._stats.idle_slots = decision.idle_slots
        return self._write_plan(scheduled, drafts, now)

    def take_shed(self) -> list[TokenEvent]:
        """The ends of requests that plans have shed since the last call."""
        return self._refusals.take()

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[TokenEvent]:
        """Take a step's result in, which was there `now`; what each of its requests is told.

        Passes over those that were aborted meanwhile.
        """
        if not plan.step == result.step == self._stats.step:
            raise ValueError(
                f"step {self._stats.step} planned, {plan.step} of result {result.step} committed"
            )
        events = self._committer.commit(plan, result, now)
        if not self._queues.live:
            self._cycle.forget()
        return events

    def fast_forward_steps(self, now: float, most: int) -> FastForward:
        """How many of the next `most` steps are certain to be one decode of each that runs.

        The last of them may end some. Certain as far as the scheduler can know: within `most`
        nobody may arrive, and only the last step may give a stop token. Changes nothing.
        """
        queues = self._queues
        running = queues.running.sequences
        if not running or most < 1 or self._policy.reorder or self._speculation is not None:
            return FastForward(0)
        if queues.paced and self._policy.by_deadline:
            return FastForward(0)  # what is planned depends on how long every step took
        candidates = NoCandidates()
        decision = self._policy.decide(self._view(now, candidates))
        if candidates.looked and self._may_admit():
            return FastForward(0)
        if queues.turn_may_end or decision.preempt or not all_decode(decision.tokens, running):
            return FastForward(0)
        if decision.ask_again is not None and decision.ask_again <= now:
            return FastForward(0)
        most = min(most, steps_until_an_end(running))
        steps = steps_with_room(running, most, free=self.pool.free, block_size=self.pool.block_size)
        return FastForward(steps, decision.idle_slots, decision.ask_again)

    def fast_forward(
        self, skipped: FastForward, tokens: Mapping[int, Seq[int]], now: float
    ) -> list[TokenEvent]:
        """Do what planning and committing these steps would; what those that end are told.

        `skipped` is the last answer of `fast_forward_steps`, or a part of it, with nothing done in
        between, and its last step was over `now`; `tokens` has, for each running sequence, the
        token that it sampled in each step. There are no events for the tokens of those that go on,
        and those that ended are in the next plan.
        """
        running = self._queues.running.sequences
        count = len(running)
        self._stats.step += skipped.steps
        self._stats.idle_slots = skipped.idle_slots
        self._stats.step_tokens = count
        self._stats.computed_tokens += count * skipped.steps
        decode_all(self._queues, skipped.steps, tokens, self._stats.step)
        events = []
        for seq, finish in [(seq, ending(seq)) for seq in running]:
            if finish is not None:
                events.append(token_event(seq, (seq.tokens[-1],), (), finish, now))
                self._committer.end(seq, finish)
        return events

    def stats(self) -> SchedulerStats:
        """A copy of the counters and the present state."""
        return replace(
            self._stats,
            running=len(self._queues.running),
            waiting=len(self._queues.waiting),
            free_blocks=self.pool.free,
            cached_blocks=self.pool.cached,
            preemptions=self._queues.preemptions,
            gave_way=self._queues.gave_way,
            relegated=self._refusals.relegated,
            shed=self._refusals.shed,
            declined=0 if self._speculation is None else self._speculation.rule.declined,
        )

    def idle_stats(self) -> IdleStats:
        """The part of `stats` that a recording has of every step; costs next to nothing."""
        return IdleStats(self._stats.idle_slots, len(self._queues.waiting))

    @property
    def width(self) -> int:
        """Sequences that a step can have."""
        return self._width

    @property
    def queues(self) -> Queues:
        """For whoever watches them: only the scheduler changes anything."""
        return self._queues

    @property
    def waits_for(self) -> WaitsFor | None:
        """Why the next that waits was not admitted lately; None where nobody waits."""
        if not self._queues.waiting:
            return None
        if len(self._queues.running) >= self._width:
            return "slot"
        refused = self._refused is not None and self._refused[0] is self._queues.waiting[0]
        return "memory" if refused else "policy"

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._queues.live)

    def check(self) -> None:
        """Raise `AssertionError` if blocks or sequences are lost or in two places."""
        self._queues.check()

    def _decide(self, now: float, step: int) -> tuple[Decision, Candidates]:
        """The policy's decision, once those are preempted whom it wants to be."""
        while True:
            candidates = self._make_candidates(step)
            decision = self._policy.decide(self._view(now, candidates))
            if candidates.refused is not None:
                self._refused = (candidates.refused, self._queues.capacity_epoch)
            if not decision.preempt and not decision.give_way:
                return decision, candidates
            preempt(decision, candidates=candidates, queues=self._queues)

    def _make_candidates(self, step: int) -> Candidates:
        queues = self._queues
        return Candidates(
            waiting=queues.waiting,
            estimate=self._estimate if self._may_admit() else None,
            prefixes=queues.prefixes,
            free_slots=self._width - len(queues.running),
            step=step,
        )

    def _estimate(self) -> KVEstimate:
        recently = self._stats.step - AHEAD_STEPS
        return KVEstimate(
            self.pool,
            self._lengths,
            self._queues.running,
            reserve_all=self._reserve_all,
            lockstep=all(seq.drafted_in < recently for seq in self._queues.running),
        )

    def _may_admit(self) -> bool:
        queues = self._queues
        return (
            self._width > len(queues.running)
            and bool(queues.waiting)
            and not self._refusal_stands()
        )

    def _refusal_stands(self) -> bool:
        """Whether the same sequence waits first and memory is no better: no need to ask."""
        if self._refused is None:
            return False
        seq, epoch = self._refused
        return seq is self._queues.waiting[0] and epoch == self._queues.capacity_epoch

    def _view(self, now: float, candidates: Candidates | NoCandidates) -> View:
        running, live = self._queues.running.sequences, self._queues.live
        prefixes, step = self._queues.prefixes, self._stats.step + 1
        return View(
            now=now,
            running=running,
            waiting=self._queues.waiting,
            waiting_later=self._queues.waiting.later,
            candidates=candidates,
            limits=self.limits,
            free_slots=self._width - len(running),
            launch_size=self._queues.launch_size,
            whose_turn_ends=self._queues.whose_turn_ends,
            offer=lambda number: candidates.offer(live[number]),
            uncached=lambda number: prefixes.uncached(live[number], step),
            step=step,
            paced=self._queues.paced > 0,
            step_times=self._cycle.step_times,
        )

    def _write_plan(self, scheduled: ScheduledTokens, drafts: Drafts, now: float) -> StepPlan:
        """The plan, whose cycle begins."""
        slices: list[Slice] = []
        others: list[Slice] = []
        new: list[NewSequence] = []
        starts: list[int] = []
        for seq, count in scheduled.items():
            if not seq.entered:
                new.append(self._enter(seq, now))
            start, blocks = seq.computed, seq.blocks
            if count == 1 == seq.todo and not (drafts and seq in drafts):
                # A plain decode, as nearly all are.
                tokens = (seq.tokens[start],)
                slices.append(
                    Slice(seq=seq.id, start=start, tokens=tokens, blocks=blocks, outputs=1)
                )
                starts.append(start)
                continue
            part = _slice_of(seq, count, drafts.get(seq, ()))
            slices.append(part)
            others.append(part)
        apart = 0.0 if self._speculation is None else sum(self._speculation.asking.values())
        self._cycle.begin(starts, others, now, apart=apart)
        return StepPlan(
            step=self._stats.step,
            slices=slices,
            new=new,
            ended=self._queues.take_left(),
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


def _slice_of(seq: Sequence, count: int, drafts: Seq[int]) -> Slice:
    """The next `count` tokens of a sequence, and drafts after them."""
    start, known = seq.computed, seq.tokens
    return Slice(
        seq=seq.id,
        start=start,
        tokens=[*known[start : start + count], *drafts],
        blocks=seq.blocks,
        outputs=(count == seq.todo) + len(drafts),
    )
