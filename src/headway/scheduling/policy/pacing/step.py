"""The decision of the policy `paced` for one step, put together part by part."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice

from headway.scheduling.policy.base import Decision, SequenceView, View
from headway.scheduling.policy.pacing.budget import (
    budget_without_decodes,
    most_demanding,
    time_budget,
)
from headway.scheduling.policy.pacing.deadlines import (
    best_effort,
    first_token_due,
    token_dues,
    token_seconds,
)
from headway.scheduling.policy.pacing.line import LineUp, PrefillRate
from headway.scheduling.policy.pacing.step_load import StepLoad
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape, decodes_after

LEAST_CHUNK = 16
"""Tokens; a smaller part of a prompt is not worth a step's while."""
REST_OF_STREAM = 32
"""Tokens; streams that come from elsewhere with nearly all of their keys and values go on at once,
though no time is left: so many of a step cost the others a few milliseconds, and waiting would cost
such a stream a gap."""
SHARE_BEYOND_PATIENCE = 64
"""One in so many running sequences may be one whose patience has ended."""
TURN, TURNS = 8, 128
"""So many steps, of so many, are theirs first. They are the costliest, so a share of the batch
alone is a far larger one of the time. It is some steps together, in which nobody passes them, so
that the batch makes room where decodes filled it."""
ONE_DECODE = StepShape(tokens=1, sequences=1, rows=1, decodes=1, decode_context=1)
"""The smallest step."""


def len_of(seq: SequenceView) -> int:
    """Tokens that its context will have."""
    return seq.computed + seq.todo


class PacedStep:
    """Use: `decide`, once."""

    def __init__(self, view: View, times: StepTimes, *, patience: float, shedding: bool) -> None:
        self._view = view
        self._patience = patience
        self._shedding = shedding
        self._least = times.bound(ONE_DECODE)
        # Decode whoever decodes: a stream that has begun is not held up.
        decoding = [seq for seq in view.running if seq.todo == 1]
        decodes = decodes_after([seq.computed for seq in decoding], times.window)
        self._load = StepLoad(times, decodes)
        """What this step computes."""
        self._batch = StepLoad(times, decodes)
        """A later step in which all that were admitted decode."""
        self._tokens = [(seq.id, 1) for seq in decoding]
        dues = token_dues(decoding, view.now)
        self._dues = [(left, pace) for left, pace in dues if pace > self._least]
        """Of those that decode: seconds until a token is due, and between two of them."""
        self._tightest = most_demanding(self._dues)
        """Seconds between tokens that the most demanding sequence allows."""
        self._partial_left = view.limits.max_num_partial_prefills
        self._budget = math.inf
        self._beyond_budget = REST_OF_STREAM
        """Tokens that may still be computed though there is no time for them."""
        self._prefilling: set[int] = set()
        """Those that run and have not computed their prompt."""
        self._offered: set[int] = set()
        self.refused: SequenceView | None = None
        """The one for which there was no slot or no memory."""
        self._spare_running = len(decoding) - len(dues)
        """Those of best effort that run."""

    def decide(self) -> Decision:
        prefills, overdue, spare = self._under_way()
        self._budget = self._time_budget()
        line = self._line_up().sort(prefills)
        promoted = self._promote(line.parked)
        impatient = [*overdue, *promoted]
        queue = [*impatient, *line.on_time, *line.late, *spare, *line.parked]
        if self._view.step % TURNS >= TURN:
            queue = [*line.on_time, *line.late, *impatient, *spare, *line.parked]
        # Nobody passes one that finds no room: what it got would be missing later.
        for seq in queue:
            if not self._go_on(seq):
                break
        if not self._load.tokens:
            self._anything(queue)
        if promoted:
            given = {number for number, _ in self._tokens}
            self._tokens += [(seq.id, 0) for seq in promoted if seq.id not in given]
        return Decision(
            tokens=self._tokens,
            relegate=line.relegate,
            shed=line.shed,
            retry_after=line.retry_after,
            most_seconds=lambda: self._budget,
        )

    def seconds_of_decodes(self) -> float:
        """What the step may take if it has nothing but decodes: infinite where no token is due."""
        return time_budget(self._dues, self._load.bound)

    def _under_way(self) -> tuple[list[SequenceView], list[SequenceView], list[SequenceView]]:
        """The prefills under way: of streams and those that have deadlines, of those that waited
        long, and of best effort."""
        now = self._view.now
        prefills: list[SequenceView] = []
        overdue: list[SequenceView] = []
        spare: list[SequenceView] = []
        for seq in self._view.running:
            if seq.todo == 1:
                continue
            free = best_effort(seq)
            if free:
                self._spare_running += 1
            else:
                self._tightest = min(self._tightest, self._pace(seq))
            self._batch.prefill(len_of(seq), 1, ends=True)
            if not seq.deferred:
                self._prefilling.add(seq.id)
                late = free or now > first_token_due(seq, self._patience)
                if seq.generated or not late:
                    prefills.append(seq)  # a stream that has begun is computed again at once
                elif now >= seq.arrival + self._patience:
                    overdue.append(seq)
                else:
                    (spare if free else prefills).append(seq)
        return prefills, overdue, spare

    def _pace(self, seq: SequenceView) -> float:
        """Seconds between tokens that the sequence allows; infinite where no batch could keep them,
        since then it is no reason to make the batch small."""
        pace = token_seconds(seq)
        return pace if pace > self._least else math.inf

    def _time_budget(self) -> float:
        """Seconds that this step may take."""
        budget = time_budget(self._dues, self._load.bound)
        if budget < math.inf:
            return budget
        candidates = (*self._view.running, *islice(self._view.waiting, 1))
        ttft = min((seq.pace.ttft for seq in candidates if not seq.late), default=math.inf)
        return budget_without_decodes(ttft, self._least)

    def _line_up(self) -> LineUp:
        return LineUp(
            self._view,
            patience=self._patience,
            shedding=self._shedding,
            begun=self._prefilling,
            rate=self._prefill_rate,
        )

    def _prefill_rate(self) -> PrefillRate:
        """How fast prompts are computed beside the present decodes."""
        pace = self._tightest if self._tightest < math.inf else self._budget
        most = self._view.limits.max_num_batched_tokens - self._load.tokens
        chunk = max(LEAST_CHUNK, self._load.largest_chunk(0, most, most, pace))
        cycle = self._load.with_prefill(0, chunk).seconds
        return PrefillRate(chunk / cycle, cycle)

    def _promote(self, parked: list[SequenceView]) -> list[SequenceView]:
        """Admit who has waited beyond its patience, as far as its kind's share goes."""
        share = max(1, len(self._view.running) // SHARE_BEYOND_PATIENCE)
        found = []
        while (
            parked
            and self._spare_running < share
            and self._view.now >= parked[0].arrival + self._patience
            and self._join(parked[0])
        ):
            self._spare_running += 1
            found.append(parked.pop(0))
        self._prefilling |= {seq.id for seq in found}
        return found

    def _go_on(self, seq: SequenceView) -> bool:
        """Prefill, of one that runs or is admitted now; False where some of it must wait."""
        if seq.id not in self._prefilling and not self._join(seq):
            return False
        if seq.deferred:
            self._tokens.append((seq.id, 0))
            return True
        return self._compute(seq)

    def _join(self, seq: SequenceView) -> bool:
        """Admit a waiting sequence; False where it must wait."""
        if (
            self.refused is not None
            or self._load.tokens >= self._view.limits.max_num_batched_tokens
        ):
            return False
        pace = min(self._tightest, self._pace(seq))
        later = self._batch.with_prefill(len_of(seq), 1)
        # A stream that has begun elsewhere, or gave way, is not held up for the pace of others.
        if self._batch.tokens and not seq.generated and not self._keeps(later, pace):
            return False
        if not self._view.offer(seq.id):
            self.refused = seq
            return False
        self._offered.add(seq.id)
        if not seq.deferred:
            self._batch = later
            self._tightest = pace
        return True

    def _keeps(self, later: StepLoad, pace: float) -> bool:
        """Whether a step in which all decode is as short as the most demanding allows. There is
        nothing to spare for contexts to grow into: while some grow, others end."""
        return later.bound <= pace

    def _compute(self, seq: SequenceView) -> bool:
        """A chunk of the sequence's prompt; whether that was all of it."""
        start, todo = seq.computed, seq.todo
        most = self._view.limits.max_num_batched_tokens - self._load.tokens
        count = self._load.largest_chunk(start, todo, most, self._budget)
        if count < todo <= min(self._beyond_budget, most) and seq.generated:
            count = todo
            self._beyond_budget -= todo
        if count < todo:
            if count < min(LEAST_CHUNK, most) or not self._partial_left:
                return False
            self._partial_left -= 1
        self._load.prefill(start, count, ends=count == todo)
        self._tokens.append((seq.id, count))
        return count == todo

    def _anything(self, line: Iterable[SequenceView]) -> None:
        """Nobody decodes and nothing fits: the first that can, goes on all the same."""
        self._budget = math.inf
        known = self._offered | self._prefilling
        for seq in line:
            if (seq.id in known or self._view.offer(seq.id)) and not seq.deferred:
                self._compute(seq)
                if self._load.tokens:
                    return
