"""Requests that are handed over from one simulated replica to another, with keys and values.

Where some replicas are for prompts, a request may leave its replica as soon as its first token has
come. With handovers replicas act on each other at any time, so they are advanced in the order of
time: always the one whose next step begins first, and none beyond what may still come.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from headway.clock import VirtualClock
from headway.perf.sim.fleet import Replica, shape_of, take_news
from headway.perf.sim.requests import SimulatedRequest
from headway.routing import EngineView, RequestShape, RoleRouter
from headway.types import TokenEvent

_COMPUTED, _JOINS, _ARRIVES = range(3)


class _Event(NamedTuple):
    """Something that concerns more than one replica; those at one time in the order of kinds."""

    at: float
    kind: int
    request: int
    """Its index."""
    replica: int = -1
    """Where its prompt was computed, or which it joins."""


@dataclass(slots=True)
class Handovers:
    """What was handed over."""

    requests: int = 0
    seconds: float = 0.0
    """Of copying keys and values, summed."""


class HandedBlocks:
    """The `BlockStore` of a replica: whatever was handed over is there."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        """Each block that is loaded holds the replica up so long."""
        self._clock = clock
        self._seconds = seconds

    def match(self, source: str, names: Seq[bytes], /) -> int:
        return len(names) if source else 0

    def load(self, source: str, names: Seq[bytes], blocks: Seq[int], /) -> int:  # noqa: ARG002
        self._clock.seconds += self._seconds * len(blocks)
        return len(blocks)


class RoleFleet:
    """Replicas of which some hand over; `run` once."""

    def __init__(
        self,
        replicas: Seq[Replica],
        views: Seq[EngineView],
        router: RoleRouter,
        requests: Seq[SimulatedRequest],
        *,
        seconds_per_token: float,
        block_size: int,
    ) -> None:
        """A token's keys and values are copied in `seconds_per_token`. Replicas that wait while
        they load count these themselves; to others a request comes so much later."""
        self.handovers = Handovers()
        self._replicas = replicas
        self._views = views
        self._router = router
        self._requests = requests
        self._seconds_per_token = seconds_per_token
        self._block_size = block_size
        self._shapes = {str(request.index): shape_of(request) for request in requests}
        self._events = [_Event(each.arrival, _ARRIVES, each.index) for each in requests]
        self._donors = [view.role == "prefill" for view in views]

    def run(self) -> None:
        """Let all requests arrive, and run until all have ended."""
        heapify(self._events)
        while True:
            until = self._events[0].at if self._events else float("inf")
            if self._advance(until):
                continue
            if not self._events:
                break
            self._handle(heappop(self._events))
        for replica in self._replicas:
            replica.run_until(float("inf"))  # raises where requests are left

    def _advance(self, until: float) -> bool:
        """The next step of all replicas, if it begins before `until`, or some alike."""
        first, begins, horizon = -1, until, until
        for index, replica in enumerate(self._replicas):
            at = replica.next_step
            donor = self._donors[index]
            if at < begins or (at == begins < until and donor and not self._donors[first]):
                first, begins = index, at
        if first < 0:
            return False
        for index, replica in enumerate(self._replicas):
            if self._donors[index] and index != first:
                horizon = min(horizon, replica.next_step)
        told = self._replicas[first].advance(horizon)
        if self._donors[first]:
            self._note_computed(first, told)
        return True

    def _note_computed(self, index: int, events: Seq[TokenEvent]) -> None:
        now = self._replicas[index].clock.seconds
        for event in events:
            shape = self._shapes[event.id]
            if event.tokens and event.finish is None and not shape.begun:
                request = self._requests[int(event.id)]
                if request.generated == len(event.tokens):
                    heappush(self._events, _Event(now, _COMPUTED, request.index, index))

    def _handle(self, event: _Event) -> None:
        now, request = event.at, self._requests[event.request]
        for replica, view in zip(self._replicas, self._views, strict=True):
            take_news(replica.news, view, self._shapes, now)
        if event.kind == _ARRIVES:
            shape = self._shapes[str(request.index)]
            chosen = self._router.choose(shape, self._views)
            self._replicas[chosen].arrive(request, now)
            if not request.error:
                self._views[chosen].sent(shape)
        elif event.kind == _JOINS:
            self._replicas[event.replica].arrive(request, now)
        else:
            self._hand_over(request, event.replica, now)

    def _hand_over(self, request: SimulatedRequest, home: int, now: float) -> None:
        """The request's prompt is computed: another replica may go on with it."""
        name = str(request.index)
        before = self._shapes[name]
        tokens = request.prompt_tokens + request.generated
        loaded = (tokens - 1) // self._block_size * self._block_size
        shape: RequestShape = replace(
            before,
            at=now,
            prompt_tokens=tokens,
            max_tokens=max(0, before.max_tokens - request.generated),
            begun=True,
            loaded_tokens=loaded,
            pace=replace(before.pace, ttft=float("inf")),
        )
        chosen = self._router.decoder(shape, home, self._views)
        if chosen == home:
            return
        self._views[home].ended(before)
        self._replicas[home].give(request, now)
        request.kv_source = f"replica {home}"
        self._shapes[name] = shape
        self._views[chosen].sent(shape)
        seconds = loaded * self._seconds_per_token
        self.handovers.requests += 1
        self.handovers.seconds += seconds
        later = 0.0 if self._replicas[chosen].waits_to_load else seconds
        heappush(self._events, _Event(now + later, _JOINS, request.index, chosen))
