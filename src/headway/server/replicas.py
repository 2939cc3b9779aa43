"""The engines behind the server, one by one: `GET /replicas`, and adding and draining them.

A change takes as long as it takes to start an engine or to give its requests to others, and goes on
to its end even if whoever asked for it leaves. There is one at a time. They are for whoever has a
key of the server, or, where it has none, for this machine alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.background import watched
from headway.client import ReplicaState, ReplicaStatus
from headway.errors import Unavailable
from headway.logs import line
from headway.server.admission import ServerState
from headway.server.body import json_response, read_body
from headway.server.errors import plain_error
from headway.server.exposure import check_from_here
from headway.server.logs import log
from headway.server.openapi import Endpoint
from headway.types.fleet import MOST_REPLICAS, Role, RouterName

T = TypeVar("T")


class ReplicaCard(msgspec.Struct, frozen=True, kw_only=True):
    """One engine."""

    id: int
    """Never used again, not even for what replaces a drained replica."""
    state: ReplicaState
    pid: int | None
    """Of its process; null while there is none."""
    restarts: int
    """How many times its process was replaced."""
    live_requests: int
    """That it was given and that have not ended, each continuation counted."""
    running: int
    waiting: int
    kv_cache_usage: float
    """Share of its KV blocks that are in use, from 0 to 1."""
    cpus: tuple[int, ...]
    """Cores that it is pinned to; empty where it may use any."""
    gpu: str | None
    """The GPU that it was given, by its number or name; null where it was given none."""
    role: Role
    """What it is for: to compute prompts, to generate answers, or both."""
    handed_over: int
    """Requests whose prompt it computed, and that another one went on with."""


class ReplicaList(msgspec.Struct, frozen=True, kw_only=True):
    replicas: list[ReplicaCard]
    router: RouterName | None
    """What decides which of them gets a request; null where there is one engine and no router."""
    most: int
    """Replicas that there can be at once."""


class AddReplicaBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the new engine is for; else it has the settings of the others."""

    role: Role = "both"


class DrainedReplica(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    moved: int
    """Requests that others went on with."""


class ReplicaChanges:
    """Adds and drains replicas, one at a time. For one event loop."""

    def __init__(self) -> None:
        self.under_way = ""
        """What is being done, for people; empty where nothing is."""

    async def run(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        """Do it; should the caller be cancelled, it goes on. `under_way` must be empty."""
        self.under_way = what
        task = watched(self._finish(work), name=what, on_failure=lambda _: None)  # logged, and told
        return await asyncio.shield(task)

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            self.under_way = ""


async def list_replicas(request: Request) -> Response:
    """What each engine does at present."""
    state: ServerState = request.app.state.server
    config = state.config
    several = config.replicas > 1
    return json_response(
        ReplicaList(
            replicas=[_card(each) for each in state.llm.client.replicas],
            router=config.router if several else None,
            most=MOST_REPLICAS if several else 1,
        )
    )


async def add_replica(request: Request) -> Response:
    """Start one more engine, and answer once it is ready."""
    state: ServerState = request.app.state.server
    _check_may_change(request, state)
    body = await read_body(request, AddReplicaBody, max_bytes=state.config.max_body_bytes)
    client = state.llm.client
    if state.config.replicas == 1:
        return _conflict(
            request, "this server has one engine and no router: start it with --replicas 2 or more"
        )
    if len(client.replicas) >= MOST_REPLICAS:
        return _conflict(request, f"there are {MOST_REPLICAS} replicas, which is the most")
    changes: ReplicaChanges = request.app.state.replica_changes
    if changes.under_way:
        return _conflict(request, _busy(changes))
    added = await changes.run("a replica is being added", client.add_replica(body.role))
    log.info(line("replica_added", replica=added))
    card = next((_card(each) for each in client.replicas if each.id == added), None)
    if card is None:
        raise Unavailable(f"replica {added} ended as soon as it had started")
    return json_response(card)


async def drain_replica(request: Request) -> Response:
    """Give a replica's requests to others, end it, and answer once that is done."""
    state: ServerState = request.app.state.server
    _check_may_change(request, state)
    client = state.llm.client
    given: str = request.path_params["id"]
    known = {str(each.id): each for each in client.replicas}
    if given not in known:
        there = ", ".join(known)
        return plain_error(
            404, f"there is no replica {given[:100]!r}; there are {there}", scope=request.scope
        )
    others = [each for name, each in known.items() if name != given and each.state == "ready"]
    if not others:
        return _conflict(
            request, f"no other replica is ready, so the requests of {given} could go nowhere"
        )
    changes: ReplicaChanges = request.app.state.replica_changes
    if changes.under_way:
        return _conflict(request, _busy(changes))
    replica = known[given].id
    moved = await changes.run(f"replica {replica} is being drained", client.drain(replica))
    log.info(line("replica_drained", replica=replica, moved=moved))
    return json_response(DrainedReplica(id=replica, moved=moved))


def _check_may_change(request: Request, state: ServerState) -> None:
    if not state.config.api_key:
        check_from_here(request.scope, "replicas are added and drained")
    if state.phase == "draining":
        raise Unavailable("the server is shutting down")


def _busy(changes: ReplicaChanges) -> str:
    return f"{changes.under_way}, and there is one change at a time; try again once it is done"


def _conflict(request: Request, reason: str) -> Response:
    return plain_error(409, reason, scope=request.scope)


def _card(status: ReplicaStatus) -> ReplicaCard:
    return ReplicaCard(
        id=status.id,
        state=status.state,
        pid=status.pid,
        restarts=status.restarts,
        live_requests=status.live,
        running=status.stats.running,
        waiting=status.stats.waiting,
        kv_cache_usage=kv_usage(status),
        cpus=status.cpus,
        gpu=status.gpu or None,
        role=status.role,
        handed_over=status.handed_over,
    )


def kv_usage(status: ReplicaStatus) -> float:
    """Share of an engine's KV blocks in use, from 0 to 1."""
    blocks, stats = status.info.scheduler.num_blocks, status.stats
    if not blocks or not (stats.running or stats.free_blocks):
        return 0.0  # a new process has not told anything yet
    return 1 - stats.free_blocks / blocks


REPLICA_ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/replicas",
        handler=list_replicas,
        summary="The engines behind this server, and what each of them does.",
        gives=ReplicaList,
    ),
    Endpoint(
        method="POST",
        path="/replicas",
        handler=add_replica,
        summary="Start one more engine; answers once it is ready.",
        takes=AddReplicaBody,
        gives=ReplicaCard,
        conflicts=True,
    ),
    Endpoint(
        method="DELETE",
        path="/replicas/{id}",
        handler=drain_replica,
        summary="Give an engine's requests to the others and end it; answers once that is done.",
        gives=DrainedReplica,
        conflicts=True,
    ),
)
