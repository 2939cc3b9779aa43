"""How the server is: `/health`, `/ready`, `/load`, `/version`, `/metrics`.

`/health` says whether there is an engine or one on its way, for whoever restarts servers; `/ready`
whether a request sent now would be served, for whoever routes them.
"""

from __future__ import annotations

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from headway import __version__
from headway.errors import Unavailable
from headway.server.house import House
from headway.server.metrics import Metrics
from headway.server.replies import json_response


class Status(msgspec.Struct, frozen=True):
    status: str


class Load(msgspec.Struct, frozen=True, kw_only=True):
    server_load: int
    """Generating HTTP requests, as vLLM counts."""
    continuations: int
    """Places taken of `max_num_queued_reqs`."""
    max_num_queued_reqs: int
    running: int
    waiting: int


class Version(msgspec.Struct, frozen=True):
    version: str


async def health(request: Request) -> Response:
    house: House = request.app.state.house
    if not house.alive:
        raise Unavailable("the engine is not running" if house.doors != "starting" else "starting")
    return json_response(Status("ok"))


async def ready(request: Request) -> Response:
    house: House = request.app.state.house
    if not house.ready:
        raise Unavailable(f"not ready: {house.doors if house.doors != 'open' else 'no engine'}")
    return json_response(Status("ready"))


async def load(request: Request) -> Response:
    house: House = request.app.state.house
    stats = house.backend.client.stats
    return json_response(
        Load(
            server_load=house.requests,
            continuations=house.continuations,
            max_num_queued_reqs=house.config.max_num_queued_reqs,
            running=stats.running,
            waiting=stats.waiting,
        )
    )


async def version(_request: Request) -> Response:
    return json_response(Version(__version__))


async def metrics(request: Request) -> Response:
    collected: Metrics = request.app.state.metrics
    return Response(collected.render(), headers={"content-type": CONTENT_TYPE_LATEST})
