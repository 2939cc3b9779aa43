"""Which of several engines gets a request: a pure decision, shared by the simulator and servers.

A router sees the shape of a request (`request`) and what is known of each engine (`view`): what was
sent there, and what its steps told since. So the same code decides in a simulation and in front of
real engines. Plain Python; no I/O, no clock. A new router is a file with a class that has `choose`,
and a line in `_MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import get_args

from headway.errors import InvalidRequest
from headway.routing.base import Router
from headway.routing.least_requests import LeastRequests
from headway.routing.predicted import Predicted
from headway.routing.prefix import LongestPrefix
from headway.routing.request import PromptPrefix, RequestShape, shape_of
from headway.routing.roles import RoleRouter
from headway.routing.round_robin import RoundRobin
from headway.routing.step_costs import StepCosts, step_costs
from headway.routing.view import EngineView
from headway.types.fleet import RouterName

__all__ = [
    "ROUTERS",
    "EngineView",
    "PromptPrefix",
    "RequestShape",
    "RoleRouter",
    "Router",
    "RouterName",
    "StepCosts",
    "make_router",
    "router_name",
    "shape_of",
    "step_costs",
]

ROUTERS: tuple[RouterName, ...] = get_args(RouterName)

_MAKERS: Mapping[RouterName, Callable[[], Router]] = MappingProxyType(
    {
        "round-robin": RoundRobin,
        "least-requests": LeastRequests,
        "prefix": LongestPrefix,
        "predicted": Predicted,
    }
)
_FORMER: Mapping[str, str] = MappingProxyType(
    {
        "prefix-affine": "is called prefix now",
        "least-tokens": "is gone: predicted reckons with the tokens that are still to be computed",
    }
)


def make_router(name: RouterName) -> Router:
    """A new router of this name, which has seen no request yet."""
    return _MAKERS[name]()


def router_name(text: str) -> RouterName:
    """The router that a user named; raises `InvalidRequest`, which knows the names of old."""
    for name in ROUTERS:
        if name == text:
            return name
    why = f"{text} {_FORMER[text]}" if text in _FORMER else f"{text!r} is no router"
    raise InvalidRequest(f"{why}; there are {', '.join(ROUTERS)}", field="--router")
