"""How long simulated steps take: the step-time model, with the scatter that was measured around it.

One random number is drawn for every step, whether it was stepped or skipped, so that both ways give
the same times.

Who sat where: a sequence takes the lowest free slot of the batch and keeps it until it leaves.

Sums of time are always kept, single stays only where they are to be drawn.

A runner that computes nothing: steps take the time that the step-time model gives them.

It alone knows how long each answer will be; the scheduler learns it from a stop token, as from a
real model. It notes when every token comes, since all that a client sees follows from that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from random import Random

from headway.clock import VirtualClock
from headway.perf.report.run import Bar
from headway.perf.sim.results import STOP, SimulatedAnswer
from headway.steptime.model import Residuals, StepTimeModel, regime
from headway.steptime.shape import StepShape, shape_of
from headway.types import NewSequence, Sampled, Slice, StepPlan, StepResult


class StepTimeSampler:
    """Durations in seconds; without `random` exactly those that the model predicts."""

    def __init__(self, model: StepTimeModel, residuals: Residuals, random: Random | None) -> None:
        self.model = model
        self._residuals = residuals
        self._random = random

    def step(self, shape: StepShape) -> float:
        """One step's duration."""
        seconds = self.model.predict(shape)
        if self._random is None:
            return seconds
        return seconds * self._residuals.draw(self._random, regime(shape))

    def decodes(
        self, shape: StepShape, steps: int, *, near_growth: int, expected: float
    ) -> Iterator[float]:
        """Durations of steps that all decode the same sequences, the first of them `shape`.

        `near_growth` of the contexts are still within the model's sliding window, where they stay.
        After about `expected` seconds the caller will stop asking.
        """
        ahead = 1
        while steps > 0:
            ahead = min(steps, ahead)
            predicted = self._predict(shape, ahead, near_growth)
            for seconds in predicted:
                expected -= seconds
                if self._random is None:
                    yield seconds
                else:
                    yield seconds * self._residuals.draw(self._random, "decode")
            steps -= ahead
            if steps:
                shape = later(shape, ahead, near_growth)
            ahead = int(max(0.0, min(expected / predicted[-1], steps))) + 1

    def _predict(self, shape: StepShape, steps: int, near_growth: int) -> list[float]:
        if near_growth in (0, shape.decodes):
            return self.model.predict_decodes(shape, steps)
        return [self.model.predict(later(shape, step, near_growth)) for step in range(steps)]


def later(shape: StepShape, steps: int, near_growth: int) -> StepShape:
    """The shape so many decode steps later: every context is a token longer with each of them."""
    if not steps:
        return shape
    return replace(
        shape,
        decode_context=shape.decode_context + steps * shape.decodes,
        decode_context_window=shape.decode_context_window + steps * near_growth,
    )


class Slots:
    """The slots of one replica's batch."""

    def __init__(self, *, keep_bars: bool) -> None:
        self.bars: list[Bar] = []
        self.seconds = 0.0
        """Time that sequences spent in slots, summed."""
        self.used = 0
        """How many slots were ever taken."""
        self._free: list[int] = []
        self._keep = keep_bars

    def board(self, answer: SimulatedAnswer, now: float) -> None:
        if self._free:
            answer.slot = heappop(self._free)
        else:
            answer.slot = self.used
            self.used += 1
        answer.boarded = now
        answer.shown = None

    def leave(self, answer: SimulatedAnswer, now: float) -> None:
        self.seconds += now - answer.boarded
        if self._keep:
            first = now if answer.shown is None else answer.shown
            self.bars.append(Bar(answer.slot, answer.boarded, first, now, str(answer.index)))
        heappush(self._free, answer.slot)
        answer.slot = -1


MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that was over when it was submitted."""

    outcome: StepResult

    def result(self) -> StepResult:
        return self.outcome


@dataclass(slots=True, kw_only=True)
class SimulatedCounts:
    """What one replica did. Seconds and counts since the start."""

    steps: int = 0
    busy: float = 0.0
    """Seconds in steps."""
    ideal: float = 0.0
    """Seconds that the same steps would take at the machine's limits."""


class Preempted(Exception):
    """A sequence lost its memory, in a simulation that supposed that nobody would."""


class SimulatedRunner:
    """`types.runner.Runner` of one replica. The seed of a request is its answer's index."""

    def __init__(
        self,
        *,
        clock: VirtualClock,
        pace: StepTimeSampler,
        answers: Seq[SimulatedAnswer],
        gaps: Counter[int],
        slots: Slots,
        window: int | None = None,
        preemption: bool = True,
    ) -> None:
        """`gaps` counts times between tokens, in whole microseconds, of all replicas together.

        Without `preemption`, one ends the simulation with `Preempted`.
        """
        self.tally = SimulatedCounts()
        self.slots = slots
        self.ended: list[SimulatedAnswer] = []
        """Answers that are whole, until somebody takes them."""
        self.clock = clock
        self._pace = pace
        self._answers = answers
        self._gaps = gaps
        self._window = window
        self._preemption = preemption
        self._live: dict[int, SimulatedAnswer] = {}
        self._last_end = 0.0

    def submit(self, plan: StepPlan) -> Done:
        began = self.clock.seconds
        for number in plan.ended:
            answer = self._live.pop(number, None)
            if answer is not None:  # preempted: an answer that is whole has left already
                if not self._preemption:
                    raise Preempted
                self.slots.leave(answer, began)
        if plan.entries:
            self._enter(plan.entries, plan.slices, began)
        shape = shape_of(plan.slices, self._window)
        seconds = self._pace.step(shape)
        self.clock.seconds = now = began + seconds
        sampled = self._sample(plan.slices, now)
        self._last_end = now
        self._note(1, seconds, self._pace.model.ideal(shape))
        return Done(outcome=StepResult(step=plan.step, sampled=sampled, seconds=seconds))

    def steps_until_an_end(self) -> int:
        """Decodes of everybody who was let in after which the first answer is whole."""
        lefts = [answer.job.output - answer.generated for answer in self._live.values()]
        return min(lefts, default=0)

    def skip(self, steps: int, until: float) -> dict[int, list[int]]:
        """Make quiet steps, as many of `steps` as begin before `until`; what each one sampled."""
        live = self._live
        count = len(live)
        contexts = [answer.prompt_tokens + answer.generated for answer in live.values()]
        shape, growing, edge = self._decodes_of(contexts)
        before, now = self._last_end, self.clock.seconds
        began, first, largest, done = now, now, 0.0, 0
        for seconds in self._pace.decodes(
            shape, min(steps, edge or steps), near_growth=growing, expected=until - now
        ):
            now += seconds
            if done:
                gap = now - before
                largest = max(largest, gap)
                self._gaps[round(gap * MICROSECONDS)] += count
            else:
                first = now
            before = now
            done += 1
            if now >= until:
                break
        tokens = {number: [answer.token] * done for number, answer in live.items()}
        for number in self._settle(first, now, largest, done):
            tokens[number][-1] = self._finish(number, live[number], now)
        self.clock.seconds = self._last_end = now
        model, last = self._pace.model, later(shape, done - 1, growing)
        # At the limits, a decode's time grows evenly with its context.
        ideal = done * (model.ideal(shape) + model.ideal(last)) / 2
        self._note(done, now - began, ideal)
        return tokens

    def _enter(self, entries: Seq[NewSequence], slices: Seq[Slice], now: float) -> None:
        starts = {piece.seq: piece.start for piece in slices}
        for entry in entries:
            answer = self._answers[entry.sampling.seed]
            if not answer.entered:
                answer.entered = True
                answer.cached_tokens = starts[entry.seq]
            self._live[entry.seq] = answer
            self.slots.board(answer, now)

    def _sample(self, slices: Seq[Slice], now: float) -> list[Sampled]:
        live, before = self._live, self._last_end
        usual = now - before
        sampled, usuals = [], 0
        for piece in slices:
            if not piece.sample:
                continue
            number = piece.seq
            answer = live[number]
            answer.generated += 1
            if answer.last == before and answer.first is not None:
                usuals += 1
                answer.largest_gap = max(answer.largest_gap, usual)
                answer.last = now
            else:
                self._first_in_a_while(answer, now)
            token = answer.token
            if answer.generated == answer.job.output:
                token = self._finish(number, answer, now)
            sampled.append(Sampled(seq=number, token=token))
        if usuals:
            self._gaps[round(usual * MICROSECONDS)] += usuals
        return sampled

    def _first_in_a_while(self, answer: SimulatedAnswer, now: float) -> None:
        """A token of an answer that got none in the step before."""
        if answer.first is None:
            answer.first = now
        else:
            gap = now - answer.last
            answer.largest_gap = max(answer.largest_gap, gap)
            self._gaps[round(gap * MICROSECONDS)] += 1
        if answer.shown is None:
            answer.shown = now
        answer.last = now

    def _finish(self, number: int, answer: SimulatedAnswer, now: float) -> int:
        """The answer is whole; the token that ends it."""
        del self._live[number]
        self.slots.leave(answer, now)
        self.ended.append(answer)
        return STOP if answer.job.cap > answer.job.output else answer.token

    def _settle(self, first: float, now: float, largest: float, steps: int) -> list[int]:
        """Note for everybody the tokens of quiet steps, which ended from `first` to `now`; whose
        answer is whole."""
        before = self._last_end
        usual, usuals = first - before, 0
        whole = []
        for number, answer in self._live.items():
            if answer.last == before:
                usuals += 1
                answer.largest_gap = max(answer.largest_gap, usual, largest)
            else:
                self._first_in_a_while(answer, first)
                answer.largest_gap = max(answer.largest_gap, largest)
            answer.generated += steps
            answer.last = now
            if answer.generated == answer.job.output:
                whole.append(number)
        if usuals:
            self._gaps[round(usual * MICROSECONDS)] += usuals
        return whole

    def _decodes_of(self, contexts: list[int]) -> tuple[StepShape, int, int]:
        """The shape of a step that decodes all; how many contexts are within the sliding window
        (0 without one), and for how many steps that stays so (0: for good)."""
        count, window = len(contexts), self._window
        near = growing = edge = 0
        if window is not None:
            below = [window - context for context in contexts if context < window]
            growing, edge = len(below), min(below, default=0)
            near = count * window - sum(below)
        shape = StepShape(
            tokens=count,
            sequences=count,
            rows=count,
            decodes=count,
            decode_context=sum(contexts),
            decode_context_window=near,
        )
        return shape, growing, edge

    def _note(self, steps: int, seconds: float, ideal: float) -> None:
        self.tally.steps += steps
        self.tally.busy += seconds
        self.tally.ideal += ideal
