"""Roles of engines: which of them computes a prompt, and which goes on once that is done.

With roles, prefill and decode can be apart ("disaggregated"): some engines compute prompts, and
each request is handed over with its keys and values to an engine that generates the answer, where
no prompt of others holds it up. A role is what an engine does first, not all that it does: where
prompts would be late on the engines for prompts, and not on others, they go to those; and where the
engines for answers are too full to keep a request's pace, it stays. So a fleet whose roles do not
fit its load serves like one without. Roles that are fixed are kept whatever it costs.

Whatever its roles, an engine can do both: where all of one kind are gone, the others do their work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headway.routing.base import Router
from headway.routing.request import RequestShape
from headway.routing.view import EngineView
from headway.types.objectives import Pace

OUT_OF_ROLE = 3.0
"""A request that asks for no TTFT leaves engines of its role for one where it is so many times as
soon."""
ANSWER_TOKENS = 64
"""Over about so many tokens the pause of being handed over is spread."""


@dataclass(slots=True)
class RoleRouter:
    """A router that minds what engines are for; without roles it is the router itself."""

    router: Router
    fixed: bool = False
    """Engines do nothing but what their role says, as long as there is one of each."""

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        """Index of the engine that gets a request: a new one, whose prompt is to be computed, or
        one that has begun elsewhere. See `Router.choose`."""
        apart = "prefill" if request.begun else "decode"
        fit = [index for index, view in enumerate(engines) if view.role != apart]
        if not fit or len(fit) == len(engines):
            return self.router.choose(request, engines)
        asked = request if request.begun else _prompt_alone(request)
        chosen = fit[self.router.choose(asked, [engines[index] for index in fit])]
        if self.fixed or not engines[chosen].predicts:
            return chosen
        return self._best(request, engines, chosen, set(fit))

    def may_take_prompts(self, view: EngineView) -> bool:
        """Whether an engine that has nothing to do may be given what waits elsewhere."""
        return not self.fixed or view.role != "decode"

    def decoder(self, request: RequestShape, home: int, engines: Sequence[EngineView]) -> int:
        """Index of the engine that is to go on with a request whose prompt was computed by `home`,
        which may be `home`. `request` is what it is now: its first token is there."""
        mine = engines[home]
        if mine.role != "prefill":
            return home
        others = [
            index for index, view in enumerate(engines) if index != home and view.role != "prefill"
        ]
        if not others:
            return home
        roomy = [index for index in others if engines[index].has_room(request)]
        best = min(roomy or others, key=lambda index: _seconds_a_token(request, engines[index]))
        if self.fixed:
            return best
        if not roomy:
            return home
        there = engines[best].tpot(0.0)
        return best if there <= max(request.pace.tpot, mine.tpot(0.0)) else home

    def _best(
        self, request: RequestShape, engines: Sequence[EngineView], chosen: int, fit: set[int]
    ) -> int:
        """The engine that was chosen of those whose role fits, or another one that is much better.

        Where the request is late on all, the router chooses among all.
        """
        ttft, asked = engines[chosen].forecast(request)[0], request.pace.ttft
        others = [index for index in range(len(engines)) if index not in fit]
        if asked == math.inf:
            soonest = min(others, key=lambda index: engines[index].forecast(request)[0])
            there = engines[soonest].forecast(request)[0]
            return soonest if there * OUT_OF_ROLE < ttft else chosen
        if ttft <= asked:
            return chosen
        on_time = [index for index in others if _on_time(request, engines[index])]
        if on_time:
            return on_time[self.router.choose(request, [engines[index] for index in on_time])]
        return self.router.choose(request, engines)


def _prompt_alone(request: RequestShape) -> RequestShape:
    """The request as an engine sees it that only computes its prompt: no stream is held up there
    that minds."""
    return replace(request, pace=Pace(ttft=request.pace.ttft))


def _on_time(request: RequestShape, view: EngineView) -> bool:
    """Whether it would keep its TTFT there, and all who are there their pace."""
    ttft, own = view.forecast(request)
    return ttft <= request.pace.ttft and view.tpot(own) <= request.pace.tpot


def _seconds_a_token(request: RequestShape, view: EngineView) -> float:
    """What a token of the answer takes there, with a share of the pause before."""
    pause, own = view.forecast(request)
    return view.tpot(own) + pause / ANSWER_TOKENS
