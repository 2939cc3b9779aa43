"""What an engine tells of its batches: the traffic it learned, the model, a step's prediction.

Told once a second, since making it costs as much as planning a step, and what it says changes over
many steps. Whoever listens makes an explanation of it (`headway.steptime.explanation`).
"""

from __future__ import annotations

from headway.scheduling.traffic import TrafficEstimate
from headway.steptime.margins import Margins
from headway.steptime.online import OnlineStepTimes
from headway.steptime.shape import shape_of
from headway.types import StepPlan
from headway.wire import LearnedModel, ModelStatus, PacingStats

INTERVAL = 1.0
"""Seconds between two tellings."""


class Pacing:
    """`times` is the model that steps are planned with, None where there is none."""

    def __init__(self, traffic: TrafficEstimate, times: OnlineStepTimes | None = None) -> None:
        self._traffic = traffic
        self._times = times
        self._news: PacingStats | None = None
        self._next = float("-inf")

    def on_plan(self, plan: StepPlan, now: float) -> None:
        """A step was planned, and is computed next."""
        if now < self._next:
            return
        self._next = now + INTERVAL
        predicted = bound = None
        if self._times is not None:
            shape = shape_of(plan.slices, self._times.window)
            predicted, bound = self._times.predict(shape), self._times.bound(shape)
        self._news = PacingStats(
            at=now,
            traffic=self._traffic.means(now),
            model=None if self._times is None else learned_model(self._times),
            sequences=len(plan.slices),
            tokens=sum(len(part.tokens) for part in plan.slices),
            drafting=sum(part.outputs > 1 for part in plan.slices),
            predicted_seconds=predicted,
            bound_seconds=bound,
        )

    def news(self) -> PacingStats | None:
        """What was not told yet, once; None where there is nothing new."""
        news, self._news = self._news, None
        return news


def learned_model(times: OnlineStepTimes) -> LearnedModel:
    """What the model knows by now, as it is told."""
    status = times.status
    known: ModelStatus = "learned" if times.reliable else "fallback"
    return LearnedModel(
        status=known if status.steps else "prior",
        coefficients=status.coefficients,
        margins=Margins(**{name: each.margin for name, each in status.regimes.items()}),
        steps=status.steps,
        error=status.mean if status.steps else None,
        off=tuple(
            name for name, each in status.regimes.items() if each.steps and not each.reliable
        ),
    )
