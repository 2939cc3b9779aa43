"""Time as a number: it moves when a simulated step takes some, or when nothing is to be done."""

from __future__ import annotations


class VirtualClock:
    """Seconds since the simulation's start. Whoever simulates sets `seconds`, forwards only."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds
