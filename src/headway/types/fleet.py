"""Settings of several engines behind one server: how many, and which of them gets a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headway.settings import check_settings, setting

RouterName = Literal["round-robin", "least-requests", "prefix", "predicted"]
"""See `headway.routing`, which has a router for each."""
MOST_REPLICAS = 64
"""Engines of one server at most."""


@dataclass(frozen=True, kw_only=True)  # without slots, so that other settings can have these too
class FleetConfig:
    """How many engines run one model side by side."""

    replicas: int = setting(
        1,
        "engine processes of the model, which share the cores; requests outlive each of them",
        least=1,
        most=MOST_REPLICAS,
    )
    router: RouterName = setting(
        "predicted",
        "which of several engines gets a request: in turn, by load, by prefix, or where it is"
        " predicted to begin first at the least cost to others",
    )

    def __post_init__(self) -> None:
        check_settings(self)


ONE_ENGINE = FleetConfig()
