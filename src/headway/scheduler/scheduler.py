"""The scheduler: the mechanism behind every policy.

It owns the sequences and the blocks: it admits, allocates, preempts, aborts, and turns a policy's
decision into a `StepPlan` and a step's result into events. Time and results are handed to it, so it
is deterministic. It knows neither tensors nor who will compute its plans.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headway.blocks import BlockPool
from headway.errors import InvalidRequest
from headway.policy import Decision, Policy, View
from headway.scheduler.admission import blocks_for, check_request
from headway.scheduler.boarding import Forecast, Offers
from headway.scheduler.lengths import LengthEstimate
from headway.scheduler.line import Line
from headway.scheduler.outcome import end_event, ending, keep_prompt_logprobs, token_event
from headway.scheduler.prefixes import Prefixes
from headway.scheduler.sequence import Sequence, new_sequence
from headway.scheduler.stats import Idle, SchedulerStats
from headway.types import (
    Entry,
    FinishReason,
    Limits,
    Request,
    Sampled,
    Slice,
    StepPlan,
    StepResult,
    TokenEvent,
)

Grants = dict[Sequence, int]


class Scheduler:
    """Use: `add` and `abort` between steps; `plan`, compute, `commit` for each step."""

    def __init__(
        self, *, policy: Policy, pool: BlockPool, limits: Limits, prefix_caching: bool = True
    ) -> None:
        self.limits = limits
        self.pool = pool
        self._policy = policy
        self._prefix_caching = prefix_caching
        self._prefixes = Prefixes(pool)
        self._lengths = LengthEstimate()
        self._waiting = Line()
        self._running = Line()
        self._live: dict[int, Sequence] = {}
        self._by_request: dict[str, Sequence] = {}
        self._held: list[Sequence] = []
        self._left: list[int] = []  # sequences that the runner must be told have left
        self._refused: Sequence | None = (
            None  # has a seat but no memory, as long as nothing changes
        )
        self._departed = 0
        self._added = 0
        self._stats = SchedulerStats()
        # Beyond so many decodes a step could not give each of them its token.
        self._width = min(limits.max_num_seqs, limits.max_num_batched_tokens)

    def add(self, request: Request) -> TokenEvent | None:
        """Queue a request; its end at once if what it resumes was already complete.

        Raises `InvalidRequest` for an id in use or an empty prompt, and `RequestTooLarge` for one
        that could never be served; the error names the field.
        """
        if request.id in self._by_request:
            raise InvalidRequest(f"a request with id {request.id} is running", field="id")
        check_request(
            request,
            self.limits,
            num_blocks=self.pool.num_blocks,
            block_size=self.pool.block_size,
        )
        self._added += 1
        seq = new_sequence(self._added, request, prefix_caching=self._prefix_caching)
        finish = ending(seq, self.limits.max_model_len) if request.generated else None
        if finish is not None:
            stopped_by = seq.tokens[-1] if finish == "stop" else None
            return end_event(seq, finish, stop_reason=stopped_by)
        self._prefixes.name(seq)
        self._live[seq.id] = seq
        self._by_request[request.id] = seq
        self._waiting.add(seq)
        return None

    def abort(self, request_id: str) -> TokenEvent | None:
        """End a request; its blocks are free at once. None if there is no such request."""
        seq = self._by_request.get(request_id)
        if seq is None:
            return None
        event = end_event(seq, "abort")
        self._end(seq)
        return event

    def plan(self, now: float) -> StepPlan | Idle:
        """The next step, which must be computed and committed before another is planned."""
        step = self._stats.step + 1
        self._place_held(step)
        if not self._running:
            self._departed = 0
        offers = self._make_offers(step)
        decision = self._policy.decide(self._view(now, offers))
        grants = self._grant(decision, offers, step)
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
            if news.seq in self._live:
                keep_prompt_logprobs(self._live[news.seq], news)
        events = []
        sampled = iter(result.sampled)
        tokens = 0
        for piece in plan.slices:
            tokens += len(piece.tokens)
            token = next(sampled) if piece.sample else None
            if token is not None and token.seq != piece.seq:
                raise ValueError(f"sequence {piece.seq} sampled, {token.seq} came back")
            seq = self._live.get(piece.seq)
            if seq is not None:
                event = self._advance(seq, piece, token)
                if event is not None:
                    events.append(event)
        self._stats.step_tokens = tokens
        self._stats.computed_tokens += tokens
        return events

    def stats(self) -> SchedulerStats:
        """A copy of the counters and the present state."""
        return replace(
            self._stats,
            running=len(self._running),
            waiting=len(self._waiting),
            free_blocks=self.pool.free,
            cached_blocks=self.pool.cached,
        )

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._live)

    def check(self) -> None:
        """Raise `AssertionError` if blocks or sequences are lost or in two places."""
        self.pool.check()
        waiting, running = list(self._waiting), list(self._running)
        held_blocks = {block for seq in running for block in seq.blocks}
        size = self.pool.block_size
        for holds, message in (
            (len(held_blocks) == self.pool.num_blocks - self.pool.free, "blocks leak"),
            ({seq.id for seq in waiting + running} == set(self._live), "sequences are lost"),
            (len(waiting) + len(running) == len(self._live), "a sequence is in two lines"),
            (all(seq.state == "waiting" and not seq.blocks for seq in waiting), "waiting"),
            (all(seq.state == "running" and seq.todo for seq in running), "running"),
            (waiting == sorted(waiting, key=lambda seq: seq.order), "waiting order"),
            (running == sorted(running, key=lambda seq: seq.order), "running order"),
            (all(seq.computed <= len(seq.blocks) * size for seq in running), "tokens unstored"),
            ({seq for seq in running if seq.held} == set(self._held), "held"),
        ):
            if not holds:
                raise AssertionError(message)

    def _place_held(self, step: int) -> None:
        """See whether those who wait for a shared prefix can have it, or must go on without."""
        if self._held:
            for seq in self._held:
                self._prefixes.place(seq, step)
            self._held = [seq for seq in self._held if seq.held]

    def _make_offers(self, step: int) -> Offers:
        seats = self._width - len(self._running)
        # A refusal stands until a sequence leaves, ends its prefill, or another heads the line.
        stands = self._refused is not None and next(iter(self._waiting), None) is self._refused
        forecast = None
        if seats > 0 and self._waiting and not stands:
            forecast = Forecast(self.pool, self._lengths, self._running)
        return Offers(
            waiting=self._waiting,
            forecast=forecast,
            prefixes=self._prefixes,
            seats=seats,
            step=step,
        )

    def _view(self, now: float, offers: Offers) -> View:
        return View(
            now=now,
            running=self._running.sequences,
            waiting=offers,
            limits=self.limits,
            seats=self._width - len(self._running),
            departed=self._departed,
            free_blocks=self.pool.free,
            block_size=self.pool.block_size,
        )

    def _grant(self, decision: Decision, offers: Offers, step: int) -> Grants:
        """Give memory to those who were decided on, running ones first, and seats to the others."""
        grants: Grants = {}
        partial = 0
        offered = set(offers.offered)
        boarding = []
        for number, wanted in decision.shares:
            seq = self._live[number]
            if seq in offered:
                boarding.append((seq, wanted))
            elif seq.state == "running" and wanted and not seq.held:
                count = self._make_room(seq, wanted, offers, grants)
                if count < seq.todo:
                    partial += 1
                    if partial > self.limits.max_num_partial_prefills:
                        continue
                if count:
                    self._allocate(seq, count)
                    seq.active_step = step
                    grants[seq] = count
        self._board(boarding, offers, grants)
        return grants

    def _board(
        self, boarding: Iterable[tuple[Sequence, int]], offers: Offers, grants: Grants
    ) -> None:
        """Seat the offered sequences that were decided on; the others give their hits back."""
        left_behind = set(offers.offered)
        for seq, wanted in boarding:
            if seq not in left_behind:
                continue  # its offer was withdrawn for want of memory
            count = min(wanted, self._room(seq))
            if count < min(wanted, 1):
                continue
            left_behind.discard(seq)
            self._waiting.remove(seq)
            self._running.add(seq)
            seq.state = "running"
            self._departed += 1
            if seq.held:
                self._held.append(seq)
            elif count:
                self._allocate(seq, count)
                grants[seq] = count
        for seq in offers.offered:
            if seq in left_behind:
                self._prefixes.displace(seq)
        if offers.refused is not None:
            self._refused = offers.refused

    def _room(self, seq: Sequence) -> int:
        """Tokens that the sequence can store now, taking every free block if need be."""
        return (len(seq.blocks) + self.pool.free) * self.pool.block_size - seq.computed

    def _allocate(self, seq: Sequence, count: int) -> None:
        size = self.pool.block_size
        if seq.computed + count > len(seq.blocks) * size:
            needed = blocks_for(seq.computed + count, size) - len(seq.blocks)
            seq.blocks += self.pool.take(needed)

    def _make_room(self, seq: Sequence, wanted: int, offers: Offers, grants: Grants) -> int:
        """Room for at least one token if those behind the sequence can give it; how many fit.

        First nobody boards; then the last in line is preempted, and so on. One that has nobody
        behind it to preempt pauses with its blocks, until those ahead of it end.
        """
        while (room := self._room(seq)) < 1:
            if offers.offered:
                for offered in offers.offered:
                    self._prefixes.displace(offered)
                offers.offered.clear()
                continue
            victim = self._victim_behind(seq)
            if victim is None:
                return 0
            grants.pop(victim, None)
            self._preempt(victim)
        return min(wanted, room)

    def _victim_behind(self, seq: Sequence) -> Sequence | None:
        for other in reversed(self._running.sequences):
            if other is seq:
                break
            if other.blocks and not other.immune:
                return other
        return None

    def _preempt(self, seq: Sequence) -> None:
        """Back to its place in the line; what it computed will be computed again."""
        seq.preemptions += 1
        self._stats.preemptions += 1
        self._leave(seq)
        seq.state = "waiting"
        self._waiting.add(seq)

    def _end(self, seq: Sequence) -> None:
        if seq.state == "running":
            self._leave(seq)
        else:
            self._waiting.remove(seq)
        seq.state = "ended"
        del self._live[seq.id]
        del self._by_request[seq.request.id]

    def _leave(self, seq: Sequence) -> None:
        """Off the running line, without blocks, forgotten by the runner."""
        self._running.remove(seq)
        if seq.held:
            self._held.remove(seq)
        self._prefixes.displace(seq)
        self._refused = None
        if seq.entered:
            self._left.append(seq.id)
            seq.entered = False

    def _write_plan(self, grants: Grants, now: float) -> StepPlan:
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
        left, self._left = self._left, []
        return StepPlan(step=self._stats.step, slices=slices, entries=entries, ended=left)

    def _enter(self, seq: Sequence, now: float) -> Entry:
        """Tell the runner of a sequence; the first time, count what the prefix cache gave it."""
        seq.entered = True
        prompt_len = len(seq.request.prompt)
        if seq.scheduled_at is None:
            seq.scheduled_at = now
            seq.cached_tokens = min(seq.computed, prompt_len)
            if seq.salt is not None and not seq.wants_prompt_logprobs:
                self._stats.prefix_queries += prompt_len
                self._stats.prefix_hits += seq.cached_tokens
        return Entry(
            seq=seq.id,
            tokens=tuple(seq.tokens),
            prompt_len=prompt_len,
            sampling=seq.request.sampling,
        )

    def _advance(self, seq: Sequence, piece: Slice, sampled: Sampled | None) -> TokenEvent | None:
        """One slice is computed: store what it gave, and end the sequence if it was the last."""
        computed = piece.start + len(piece.tokens)
        if seq.furthest > piece.start:
            self._stats.recomputed_tokens += min(computed, seq.furthest) - piece.start
        seq.furthest = max(seq.furthest, computed)
        if sampled is None:
            self._prefixes.advance(seq, computed)
            return None
        if sampled.error is not None:
            self._prefixes.condemn(seq)
            event = end_event(seq, "error", error=sampled.error)
            self._end(seq)
            return event
        self._prefixes.advance(seq, computed)
        if len(piece.tokens) > 1:
            self._refused = None  # it decodes from now on, so the forecast is better
        seq.tokens.append(sampled.token)
        finish = ending(seq, self.limits.max_model_len)
        event = token_event(seq, sampled, finish)
        if finish is not None:
            self._finish(seq, finish)
        return event

    def _finish(self, seq: Sequence, finish: FinishReason) -> None:
        if finish == "stop":
            self._lengths.learn(seq.generated)
        self._end(seq)
