"""The engine process's heartbeat: that it lives, and for how long its present step has lasted.

A thread of its own tells both once a second, so that the API process can tell a process that was
stopped (nothing comes) from a step that does not end (one number stays and the other grows). The
loop's part is one assignment when a step begins and one when it ends; there is no lock between
the two.
"""

from __future__ import annotations

import threading
import time

from headway.clock import Clock
from headway.engine.channel import Channel
from headway.wire import Heartbeat

INTERVAL = 1.0
"""Seconds between heartbeats."""


class StepProgress:
    """Which step the loop is in, if any; written by the loop and read by the heartbeat."""

    __slots__ = ("_clock", "_present", "_step")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._step = 0
        self._present: tuple[int, float] | None = None
        """Number and beginning of the step under way, in one object, so that they fit together."""

    def begin(self) -> None:
        """A step begins, with the messages that are taken in before it."""
        self._step += 1
        self._present = (self._step, self._clock.now())

    def end(self) -> None:
        self._present = None

    def heartbeat(self) -> Heartbeat:
        """What to tell now."""
        present = self._present
        if present is None:
            return Heartbeat(step=self._step)
        return Heartbeat(step=present[0], seconds=self._clock.now() - present[1])


def start_heartbeat(channel: Channel, progress: StepProgress) -> None:
    """Send a heartbeat now and once a second from here on, for as long as the process lives."""

    def beat() -> None:
        while True:
            channel.send_heartbeat(progress.heartbeat())
            time.sleep(INTERVAL)

    threading.Thread(target=beat, name="engine-heartbeat", daemon=True).start()
