"""A runner that computes nothing: steps take the time that the step-time model gives them.

Durations scatter around the model's as the measured ones did. One random number is drawn for every
step, whether it was made singly or in a fast-forward, so that both ways give the same times.

The runner alone knows how long each answer will be; the scheduler learns it from a stop token, as
from a real model. It notes when every token comes, since all that a client sees follows from that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random

from headway.clock import VirtualClock
from headway.perf.sim.requests import STOP, SimulatedRequest, Slots
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
    return shape._replace(
        decode_context=shape.decode_context + steps * shape.decodes,
        decode_context_window=shape.decode_context_window + steps * near_growth,
    )


MICROSECONDS = 1e6


@dataclass(slots=True, kw_only=True)
class SimulatedCounts:
    """What one replica did. Seconds and counts since the start."""

    steps: int = 0
    tokens: int = 0
    """That these steps computed."""
    busy: float = 0.0
    """Seconds in steps."""
    ideal: float = 0.0
    """Seconds that the same steps would take at the machine's limits."""


class Preempted(Exception):
    """A sequence was preempted, in a simulation that assumed that none would be."""


class SimulatedRunner:
    """`types.runner.Runner` of one replica. A request's seed is its index in `requests`."""

    def __init__(
        self,
        *,
        clock: VirtualClock,
        step_times: StepTimeSampler,
        requests: Seq[SimulatedRequest],
        gaps: Counter[int],
        slots: Slots,
        window: int | None = None,
        preemption: bool = True,
    ) -> None:
        """`gaps` counts times between tokens, in whole microseconds, of all replicas together.

        Without `preemption`, one ends the simulation with `Preempted`.
        """
        self.counts = SimulatedCounts()
        self.slots = slots
        self.clock = clock
        self.step_began = 0.0
        """When the latest step began."""
        self._step_times = step_times
        self._requests = requests
        self._gaps = gaps
        self._window = window
        self._preemption = preemption
        self._live: dict[int, SimulatedRequest] = {}
        self._last_end = 0.0

    def compute(self, plan: StepPlan) -> StepResult:
        self.step_began = began = self.clock.seconds
        for number in plan.ended:
            request = self._live.pop(number, None)
            if request is not None:  # preempted: a completed one has left already
                if not self._preemption:
                    raise Preempted
                self.slots.free(request, began)
        if plan.new:
            self._start(plan.new, plan.slices, began)
        shape = shape_of(plan.slices, self._window)
        seconds = self._step_times.step(shape)
        self.clock.seconds = now = began + seconds
        sampled = self._sample(plan.slices, now)
        self._last_end = now
        self._note(1, shape.tokens, seconds, self._step_times.model.ideal(shape))
        return StepResult(step=plan.step, sampled=sampled, seconds=seconds)

    def refuse(self, index: int, error: str) -> None:
        """The request of that index was shed."""
        self._requests[index].error = error

    def leave(self, request: SimulatedRequest) -> None:
        """The request goes on elsewhere, if it is here."""
        for number, each in self._live.items():
            if each is request:
                del self._live[number]
                self.slots.free(request, self.clock.seconds)
                return

    @property
    def awaits_first(self) -> bool:
        """Whether some sequence of the batch has given no token yet."""
        return any(request.first is None for request in self._live.values())

    def steps_until_an_end(self) -> int:
        """Decode steps of all running sequences after which the first of them is complete."""
        lefts = [request.spec.output - request.generated for request in self._live.values()]
        return min(lefts, default=0)

    def fast_forward(self, steps: int, until: float) -> dict[int, list[int]]:
        """Decode all sequences `steps` times, or as often as steps begin before `until` (seconds).

        Returns the tokens by sequence.
        """
        live = self._live
        count = len(live)
        contexts = [request.prompt_tokens + request.generated for request in live.values()]
        shape, growing, edge = self._decode_shape(contexts)
        before, now = self._last_end, self.clock.seconds
        began, first, largest, done = now, now, 0.0, 0
        for seconds in self._step_times.decodes(
            shape, min(steps, edge or steps), near_growth=growing, expected=until - now
        ):
            self.step_began = now
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
        tokens = {number: [request.token] * done for number, request in live.items()}
        for number in self._settle(first, now, largest, done):
            tokens[number][-1] = self._finish(number, live[number], now)
        self.clock.seconds = self._last_end = now
        model, last = self._step_times.model, later(shape, done - 1, growing)
        # At the limits, a decode's time grows evenly with its context.
        ideal = done * (model.ideal(shape) + model.ideal(last)) / 2
        self._note(done, done * count, now - began, ideal)
        return tokens

    def _start(self, entries: Seq[NewSequence], slices: Seq[Slice], now: float) -> None:
        starts = {piece.seq: piece.start for piece in slices}
        for entry in entries:
            request = self._requests[entry.sampling.seed]
            if not request.started:
                request.started = True
                request.cached_tokens = starts[entry.seq]
            self._live[entry.seq] = request
            self.slots.take(request, now)

    def _sample(self, slices: Seq[Slice], now: float) -> list[Sampled]:
        live, before = self._live, self._last_end
        since_last = now - before
        sampled, regular = [], 0
        for piece in slices:
            if not piece.outputs:
                continue
            number = piece.seq
            request = live[number]
            count = 1 if piece.outputs == 1 else self._accept(request, piece)
            request.generated += count
            if request.last == before and request.first is not None:
                regular += 1
                request.largest_gap = max(request.largest_gap, since_last)
                request.last = now
            else:
                self._note_first(request, now)
            token = request.token
            if request.generated == request.spec.output:
                token = self._finish(number, request, now)
            tokens = (token,) if count == 1 else (request.token,) * (count - 1) + (token,)
            sampled.append(Sampled(seq=number, tokens=tokens))
        if regular:
            self._gaps[round(since_last * MICROSECONDS)] += regular
        return sampled

    def _accept(self, request: SimulatedRequest, piece: Slice) -> int:
        """Tokens that a slice with drafts gives, which all come at once."""
        count = 1
        for draft in piece.tokens[1 - piece.outputs :]:
            if draft != request.token or request.generated + count == request.spec.output:
                break
            count += 1
        self._gaps[0] += count - 1
        request.draft_tokens += piece.outputs - 1
        request.accepted_tokens += count - 1
        return count

    def _note_first(self, request: SimulatedRequest, now: float) -> None:
        """A token of an answer that got none in the step before."""
        if request.first is None:
            request.first = now
        else:
            gap = now - request.last
            request.largest_gap = max(request.largest_gap, gap)
            self._gaps[round(gap * MICROSECONDS)] += 1
        if request.slot_first_token is None:
            request.slot_first_token = now
        request.last = now

    def _finish(self, number: int, request: SimulatedRequest, now: float) -> int:
        """Complete a request; returns the token that ends it."""
        del self._live[number]
        self.slots.free(request, now)
        return STOP if request.spec.cap > request.spec.output else request.token

    def _settle(self, first: float, now: float, largest: float, steps: int) -> list[int]:
        """Note the tokens of `steps` decode steps, which ended from `first` to `now`.

        Returns the sequences that are complete.
        """
        before = self._last_end
        since_last, regular = first - before, 0
        completed = []
        for number, request in self._live.items():
            if request.last == before:
                regular += 1
                request.largest_gap = max(request.largest_gap, since_last, largest)
            else:
                self._note_first(request, first)
                request.largest_gap = max(request.largest_gap, largest)
            request.generated += steps
            request.last = now
            if request.generated == request.spec.output:
                completed.append(number)
        if regular:
            self._gaps[round(since_last * MICROSECONDS)] += regular
        return completed

    def _decode_shape(self, contexts: list[int]) -> tuple[StepShape, int, int]:
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

    def _note(self, steps: int, tokens: int, seconds: float, ideal: float) -> None:
        self.counts.steps += steps
        self.counts.tokens += tokens
        self.counts.busy += seconds
        self.counts.ideal += ideal
