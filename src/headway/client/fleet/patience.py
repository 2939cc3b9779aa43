"""How long requests wait for an engine that has died to be started again, before others get them.

Nearly always it is back within a second or so. What is on probation waits for that, since it may be
what killed the engine and would kill the next one, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from headway.background import later
from headway.client.fleet.member import FleetMember

PATIENCE_SECONDS = 5.0
"""From an engine's death on."""

logger = logging.getLogger(__name__)


class Patience:
    """Says of replicas that are down whether they are `overdue`. For one event loop."""

    def __init__(self, on_overdue: Callable[[], object]) -> None:
        self._on_overdue = on_overdue
        self._waiting: dict[FleetMember, asyncio.TimerHandle] = {}

    def watch(self, replicas: Sequence[FleetMember]) -> None:
        """To be called whenever the state of a replica has changed."""
        for each in replicas:
            if each.client.state != "restarting":
                each.overdue = False
                self._forget(each)
            elif each not in self._waiting:
                self._waiting[each] = later(
                    PATIENCE_SECONDS,
                    partial(self._lose, each),
                    name="waiting for an engine",
                    on_failure=lambda _: None,  # what waits goes on once the engine is back
                )
        for gone in self._waiting.keys() - set(replicas):
            self._forget(gone)

    def close(self) -> None:
        """Wait for nothing any more."""
        self.watch(())

    def _forget(self, replica: FleetMember) -> None:
        timer = self._waiting.pop(replica, None)
        if timer is not None:
            timer.cancel()

    def _lose(self, replica: FleetMember) -> None:
        if replica.client.state == "restarting" and not replica.resting:
            replica.overdue = True
            logger.warning("engine is not back yet replica=%d", replica.id)
            self._on_overdue()
