"""The router `least-requests`: the engine with the fewest requests, equals in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.routing.base import turn_of
from headway.routing.request import RequestShape
from headway.routing.view import EngineView


@dataclass(slots=True)
class LeastRequests:
    """Counts requests that wait or run, however long they are."""

    turn: int = -1

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:  # noqa: ARG002
        self.turn += 1
        order = turn_of(len(engines), self.turn)
        return min(order, key=lambda index: engines[index].requests)
