"""What the policy sees, made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headway.scheduling.policy.base import View
from headway.steptime.online import StepTimes
from headway.steptime.shape import StepShape
from headway.types import ServiceClass
from headway.types.objectives import NO_PACE, Pace
from tests.scheduling.harness import limits_of


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


def view_of(
    *,
    running: Sequence[Seen] = (),
    waiting: Sequence[Seen] = (),
    now: float = 100.0,
    step: int = 1,
    free_slots: int = 8,
    times: StepTimes | None = None,
) -> View:
    """A moment in which there is memory for everybody, and no prefix is cached."""
    todo = {seq.id: seq.todo for seq in waiting}
    return View(
        now=now,
        running=running,
        waiting=waiting,
        waiting_later=lambda standing: iter(()),
        candidates=(),
        limits=limits_of(seqs=64, tokens=8192, partial=1, model_len=8192),
        free_slots=free_slots,
        launch_size=len(running),
        whose_turn_ends=lambda: None,
        offer=lambda number: True,
        uncached=todo.__getitem__,
        step=step,
        paced=True,
        step_times=times,
    )
