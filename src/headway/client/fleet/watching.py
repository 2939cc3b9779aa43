"""Watching the batches of a fleet whose engines come and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from headway.client.fleet.member import FleetMember
from headway.client.handle import BatchListener
from headway.types.batch_news import BatchNews


@dataclass(slots=True, eq=False)
class _Watcher:
    listener: BatchListener
    stops: dict[int, Callable[[], None]] = field(default_factory=dict)
    """How to stop watching each replica, by its id."""


class BatchWatchers:
    """Those who watch. Each hears of every replica in turn, and of one that leaves a last time."""

    def __init__(self) -> None:
        self._watchers: list[_Watcher] = []

    def add(self, listener: BatchListener, replicas: Iterable[FleetMember]) -> Callable[[], None]:
        """Let it hear of these replicas and those that will join; returns how to stop that."""
        watcher = _Watcher(listener)
        self._watchers.append(watcher)
        for replica in replicas:
            watcher.stops[replica.id] = replica.client.watch_batch(listener)

        def stop() -> None:
            self._watchers.remove(watcher)
            for stop_one in watcher.stops.values():
                stop_one()

        return stop

    def join(self, replica: FleetMember) -> None:
        """A replica is new."""
        for watcher in self._watchers:
            watcher.stops[replica.id] = replica.client.watch_batch(watcher.listener)

    def leave(self, replica: FleetMember) -> None:
        """A replica is gone: its batch is told as empty, so that nobody shows what it had."""
        empty = BatchNews(
            at=time.monotonic(),
            slots=0,
            num_running=0,
            num_waiting=0,
            running=[],
            waiting=[],
            ended=[],
            waits_for=None,
        )
        replica.client.on_batch_news(empty)
        for watcher in self._watchers:
            watcher.stops.pop(replica.id)()
