"""Requests that cannot be on time: relegated to what others leave, or shed before they ran."""

from __future__ import annotations

from headway.scheduling.policy import Decision
from headway.scheduling.queues import Queues
from headway.scheduling.sequence import Sequence, end_event
from headway.types import TokenEvent

SHED = "the server is too busy to answer this within its objectives; try again later"


class Refusals:
    """Does what decisions say of waiting sequences, and counts it."""

    def __init__(self, queues: Queues) -> None:
        self.relegated = 0
        self.shed = 0
        self._queues = queues
        self._events: list[TokenEvent] = []

    def apply(self, decision: Decision) -> None:
        """Relegate and shed whom the policy names; raises `ValueError` where one does not wait."""
        for number in decision.relegate:
            self._queues.relegate(self._waiting(number))
        for number in decision.shed:
            seq = self._waiting(number)
            self._events.append(
                end_event(seq, "error", error=SHED, retry_after=decision.retry_after)
            )
            self._queues.end(seq)
        self.relegated += len(decision.relegate)
        self.shed += len(decision.shed)

    def _waiting(self, number: int) -> Sequence:
        seq = self._queues.live.get(number)
        if seq is None or seq.state != "waiting":
            raise ValueError(f"the policy refuses sequence {number}, which does not wait")
        return seq

    def take(self) -> list[TokenEvent]:
        """The ends of those that were shed since the last call."""
        events, self._events = self._events, []
        return events
