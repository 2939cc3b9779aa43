"""Dynamic batching: like static, but a batch departs when it is full or has waited long enough."""

from __future__ import annotations

from dataclasses import dataclass

from headway.config import at_least, setting
from headway.scheduling.policy.base import Decision, View, board_whole_batch, run_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """Holds a batch back for at most `wait` seconds after the arrival of its oldest request."""

    timeless = True

    wait: float = setting(
        0.05, "longest time (s) that the policy 'dynamic' holds a request to fill its batch"
    )

    def __post_init__(self) -> None:
        at_least("dynamic_wait", self.wait, 0)

    def decide(self, view: View) -> Decision:
        if view.running:
            return run_on(view)
        if not len(view.waiting):
            return Decision()
        departure = view.waiting.oldest_arrival() + self.wait
        if len(view.waiting) >= view.seats or view.now >= departure:
            return board_whole_batch(view)
        return Decision(ask_again=departure)
