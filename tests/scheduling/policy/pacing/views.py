"""Sequences as the policy sees them, made by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headway.steptime.shape import StepShape
from headway.types import ServiceClass
from headway.types.objectives import NO_PACE, Pace


@dataclass(kw_only=True)
class Seen:
    """A `SequenceView`."""

    id: int = 0
    todo: int = 1
    computed: int = 0
    generated: int = 0
    due: float = math.inf
    deferred: bool = False
    preemptible: bool = True
    arrival: float = 0.0
    first_token_at: float | None = None
    priority: int = 0
    tenant: str = ""
    caller: str = ""
    group: str = ""
    answering: bool = False
    service_class: ServiceClass = "standard"
    pace: Pace = NO_PACE
    late: bool = False


class LinearTimes:
    """Step times that are easy to reckon with: so much a step, a token, and a position read."""

    window: int | None = None

    def __init__(
        self,
        *,
        step: float = 0.01,
        token: float = 1e-4,
        position: float = 1e-7,
        margin: float = 1.0,
    ) -> None:
        self.step = step
        self.token = token
        self.position = position
        self.margin = margin
        self.learned: list[tuple[StepShape, float]] = []

    def predict(self, shape: StepShape) -> float:
        read = shape.decode_context + shape.prefill_context
        return self.step + self.token * shape.tokens + self.position * read

    def bound(self, shape: StepShape) -> float:
        return self.margin * self.predict(shape)

    def learn(self, shape: StepShape, seconds: float) -> None:
        self.learned.append((shape, seconds))
