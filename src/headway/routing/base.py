"""What every router is, and how those that look for the least treat equals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from headway.routing.request import RequestShape
from headway.routing.view import EngineView


class Router(Protocol):
    """Chooses an engine for each request, in the order of arrival."""

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        """Index of the engine, of those that are offered: at least one. Which are offered, and in
        which order, may change from call to call."""
        ...


def turn_of(count: int, turn: int) -> chain[int]:
    """The indices 0 to `count` - 1, beginning with another one at each `turn`: whoever takes the
    first of equals is fair to them."""
    start = turn % count
    return chain(range(start, count), range(start))
