"""The router `prefix`: the engine that has most of the prompt in its KV cache, within limits.

A prompt of which no engine has a part, or only engines with too many requests, goes to the engine
with the fewest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.routing.base import turn_of
from headway.routing.request import RequestShape
from headway.routing.view import EngineView

MAX_LOAD_OVER_MEAN = 1.25
"""An engine with more requests than this times the mean gets no more for the sake of a prefix."""


@dataclass(slots=True)
class LongestPrefix:
    """Where several have as much, the one with the fewest requests; equals in turn."""

    turn: int = -1

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        self.turn += 1
        most = MAX_LOAD_OVER_MEAN * (1 + sum([each.requests for each in engines])) / len(engines)

        def rank(index: int) -> tuple[int, int]:
            view = engines[index]
            known = view.prefixes.known(request.prefixes) if view.requests < most else 0
            return (-known, view.requests)

        return min(turn_of(len(engines), self.turn), key=rank)
