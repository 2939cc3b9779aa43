"""The router `round-robin`: each engine in turn, whatever its load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.routing.request import RequestShape
from headway.routing.view import EngineView


@dataclass(slots=True)
class RoundRobin:
    """Looks at nothing."""

    last: int = -1

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:  # noqa: ARG002
        self.last = (self.last + 1) % len(engines)
        return self.last
