"""Policies that use all that a policy may: order, preemption, prediction, deadlines.

They are held to everything that the shipped ones are held to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast, get_args

from headway.config import PolicyName
from headway.scheduling.policy import (
    Decision,
    Policy,
    SequenceView,
    View,
    make_policy,
    policy_config,
)
from headway.scheduling.policy.base import fill
from headway.steptime.shape import StepShape

SHIPPED: tuple[PolicyName, ...] = get_args(PolicyName)


def deadline(seq: SequenceView) -> float:
    """When the next thing that was promised is due: its first token, then each further one."""
    if seq.first_token_at is None:
        return seq.arrival + seq.pace.ttft
    return seq.first_token_at + seq.generated * seq.pace.tpot


class EarliestDeadline(Policy):
    """Earliest deadline first, by the first token; the last gives way to one that is due before it.

    Of a sequence whose first token is there, the deadlines of the further ones count.
    """

    reorder = True
    fair = False

    def order(self, seq: SequenceView) -> tuple[float, ...]:
        return (deadline(seq), seq.arrival)

    def decide(self, view: View) -> Decision:
        fits = next(iter(view.candidates), None) is not None
        if not fits and view.waiting and view.running:
            first, last = view.waiting[0], view.running[-1]
            if last.preemptible and self.order(first) < self.order(last):
                return Decision(preempt=[last.id])
        return Decision(tokens=fill(view, view.candidates))


class Urgent(Policy):
    """As `EarliestDeadline`, but by the first token's deadline alone, which never changes."""

    fair = False

    def order(self, seq: SequenceView) -> tuple[float, ...]:
        return (seq.arrival + seq.pace.ttft, seq.arrival)

    def decide(self, view: View) -> Decision:
        fits = next(iter(view.candidates), None) is not None
        if not fits and view.waiting and view.running:
            first, last = view.waiting[0], view.running[-1]
            if last.preemptible and self.order(first) < self.order(last):
                return Decision(preempt=[last.id])
        return Decision(tokens=fill(view, view.candidates))


class Careful(Policy):
    """Admits only while a step is predicted to take no longer than 6 seconds, or nobody runs.

    What is predicted changes with every token, so it wants to be asked at every step.
    """

    def decide(self, view: View) -> Decision:
        tokens = fill(view)
        for seq in view.candidates:
            more = fill(view, self._up_to(view, seq))
            assert view.step_times is not None
            seconds = view.step_times.predict(StepShape(tokens=sum(count for _, count in more)))
            if tokens and seconds > 6.0:
                break
            tokens = more
        return Decision(tokens=tokens, ask_again=view.now if tokens else None)

    def _up_to(self, view: View, last: SequenceView) -> list[SequenceView]:
        found = []
        for seq in view.candidates:
            found.append(seq)
            if seq is last:
                break
        return found


class Shifts(Policy):
    """Admits in every other shift of 5 seconds; a decision holds to the end of its shift."""

    def decide(self, view: View) -> Decision:
        shift = view.now // 5
        until = (shift + 1) * 5
        if shift % 2 and view.running:
            return Decision(tokens=fill(view), ask_again=until)
        return Decision(tokens=fill(view, view.candidates), ask_again=until)


TOYS: Mapping[str, Callable[[], Policy]] = {
    "toy: earliest deadline": EarliestDeadline,
    "toy: urgent": Urgent,
    "toy: careful": Careful,
    "toy: shifts": Shifts,
}
NAMES: tuple[str, ...] = (*SHIPPED, *TOYS)


def policy_of(name: str, *, wait: float = 3.0) -> Policy:
    """A shipped policy, or one of `TOYS`."""
    if name in TOYS:
        return TOYS[name]()
    return make_policy(policy_config(cast(PolicyName, name), {"dynamic_wait": wait}))
