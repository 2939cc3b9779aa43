"""Whether the load generator itself kept up, for a slow client makes a fast server look slow.

Two things are watched: how late requests were sent, and how late the event loop woke for a timer
that should fire every few milliseconds, which is also how late it may have read a token. Beside
them stands the processor time that the client took, for it often shares the cores with the server.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from headway.perf.records import percentile

INTERVAL = 0.02
"""Seconds between two timers of the probe."""
TOLERABLE = 0.025
"""Seconds of delay at the 99th percentile from which on figures are not to be trusted."""
TOLERABLE_SHARE = 0.01
"""Requests may be late by this share of the run: a thousand at once cannot leave at once."""
FULL = 0.9
"""Share of one core from which on the client is the bottleneck, or nearly so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDelay:
    """How late the client was, in seconds."""

    late_p99: float
    """Sending, behind the time when a request was due."""
    late_max: float
    wake_p99: float
    """Of the event loop, behind the time of a timer."""
    wake_max: float
    busy: float
    """Processor time of the client's thread, as a share of the run's duration."""
    duration: float

    @property
    def warning(self) -> str | None:
        """A sentence for the reader of the figures; None if the client kept up."""
        reasons = []
        if self.wake_p99 > TOLERABLE:
            reasons.append(f"its event loop woke up to {self.wake_p99 * 1e3:.0f} ms late (p99)")
        if self.late_p99 > max(TOLERABLE, TOLERABLE_SHARE * self.duration):
            reasons.append(f"requests left up to {self.late_p99 * 1e3:.0f} ms late (p99)")
        if self.busy > FULL:
            reasons.append(f"it used {self.busy:.0%} of a core")
        if not reasons:
            return None
        return (
            f"the client could not keep up: {', '.join(reasons)}; latencies include its own "
            "delay, so ask for less or run it on other cores"
        )


class ClientDelayProbe:
    """Measures the event loop that it is entered on, with `with`, until it is left."""

    def __init__(self) -> None:
        self._delays = array("d")
        self._timer: asyncio.TimerHandle | None = None
        self._cpu = 0.0

    def __enter__(self) -> ClientDelayProbe:
        self._loop = asyncio.get_running_loop()
        self._cpu = time.thread_time()
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._cpu = time.thread_time() - self._cpu

    def result(self, late: Sequence[float], duration: float) -> ClientDelay:
        """What was measured, once left; `late` is how late each request was sent, in seconds."""
        return ClientDelay(
            late_p99=percentile(late, 99) if late else 0.0,
            late_max=max(late, default=0.0),
            wake_p99=percentile(self._delays, 99) if self._delays else 0.0,
            wake_max=max(self._delays, default=0.0),
            busy=self._cpu / duration if duration > 0 else 0.0,
            duration=duration,
        )

    def _arm(self) -> None:
        # The loop's own clock stands still within a turn, on uvloop at least.
        due = time.perf_counter() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._fire, due)

    def _fire(self, due: float) -> None:
        self._delays.append(max(0.0, time.perf_counter() - due))
        self._arm()
