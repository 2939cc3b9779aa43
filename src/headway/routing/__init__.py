"""Which of several engines gets a request: a pure decision, shared by the simulator and servers.

Standard library only; no I/O, no clock. A router sees the shape of a request and what was sent to
each engine, so the same code decides in a simulation and in front of real engines.
"""

from headway.routing.routers import (
    ROUTERS,
    EngineView,
    LeastLoaded,
    PrefixAffine,
    RequestShape,
    RoundRobin,
    Router,
    RouterName,
    make_router,
)

__all__ = [
    "ROUTERS",
    "EngineView",
    "LeastLoaded",
    "PrefixAffine",
    "RequestShape",
    "RoundRobin",
    "Router",
    "RouterName",
    "make_router",
]
