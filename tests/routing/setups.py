"""Engines and requests for routers, with costs that can be reckoned by hand."""

from __future__ import annotations

from collections.abc import Sequence

from headway.routing import EngineView, PromptPrefix, RequestShape, StepCosts
from headway.types import TokenEvent
from headway.types.objectives import NO_PACE, Pace

BY_HAND = StepCosts(least=1.0, fixed=0.5, token=0.25, pair=0.0, decode=0.125, position=0.0)
"""A prompt of four tokens takes a second, in a step that takes half a second more."""


def view_of(*, by_deadline: bool = False, most_tokens: int = 16, room: int = 4096) -> EngineView:
    return EngineView(costs=BY_HAND, by_deadline=by_deadline, most_tokens=most_tokens, room=room)


def request(
    name: str = "",
    prompt: int = 8,
    *,
    at: float = 0.0,
    prefixes: Sequence[tuple[bytes, int]] = (),
    ttft: float | None = None,
    tpot: float | None = None,
) -> RequestShape:
    bounds = {"ttft": ttft, "tpot": tpot}
    asked = {metric: bound for metric, bound in bounds.items() if bound is not None}
    return RequestShape(
        id=name,
        at=at,
        prompt_tokens=prompt,
        max_tokens=4,
        prefixes=[PromptPrefix(*each) for each in prefixes],
        pace=Pace(**asked) if asked else NO_PACE,
    )


def token(name: str, *, count: int = 1, cached: int = 0, drafts: int = 0) -> TokenEvent:
    return TokenEvent(
        id=name,
        tokens=(7,) * count,
        cached_tokens=cached,
        draft_tokens=drafts,
        accepted_tokens=count - 1 if drafts else 0,
    )
