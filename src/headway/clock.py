"""Time, as something that can be replaced.

Deciding code takes `now` as a number; only the engine loop and the edges hold a `Clock`. The
simulator puts a virtual one here. Seconds throughout, from an arbitrary origin that all processes
of one machine share (so an arrival stamped by the API process is comparable in the engine).

Time as a number: it moves when a simulated step takes some, or when nothing is to be done.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since an arbitrary origin; never decreases."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()


class VirtualClock:
    """Seconds since the simulation's start. Whoever simulates sets `seconds`, forwards only."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds
