"""Dynamic batching: like static, but a batch starts when it is full or has waited long enough."""

from __future__ import annotations

from dataclasses import dataclass

from headway.config import MONTH
from headway.scheduling.policy.base import Decision, Policy, View, continue_batch, launch_batch
from headway.settings import check_settings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic(Policy):
    """Holds a batch back for at most `wait` seconds after the arrival of its oldest request."""

    wait: float = setting(
        0.05,
        "longest time (s) that the policy 'dynamic' holds a request to fill its batch",
        least=0,
        most=MONTH,
    )

    def __post_init__(self) -> None:
        check_settings(self, prefix="dynamic_")

    def decide(self, view: View) -> Decision:
        if view.running:
            return continue_batch(view)
        if not view.waiting:
            return Decision()
        start = min(seq.arrival for seq in view.waiting) + self.wait
        if len(view.waiting) >= view.free_slots or view.now >= start:
            return launch_batch(view)
        return Decision(ask_again=start)
