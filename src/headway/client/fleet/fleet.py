"""`EngineFleet`: several engines of one model that look like one, and lose no request.

Every engine has its own supervised process, client and journal. What is here is what lies between
them: a router gives each new request to one, and whenever an engine dies, leaves, joins or idles,
requests move (`placement`). Streams get their events from the client of the replica that has their
request, with nothing in between.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from headway.background import watched
from headway.client.client import EngineClient
from headway.client.fleet.gpus import GpuShares
from headway.client.fleet.member import FleetMember
from headway.client.fleet.patience import Patience
from headway.client.fleet.placement import Placement
from headway.client.fleet.shapes import ShapeMaker
from headway.client.fleet.shares import CoreShares, share_of
from headway.client.fleet.totals import FleetTotals, total_info
from headway.client.fleet.watching import BatchWatchers
from headway.client.handle import BatchListener, EngineListener, EngineState, Stream
from headway.client.listeners import Listeners
from headway.client.process import DEFAULT_COMMAND, start_message
from headway.client.status import ReplicaStatus
from headway.config import EngineConfig
from headway.errors import InvalidRequest, Unavailable
from headway.routing import RoleRouter, make_router
from headway.types import Request, TokenEvent
from headway.types.fleet import MOST_REPLICAS, Role, RouterName
from headway.wire import EngineInfo, EngineStats, PreparedDraft

HANDOVER_SECONDS = 10.0
"""A replica that leaves waits at most so long for those that load from its KV cache ..."""
HANDOVER_TICK = 0.02
"""... and looks this often."""

logger = logging.getLogger(__name__)


class EngineFleet:
    """The `EngineHandle` of several engines. Obtain one with `start`."""

    def __init__(
        self,
        launch: Callable[[int, Role, Callable[[], None]], FleetMember],
        router: RoleRouter,
        *,
        named: bool,
    ) -> None:
        """`launch` makes a replica, not yet started, with an id, a role, and what to call when its
        state changes; `named` is that of `ShapeMaker`.
        """
        self._launch = launch
        self._ids = itertools.count()
        self._placement = Placement(router, ShapeMaker(named=named))
        self._starting: list[FleetMember] = []
        self._closed = False
        self._rolling = asyncio.Lock()
        self._listeners: Listeners[[Sequence[TokenEvent], EngineStats, float]] = Listeners()
        self._watchers = BatchWatchers()
        self._totals = FleetTotals()
        self._patience = Patience(self._settle)

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        prepared: Path,
        *,
        replicas: int,
        router: RouterName,
        roles: Sequence[Role] = (),
        fixed_roles: bool = False,
        draft: PreparedDraft | None = None,
        command: Sequence[str] | None = None,
    ) -> EngineFleet:
        """Start so many engines on a prepared model and wait until all are ready.

        They share the cores evenly, and each has a GPU of its own if there are so many. `threads`
        of the settings, if given, and sizes of memory are each engine's, and `{replica}` in the
        name of a recording becomes its id. `roles` has one for each, or none at all; see
        `RoleRouter` for them and for `fixed_roles`. `draft` and `command` are as for an
        `EngineClient`. Raises `HeadwayError` where one cannot start, and leaves none behind.
        """
        if not 1 <= replicas <= MOST_REPLICAS:
            raise InvalidRequest(
                f"replicas must be from 1 to {MOST_REPLICAS}, got {replicas}", field="replicas"
            )
        cores, gpus = CoreShares(config, replicas), GpuShares(config, replicas)

        def launch(number: int, role: Role, on_change: Callable[[], None]) -> FleetMember:
            cpus = cores.free([each.cpus for each in fleet.members])
            gpu = gpus.choose([each.gpu for each in fleet.members])
            own = share_of(config, number, threads=cores.threads, cpus=cpus)
            message = start_message(gpus.settings(own, gpu), prepared, draft, cpus=cpus, gpu=gpu)
            client = EngineClient(
                message, command or DEFAULT_COMMAND, replica=number, on_change=on_change
            )
            return FleetMember(id=number, client=client, cpus=cpus, gpu=gpu, role=role)

        roles_router = RoleRouter(make_router(router), fixed=fixed_roles)
        fleet = cls(launch, roles_router, named=config.enable_prefix_caching)
        try:
            started = await asyncio.gather(
                *(fleet._join(role) for role in roles or ["both"] * replicas),
                return_exceptions=True,
            )
            for outcome in started:
                if isinstance(outcome, BaseException):
                    raise outcome
        except BaseException:
            await fleet.close()
            raise
        return fleet

    @property
    def members(self) -> Sequence[FleetMember]:
        """All replicas by their ids, those that are starting last."""
        return [*self._placement.replicas, *self._starting]

    @property
    def replicas(self) -> Sequence[ReplicaStatus]:
        """See `EngineHandle.replicas`. One that starts is told once it has introduced itself."""
        return [each.status for each in self._placement.replicas]

    @property
    def state(self) -> EngineState:
        """As of one engine: "ready" while one replica is, "failed" once all have."""
        if self._closed:
            return "closed"
        states = {each.client.state for each in self._placement.replicas}
        order: tuple[EngineState, ...] = ("ready", "restarting", "failed")
        return next((state for state in order if state in states), "starting")

    @property
    def restarts(self) -> int:
        """See `EngineHandle.restarts`: of all, and of those that are gone."""
        present = sum(each.client.restarts for each in self._placement.replicas)
        return present + self._totals.gone_restarts

    @property
    def silence(self) -> float:
        """See `EngineHandle.silence`: the longest of any that is ready."""
        return max((each.client.silence for each in self._ready()), default=0.0)

    @property
    def last_step_age(self) -> float:
        """See `EngineHandle.last_step_age`: the least of any that is ready."""
        ages = [each.client.last_step_age for each in self._ready()]
        return min(ages or [each.client.last_step_age for each in self._placement.replicas])

    @property
    def info(self) -> EngineInfo:
        """See `EngineHandle.info`: slots and KV cache of all, and else what is the same for all."""
        return total_info([each.client.info for each in self._placement.replicas])

    @property
    def stats(self) -> EngineStats:
        """See `EngineHandle.stats`: sums, but for a step's size and duration."""
        return self._totals.stats

    @property
    def live(self) -> int:
        """Requests that have not ended, waiting ones included."""
        return len(self._placement)

    def subscribe(self, listener: EngineListener) -> Callable[[], None]:
        """See `EngineHandle.subscribe`: called for every step of every replica."""
        return self._listeners.add(listener)

    def watch_batch(self, listener: BatchListener) -> Callable[[], None]:
        """See `EngineHandle.watch_batch`: news are of one replica each."""
        return self._watchers.add(listener, self._placement.replicas)

    def submit(self, *requests: Request) -> Stream:
        """See `EngineHandle.submit`. While no replica is ready, requests wait."""
        if self._closed:
            raise Unavailable("the engine is closed")
        stream = Stream([request.id for request in requests], self._cancel)
        self._placement.submit(requests, stream)
        return stream

    def abort(self, request_id: str) -> None:
        """See `EngineHandle.abort`."""
        replica = self._placement.home(request_id)
        if replica is not None:
            replica.client.abort(request_id)

    def take(self, request_id: str) -> Request | None:
        """See `EngineHandle.take`."""
        replica = self._placement.home(request_id)
        if replica is None:
            return None
        self._placement.ended(request_id)
        return replica.client.take(request_id)

    async def add_replica(self, role: Role = "both") -> int:
        """See `EngineHandle.add_replica`. What waits elsewhere is given to it.

        It is pinned where a replica has left its cores, and shares those of others otherwise. Of
        GPUs it has the one with the fewest engines.
        """
        return (await self._join(role, least_length=self.info.scheduler.limits.max_model_len)).id

    async def drain(self, replica: int) -> int:
        """See `EngineHandle.drain`."""
        leaving = self._placement.find(replica)
        others = [each for each in self._placement.replicas if each is not leaving and each.alive]
        if leaving.leaving:
            raise Unavailable(f"replica {replica} is being drained already")
        if not others:
            raise Unavailable(
                f"replica {replica} is the last that can run requests; add another one first"
            )
        before = leaving.client.journal.ids
        leaving.leaving = True
        self._placement.settle()
        moved = [name for name in before if leaving.client.journal.entry(name) is None]
        logger.info("replica drained replica=%d moved_requests=%d", replica, len(moved))
        # It ends even if nobody waits for that any more.
        work = self._retire(leaving, moved)
        await asyncio.shield(watched(work, name="drained replica", on_failure=lambda _: None))
        return len(moved)

    async def restart(self) -> None:
        """See `EngineHandle.restart`. Requests of each go to others before it is replaced."""
        async with self._rolling:
            for replica in self._placement.replicas:
                # What the old model has computed is not taken along to engines with the new one.
                replica.client.discard_cache()
            for replica in list(self._placement.replicas):
                if not replica.alive:
                    continue
                replica.resting = True
                self._placement.settle()
                try:
                    await replica.client.restart()
                except Unavailable:
                    if not replica.leaving:
                        raise
                finally:
                    replica.resting = False
                self._placement.settle()

    async def close(self) -> None:
        """See `EngineHandle.close`."""
        self._closed = True
        self._patience.close()
        await asyncio.gather(*(each.client.close() for each in self.members))

    async def _join(self, role: Role, *, least_length: int = 0) -> FleetMember:
        """Start one more replica, and let it have requests once it is ready.

        It must be able to run requests of so many tokens, as those that it will get may be.
        """
        if self._closed:
            raise Unavailable("the engine is closed")
        if len(self.members) >= MOST_REPLICAS:
            raise Unavailable(f"there are {MOST_REPLICAS} replicas already, which is the most")
        replica = self._launch(next(self._ids), role, self._on_change)
        self._starting.append(replica)
        try:
            await replica.client.open()
            self._check(replica, least_length)
        except BaseException:
            await replica.client.close()
            raise
        finally:
            self._starting.remove(replica)
        replica.join()
        replica.client.subscribe(partial(self._on_events, replica))
        self._placement.replicas.append(replica)
        self._placement.replicas.sort(key=lambda each: each.id)
        self._watchers.join(replica)
        self._tell_totals()
        self._placement.settle()
        return replica

    def _check(self, replica: FleetMember, least_length: int) -> None:
        """That it may join; raises `Unavailable` where it may not."""
        if self._closed:
            raise Unavailable("the engine is closed")
        client = replica.client
        if replica.role != "both" and not (client.info.loads_blocks and client.kv_source):
            raise InvalidRequest(
                "roles need engines that read each other's KV cache: the native backend on Linux, "
                "with prefix caching and without a recording",
                field="roles",
            )
        length = client.info.scheduler.limits.max_model_len
        if length < least_length:
            raise Unavailable(
                f"there is memory for a KV cache of {length} tokens only, which is less than the "
                "longest request that the other replicas take; drain one first"
            )

    async def _retire(self, replica: FleetMember, moved: Sequence[str]) -> None:
        """End a replica that has no request any more; what it counted stays counted.

        Not before its KV cache was read by those to which the requests `moved`, if that is soon.
        """
        patience = HANDOVER_SECONDS if replica.client.kv_source else 0.0
        ends = time.monotonic() + patience
        while time.monotonic() < ends and not self._placement.go_on(moved):
            await asyncio.sleep(HANDOVER_TICK)
        await replica.client.close()
        self._placement.replicas.remove(replica)
        self._totals.leave(replica.client.stats, replica.client.restarts)
        self._watchers.leave(replica)
        self._tell_totals()

    def _ready(self) -> list[FleetMember]:
        return [each for each in self._placement.replicas if each.client.state == "ready"]

    def _cancel(self, ids: Sequence[str]) -> None:
        """A reader has had enough of these, wherever they are by now."""
        homes: dict[FleetMember, list[str]] = {}
        for name in ids:
            replica = self._placement.home(name)
            if replica is not None:
                homes.setdefault(replica, []).append(name)
        for replica, names in homes.items():
            replica.client.cancel(names)

    def _on_change(self) -> None:
        """A replica is ready, has died, or has failed for good."""
        for each in self._placement.replicas:
            each.renew()
        self._patience.watch(self._placement.replicas)
        self._sum_up()
        self._settle()

    def _settle(self) -> None:
        moved = self._placement.settle()
        if moved:
            logger.warning("requests moved to other replicas requests=%d", moved)

    def _on_events(
        self, replica: FleetMember, events: Sequence[TokenEvent], stats: EngineStats, now: float
    ) -> None:
        """A replica has told what happened: the one place where its load becomes known here."""
        replica.hear(events, stats, now)
        if replica.role == "prefill":
            self._placement.hand_over(replica, events)
        for event in events:
            if event.finish is not None:
                self._placement.ended(event.id)
        self._sum_up(stats)
        self._listeners.tell(events, self._totals.stats, now)
        if replica.reopened():
            self._settle()
        elif stats.waiting and replica.accepting:
            self._placement.balance()

    def _tell_totals(self) -> None:
        """Slots and KV blocks are others, though no engine has made a step."""
        self._sum_up()
        self._listeners.tell((), self._totals.stats, time.monotonic())

    def _sum_up(self, latest: EngineStats | None = None) -> None:
        self._totals.update([each.client.stats for each in self._placement.replicas], latest)
