"""`paced` with one of its parts off or done otherwise, for `paced_ablation.py`.

A variant puts a subclass, a function or a constant in the place of the shipped one while one load
is simulated. So the product needs no switch for a part that it always has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

from headway.config import MONTH, PolicyOption
from headway.perf.sim import simulate as simulator
from headway.scheduling.policy import paced
from headway.scheduling.policy.base import SequenceView
from headway.scheduling.policy.pacing import budget, line, overload, step
from headway.scheduling.policy.pacing.deadlines import best_effort, first_token_due, slack
from headway.scheduling.policy.pacing.line import LineUp, PrefillRate
from headway.scheduling.policy.pacing.overload import Job, left_out
from headway.scheduling.policy.pacing.step import PacedStep
from headway.scheduling.policy.pacing.step_load import StepLoad
from headway.steptime.model import regime
from headway.steptime.online import OnlineStepTimes
from headway.steptime.profiles import Profile
from headway.steptime.shape import Features, ModelSizes, PeakRates, StepShape, decodes_after
from headway.types import SERVICE_CLASSES

SHIPPED = "as shipped"
Place = tuple[object, str, Any]
"""An object, the name of one of its attributes, and what that is for the run."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to do one part otherwise."""

    part: str
    """What it changes, in the words of docs/batch-size.md."""
    name: str
    places: Callable[[Profile], Iterable[Place]] = lambda _: ()
    options: Mapping[str, PolicyOption] = field(default_factory=dict)
    max_num_batched_tokens: int | None = None

    def on(self, profile: Profile) -> ExitStack:
        """A context in which simulations plan as this variant does."""
        stack = ExitStack()
        for owner, name, value in self.places(profile):
            stack.enter_context(patch.object(owner, name, value))
        return stack


class NobodyLate(LineUp):
    """All that wait are taken to be on time."""

    def _who_is_on_time(self, found: list[SequenceView]) -> list[SequenceView]:
        return found


class NoHalfStep(PacedStep):
    """A first token is taken to come within a step, not at its end."""

    def _prefill_rate(self) -> PrefillRate:
        return super()._prefill_rate()._replace(cycle=0.0)


class ByDeadline(LineUp):
    """A prompt that has begun waits for one that is due sooner."""

    def _who_is_on_time(self, found: list[SequenceView]) -> list[SequenceView]:
        patience = self._patience
        return super()._who_is_on_time(sorted(found, key=lambda s: first_token_due(s, patience)))


class NoTimeBudget(PacedStep):
    """A step may take as long as it likes."""

    def _time_budget(self) -> float:
        return math.inf


class CatchUpAtOnce(PacedStep):
    """A stream that is behind gets decode steps alone."""

    def _time_budget(self) -> float:
        behind = any(-budget.HOPELESS * pace < left <= 0 for left, pace in self._dues)
        return min(super()._time_budget(), self._load.bound if behind else math.inf)


class AnyNumber(PacedStep):
    """Who waits joins without regard to the pace of later steps."""

    def _keeps(self, later: StepLoad, pace: float) -> bool:
        del later, pace
        return True


class TwentiethToSpare(PacedStep):
    """A share of the pace is left for contexts to grow into."""

    spare = 0.05

    def _keeps(self, later: StepLoad, pace: float) -> bool:
        return super()._keeps(later, pace * (1 - self.spare))


class MoreToSpare(TwentiethToSpare):
    spare = 0.15


class RelegatedPause(PacedStep):
    """Decodes of best effort are left out while prefills that have deadlines want the step."""

    def _under_way(self) -> tuple[list[SequenceView], list[SequenceView], list[SequenceView]]:
        found = super()._under_way()
        times = self._view.step_times
        if times is None or not (found[0] or not all(map(best_effort, self._view.waiting))):
            return found
        going = [s for s in self._view.running if s.todo == 1 and not self._may_pause(s)]
        self._tokens = [(seq.id, 1) for seq in going]
        decodes = decodes_after([seq.computed for seq in going], times.window)
        self._load = StepLoad(times, decodes)
        return found

    def _may_pause(self, seq: SequenceView) -> bool:
        return best_effort(seq)


class EarlyPause(RelegatedPause):
    """Those of streams that are more than two tokens ahead of their pace."""

    def _may_pause(self, seq: SequenceView) -> bool:
        return slack(seq, self._view.now) > 2 * self._pace(seq)


class NoShare(PacedStep):
    """Patience ends for nobody who waits."""

    def _promote(self, parked: list[SequenceView]) -> list[SequenceView]:
        del parked
        return []


def last_out(jobs: Iterable[Job]) -> list[Job]:
    """Whoever would end after it is due is left out itself."""
    found, total = [], 0.0
    for job in jobs:
        if total + job.seconds > job.due:
            found.append(job)
        else:
            total += job.seconds
    return found


def nobody_out(_: Iterable[Job]) -> list[Job]:
    return []


def begun_or_not(jobs: Iterable[Job]) -> list[Job]:
    """What has begun is left out as easily as what waits."""
    return left_out(job._replace(spared=False) for job in jobs)


class NotLearning(OnlineStepTimes):
    """Coefficients stay as they were given; margins are learned."""

    def learn(self, shape: StepShape, seconds: float) -> None:
        if shape.tokens and seconds > 0.0:
            self._regimes[regime(shape)].learn(seconds / self.predict(shape))


class FixedMargin(OnlineStepTimes):
    """The margin is a constant."""

    factor = 1.0

    def bound(self, shape: StepShape) -> float:
        return self.factor * self.predict(shape)


class TenPerCent(FixedMargin):
    factor = 1.1


class HalfAsMuch(FixedMargin):
    factor = 1.5


def by_arrival(_: paced.Paced, seq: SequenceView) -> tuple[float, ...]:
    return (seq.arrival,)


def planned_by(kind: type[PacedStep]) -> Callable[[Profile], list[Place]]:
    return lambda _: [(paced, "PacedStep", kind)]


def lined_up_by(kind: type[LineUp]) -> Callable[[Profile], list[Place]]:
    return lambda _: [(step, "LineUp", kind)]


def constant(owner: object, name: str, value: Any) -> Callable[[Profile], list[Place]]:
    return lambda _: [(owner, name, value)]


def predicted_by(
    kind: type[OnlineStepTimes], coefficients: Callable[[Profile], Features | None] = lambda _: None
) -> Callable[[Profile], list[Place]]:
    def made(known: Features | None, sizes: ModelSizes, rates: PeakRates) -> OnlineStepTimes:
        return kind(sizes, rates, known)

    return lambda profile: [(simulator, "step_times_of", partial(made, coefficients(profile)))]


Ways = dict[str, dict[str, Callable[[Profile], Iterable[Place]]]]
"""By the part that is done otherwise: what each way replaces."""


def ways_to_plan() -> Ways:
    return {
        "the costliest are left out": {
            "the last are": constant(line, "left_out", last_out),
            "nobody is who could be on time alone": constant(line, "left_out", nobody_out),
            "nobody ever is": lined_up_by(NobodyLate),
        },
        "lower classes first": {
            "any class": constant(overload, "_FIRST", dict.fromkeys(SERVICE_CLASSES, 0))
        },
        "who floods is late": {"whoever costs most": constant(line, "flooding", lambda _: None)},
        "what has begun is left out last": {
            "begun or not": constant(line, "left_out", begun_or_not)
        },
        "what has begun is finished first": {"in the order of deadlines": lined_up_by(ByDeadline)},
        "a first token comes at the end of a step": {"within it": planned_by(NoHalfStep)},
        "the order of deadlines": {"of arrival": constant(paced.Paced, "order", by_arrival)},
        "a step's time is bounded": {"it is not": planned_by(NoTimeBudget)},
        "without decodes too": {
            "not without": constant(step, "budget_without_decodes", lambda *_: math.inf)
        },
        "no step is longer than four paces": {
            "as long as streams are ahead": constant(budget, "LONGEST_GAP", 1e9)
        },
        "who is behind catches up with half": {
            "with nothing": constant(budget, "HOPELESS", 0),
            "with all": planned_by(CatchUpAtOnce),
            "however far behind": constant(budget, "HOPELESS", 1e9),
        },
        "admission by the pace of a later step": {
            "none": planned_by(AnyNumber),
            "0.05 to spare": planned_by(TwentiethToSpare),
            "0.15 to spare": planned_by(MoreToSpare),
        },
        "no chunk below 16 tokens": {
            "any": constant(step, "LEAST_CHUNK", 1),
            "none below 128": constant(step, "LEAST_CHUNK", 128),
        },
        "a share after patience": {
            "none": planned_by(NoShare),
            "one in 8": constant(step, "SHARE_BEYOND_PATIENCE", 8),
            "in every step": constant(step, "TURN", step.TURNS),
        },
        "decodes always": {
            "relegated ones pause": planned_by(RelegatedPause),
            "those that are ahead pause": planned_by(EarlyPause),
        },
    }


def ways_to_predict() -> Ways:
    return {
        "a margin that is learned": {
            "none": predicted_by(FixedMargin),
            "1.1": predicted_by(TenPerCent),
            "1.5": predicted_by(HalfAsMuch),
        },
        "step times that are learned": {
            "the machine's limits": predicted_by(NotLearning),
            "known from the start": predicted_by(NotLearning, lambda each: each.coefficients),
        },
    }


def variants() -> list[Variant]:
    """All of them; the shipped policy first."""
    found = [Variant(part=SHIPPED, name=SHIPPED)]
    for part, ways in (ways_to_plan() | ways_to_predict()).items():
        found += [Variant(part=part, name=name, places=places) for name, places in ways.items()]
    found += [
        Variant(
            part="a step's time is bounded",
            name=f"{tokens} tokens are",
            places=planned_by(NoTimeBudget),
            max_num_batched_tokens=tokens,
        )
        for tokens in (512, 2048)
    ]
    found.append(Variant(part="relegated", name="shed", options={"overload": "shed"}))
    found.append(Variant(part="patience 60 s", name="for ever", options={"patience": MONTH}))
    return found
