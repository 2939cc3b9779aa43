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
ROOM = 0.8
"""Of the time between tokens that is asked for: what an engine's steps may take, as predicted, for
it to be given more answers. Contexts grow, and not all that comes there is foreseen."""
ANSWER_TOKENS = 32
"""Over so many tokens, as answers may be short, the pause of being handed over is spread."""


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
        there = _seconds_a_token(request, engines[best])
        most = ROOM * request.pace.tpot
        if not mine.by_deadline:  # else it keeps the pace of those who stay by itself
            most = max(most, mine.tpot(0.0))
        return best if there <= most else home

    def _best(
        self, request: RequestShape, engines: Sequence[EngineView], chosen: int, fit: set[int]
    ) -> int:
        """The engine that was chosen of those whose role fits, or another one that is much better.

        Where the request is late on all, the router chooses among all.
        """
        ttft, asked = engines[chosen].forecast(request)[0], request.pace.ttft
        others = [index for index in range(len(engines)) if index not in fit]
        if ttft <= asked and self._can_go_on(request, engines[chosen], engines):
            if asked < math.inf:
                return chosen
            soonest = min(others, key=lambda index: engines[index].forecast(request)[0])
            there = engines[soonest].forecast(request)[0]
            return soonest if there * OUT_OF_ROLE < ttft else chosen
        on_time = [index for index in (chosen, *others) if _on_time(request, engines[index])]
        if on_time:
            return on_time[self.router.choose(request, [engines[index] for index in on_time])]
        return self.router.choose(request, engines)

    def _can_go_on(
        self, request: RequestShape, chosen: EngineView, engines: Sequence[EngineView]
    ) -> bool:
        """Whether there is an engine that would keep the pace of an answer to it, once its prompt
        is computed."""
        pace = ROOM * request.pace.tpot
        if chosen.role != "prefill" or pace == math.inf:
            return True
        # All that is on its way there counts, and most prompts that are computed now are.
        decoders = [view for view in engines if view.role != "prefill"]
        share = 1 / max(1, len(decoders))
        requests = 1 + sum([view.requests for view in engines])
        contexts = request.prompt_tokens + sum([view.contexts for view in engines])
        return any(
            view.costs.decodes(math.ceil(requests * share), math.ceil(contexts * share)) <= pace
            for view in decoders
        )


def _prompt_alone(request: RequestShape) -> RequestShape:
    """The request as an engine sees it that only computes its prompt: no stream that minds is held
    up there."""
    return replace(request, pace=Pace(ttft=request.pace.ttft))


def _on_time(request: RequestShape, view: EngineView) -> bool:
    """Whether it would keep its TTFT there, and all who are there their pace."""
    ttft, own = view.forecast(request)
    return ttft <= request.pace.ttft and view.tpot(own) <= request.pace.tpot


def _seconds_a_token(request: RequestShape, view: EngineView) -> float:
    """What a token of the answer takes there, with a share of the pause before."""
    pause = view.forecast(request)[0]
    return view.tpot_with(request) + pause / ANSWER_TOKENS
