"""The decision of the policy `paced` for one step, put together part by part."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain, islice

from headway.scheduling.policy.base import Decision, SequenceView, View
from headway.scheduling.policy.pacing.deadlines import (
    best_effort,
    first_token_due,
    token_dues,
    token_seconds,
)
from headway.scheduling.policy.pacing.overload import Job, flooding, left_out
from headway.scheduling.policy.pacing.step_load import StepLoad
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape, decodes_after

LOOKED_AT = 256
"""Most waiting sequences of which is asked whether they can be on time."""
LEAST_CHUNK = 16
"""Tokens; a smaller part of a prompt is not worth a step's while."""
SHARE_BEYOND_PATIENCE = 64
"""One in so many running sequences may be one whose patience has ended."""
TURN, TURNS = 8, 128
"""So many steps, of so many, are theirs first. They are the costliest, so a share of the batch
alone is a far larger one of the time. It is some steps together, in which nobody passes them, so
that the batch makes room where decodes filled it."""
WORTH_A_STEP = 10
"""Times the smallest step: so long is one of which the fixed part matters little."""
MOST_PARKED = 16
"""Most of best effort that are looked at in a step."""
LONGEST_GAP = 4
"""Times the pace of the most demanding stream: no step is longer, however far ahead streams are."""
HOPELESS = 10
"""A sequence that is so many tokens behind holds nobody up any more."""
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
        self._stream_pace = min([pace for _, pace in self._dues], default=math.inf)
        self._tightest = self._stream_pace
        """Seconds between tokens that the most demanding sequence allows."""
        self._partial_left = view.limits.max_num_partial_prefills
        self._budget = math.inf
        self._prefilling: set[int] = set()
        """Those that run and have not computed their prompt."""
        self._offered: set[int] = set()
        self.refused: SequenceView | None = None
        """The one for which there was no slot or no memory."""
        self._spare_running = len(decoding) - len(dues)
        """Those of best effort that run."""
        self._relegate: list[int] = []
        self._shed: list[int] = []
        self._retry_after = 1.0

    def decide(self) -> Decision:
        prefills, overdue, spare = self._under_way()
        self._budget = self._time_budget()
        on_time, late, parked = self._in_line(prefills)
        promoted = self._promote(parked)
        impatient = [*overdue, *promoted]
        line = [*impatient, *on_time, *late, *spare, *parked]
        if self._view.step % TURNS >= TURN:
            line = [*on_time, *late, *impatient, *spare, *parked]
        # Nobody passes one that finds no room: what it got would be missing later.
        for seq in line:
            if not self._go_on(seq):
                break
        if not self._load.tokens:
            self._anything(line)
        if promoted:
            given = {number for number, _ in self._tokens}
            self._tokens += [(seq.id, 0) for seq in promoted if seq.id not in given]
        return Decision(
            tokens=self._tokens,
            relegate=self._relegate,
            shed=self._shed,
            retry_after=self._retry_after,
        )

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
        base = self._load.bound
        budget = min(self._dues, default=(math.inf, math.inf))[0]
        if budget < base:
            budget = self._behind(base)
        budget = min(budget, max(base, LONGEST_GAP * self._stream_pace))
        return budget if budget < math.inf else self._without_decodes()

    def _behind(self, base: float) -> float:
        """The same where the decodes alone take `base` seconds, which is too long for some."""
        budget = math.inf
        for left, pace in self._dues:
            if left >= base:
                budget = min(budget, left)
            elif left > 0:
                budget = min(budget, base)  # the least that can be done for it
            elif left > -HOPELESS * pace:
                # It is behind, and catches up with half of what the others leave.
                budget = min(budget, base + max(0.0, pace - base) / 2)
        return budget

    def _without_decodes(self) -> float:
        """Seconds of a step in which nobody waits for a next token: several fit into a TTFT, so
        that prompts end one after the other, and its fixed part is a small part of it."""
        candidates = (*self._view.running, *islice(self._view.waiting, 1))
        ttft = min((seq.pace.ttft for seq in candidates if not seq.late), default=math.inf)
        short = WORTH_A_STEP * self._least
        return max(min(max(ttft / 8, short), ttft / 2, 2 * short), 2 * self._least)

    def _in_line(
        self, prefills: list[SequenceView]
    ) -> tuple[list[SequenceView], list[SequenceView], list[SequenceView]]:
        """Of the prefills under way and those that wait: who can be on time, who cannot, and the
        first of best effort that wait."""
        line = list(prefills)
        parked: list[SequenceView] = []
        if not self._view.free_slots and not self._shedding:
            return line, [], parked  # nobody can be admitted, so nothing depends on it
        for seq in self._view.waiting:
            if best_effort(seq):
                parked.append(seq)
                if len(parked) >= MOST_PARKED:
                    break
            elif len(line) < LOOKED_AT:
                line.append(seq)
            else:
                # Those of best effort come later, by `Paced.standing`, behind any number of others.
                later = islice(self._view.waiting_later((seq.priority, True)), MOST_PARKED)
                parked += [seq for seq in later if best_effort(seq)]
                break
        on_time = self._who_is_on_time(line) if line else []
        gone = {seq.id for seq in on_time}.union(self._shed)
        late = [seq for seq in line if seq.id not in gone]
        return on_time, late, parked

    def _who_is_on_time(self, line: list[SequenceView]) -> list[SequenceView]:
        """Those of a line that can be, as many as possible; the rest is relegated or shed."""
        now = self._view.now
        rate, cycle = self._prefill_rate()
        half = cycle / 2
        flood = flooding(chain(self._view.running, line))
        jobs: list[Job] = []
        kept: set[int] = set()
        for together in self._requests(line):
            first = together[0]
            due = first_token_due(first, self._patience) - now
            begun = first.id in self._prefilling
            quiet = flood is not None and first.tenant != flood
            seconds = self._tokens_of(together) / rate
            if first.generated:
                # It was preempted, or its engine died: it has been answered in part.
                kept.add(first.id)
            elif due >= seconds:
                # The first token comes at the end of a step, half a step later on average.
                due = max(seconds, due - half)
                jobs.append(Job(together, seconds, due, begun or quiet))
            elif quiet:
                kept.update([seq.id for seq in together])  # late, but by no fault of its own
            elif not begun:
                self._refuse(together)
        self._retry_after = max(1.0, sum([job.seconds for job in jobs]))
        kept.update([seq.id for job in jobs for seq in job.seqs])
        for job in left_out(jobs):
            kept.difference_update([seq.id for seq in job.seqs])
            first = job.seqs[0]
            if self._shedding and first.id not in self._prefilling and not first.answering:
                self._refuse(job.seqs)
        return [seq for seq in line if seq.id in kept]

    def _requests(self, line: list[SequenceView]) -> Iterable[tuple[SequenceView, ...]]:
        """The line in parts that are on time together: what waits of one request, which is shed as
        a whole. It is what came of one caller at one time."""
        if not self._shedding:
            return ((seq,) for seq in line)
        found: dict[object, list[SequenceView]] = {}
        for seq in line:
            alone = seq.id in self._prefilling or seq.generated or not seq.caller
            key = seq.id if alone else (seq.tenant, seq.caller, seq.arrival)
            found.setdefault(key, []).append(seq)
        return map(tuple, found.values())

    def _tokens_of(self, request: tuple[SequenceView, ...]) -> int:
        """Tokens that must be computed before each of them has its first one."""
        if request[0].id in self._prefilling:
            return request[0].todo  # one that has begun is by itself
        # Continuations of one prompt compute it once.
        prompts = {seq.group or seq.id: seq.id for seq in request}
        return sum([self._view.uncached(number) for number in prompts.values()])

    def _refuse(self, request: tuple[SequenceView, ...]) -> None:
        """Shed it or relegate it. Of one that has been answered in part, the rest is not shed."""
        shed = self._shedding and not request[0].answering
        (self._shed if shed else self._relegate).extend(seq.id for seq in request)

    def _prefill_rate(self) -> tuple[float, float]:
        """Prompt tokens a second beside the present decodes, and the seconds of such a step."""
        pace = self._tightest if self._tightest < math.inf else self._budget
        most = self._view.limits.max_num_batched_tokens - self._load.tokens
        chunk = max(LEAST_CHUNK, self._load.largest_chunk(0, most, most, pace))
        cycle = self._load.with_prefill(0, chunk).seconds
        return chunk / cycle, cycle

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
        if self._batch.tokens and not self._keeps(later, pace):
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
