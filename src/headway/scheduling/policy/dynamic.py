"""Dynamic batching: like static, but a batch departs when it is full or has waited long enough."""

from __future__ import annotations

from headway.scheduling.policy.base import Decision, View, board_whole_batch, run_on


class Dynamic:
    """Holds a batch back for at most `wait` seconds after the arrival of its oldest request."""

    timeless = True

    def __init__(self, *, wait: float) -> None:
        self.wait = wait

    def decide(self, view: View) -> Decision:
        if view.running:
            return run_on(view)
        if not len(view.waiting):
            return Decision()
        departure = view.waiting.oldest_arrival() + self.wait
        if len(view.waiting) >= view.seats or view.now >= departure:
            return board_whole_batch(view)
        return Decision(ask_again=departure)
