"""The router `predicted`: the engine where the request is on time and disturbs others least.

For each engine it predicts the time to the first token: the rest of the step under way, the prompts
ahead, and the part of its own prompt that is not cached there, each with what decodes beside it. To
that it adds what the prompt costs those that decode. Of engines where the request keeps its
objectives, the cheapest is chosen. These are its TTFT, and the TPOT of all who are there then.

Where it would be late on all of them, the least harm is looked for. An engine that serves those who
can be on time first lets it wait, so it goes where it takes least from few: the work of its prompt
times the requests there. One that serves in the order of arrival lets others wait: so it goes to an
engine where all newcomers are late already, and the others stay fast for those who come later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headway.routing.base import turn_of
from headway.routing.request import RequestShape
from headway.routing.view import LATELY, EngineView

DISTURBANCE = 0.2
"""What it costs to hold a decode up for a second, in seconds to a first token."""
PATIENCE = 60.0
"""Seconds; no queue is made longer than this as long as another one is shorter."""


@dataclass(slots=True)
class Predicted:
    """Looks at each engine once; equals in turn."""

    turn: int = -1

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        self.turn += 1
        pace = request.pace
        best = fallback = -1
        least = least_late = math.inf
        for index in turn_of(len(engines), self.turn):
            view = engines[index]
            ttft, own = view.forecast(request)
            cost = ttft + DISTURBANCE * _held_up(own, view)
            on_time = ttft <= pace.ttft and view.tpot(own) <= pace.tpot
            if on_time or not view.predicts:
                if cost < least:
                    best, least = index, cost
            elif best < 0:
                cost = _cost_of_late(pace.ttft, view, (ttft, own, cost))
                if cost < least_late:
                    fallback, least_late = index, cost
        return fallback if best < 0 else best


def _held_up(own: float, view: EngineView) -> float:
    """Seconds for which a prompt of `own` seconds holds those up that decode, summed.

    Where the engine keeps their pace, these count alike. Where it does not, a stream can bear one
    long prompt and not one after another: so they count the more, the more prompts came lately.
    """
    held_up = own * view.decodes
    return held_up if view.by_deadline else held_up * (2 * view.lately + own) / LATELY


def _cost_of_late(asked: float, view: EngineView, predicted: tuple[float, float, float]) -> float:
    """What orders engines where a request is late that asked for a TTFT.

    Of those that serve in the order of arrival one that is given up comes before others, and of
    several the one with the longest queue. `predicted` are its TTFT, the seconds of its own prompt,
    and its cost where it is on time.
    """
    ttft, own, cost = predicted
    if view.by_deadline:
        return own * (1 + view.requests)
    given_up = view.queue > asked and ttft < PATIENCE
    return -ttft if given_up else cost
