"""Time, as something that can be replaced.

Deciding code takes `now` as a number; only the engine loop and the edges hold a `Clock`. The
simulator puts a virtual one here. Seconds throughout, from an arbitrary origin that all processes
of one machine share (so an arrival stamped by the API process is comparable in the engine).
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
