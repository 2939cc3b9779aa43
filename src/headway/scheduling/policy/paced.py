"""Paced batching: every step's batch follows from the objectives, the machine and the traffic.

A step's time, not its tokens, is what is bounded: decodes come first, and prefills get as large a
chunk as the tightest deadline leaves. Who waits is admitted in the order of deadlines, as long as
those in the batch keep theirs; where not all can be on time, those that cost most are left out, so
that most are. What is left of a step's time goes to the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from headway.config import MONTH
from headway.scheduling.policy.base import Decision, Policy, SequenceView, View
from headway.scheduling.policy.continuous import Continuous
from headway.scheduling.policy.pacing.deadlines import best_effort, first_token_due
from headway.scheduling.policy.pacing.step import PacedStep
from headway.settings import check_settings, setting
from headway.steptime.online import StepTimes

Overload = Literal["relegate", "shed"]
_CONTINUOUS = Continuous()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced(Policy):
    """Sets each step's batch from the objectives of its requests; without any, as `Continuous`."""

    overload: Overload = setting(
        "relegate",
        "what becomes of requests that cannot be on time under the policy 'paced': served with "
        "what others leave (relegate), or refused with 429 (shed)",
    )
    patience: float = setting(
        60.0,
        "seconds after which the policy 'paced' gives a share of the batch to a request that was "
        "relegated, or has no objectives",
        least=0,
        most=MONTH,
    )

    by_deadline = True

    def __post_init__(self) -> None:
        check_settings(self, prefix="paced_")

    def standing(self, seq: SequenceView) -> tuple[float, ...]:
        return (seq.priority, best_effort(seq))

    def order(self, seq: SequenceView) -> tuple[float, ...]:
        return (seq.arrival if best_effort(seq) else first_token_due(seq, self.patience),)

    def decide(self, view: View) -> Decision:
        if not view.paced or view.step_times is None:
            return _CONTINUOUS.decide(view)
        decision, refused = self._fill(view, view.step_times)
        first = view.waiting[0] if view.waiting else None
        if first is not None and (refused is first or not view.free_slots):
            last = view.whose_turn_ends()
            if last is not None:
                return Decision(give_way=[last.id])
        return decision

    def _fill(self, view: View, times: StepTimes) -> tuple[Decision, SequenceView | None]:
        """A step's batch, and the sequence for which there was no slot or no memory."""
        shedding = self.overload == "shed"
        begin = partial(PacedStep, view, times, patience=self.patience, shedding=shedding)
        nobody_joins = not view.waiting or not (view.free_slots or shedding)
        if nobody_joins:
            decodes = [(seq.id, 1) for seq in view.running if seq.todo == 1]
            if len(decodes) == len(view.running):
                # Nothing is left to choose but drafts, mostly not even these.
                within = Decision(tokens=decodes, most_seconds=lambda: begin().seconds_of_decodes())
                return within, None
        step = begin()
        return step.decide(), step.refused
