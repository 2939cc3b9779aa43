"""The server's state: `/health`, `/ready`, `/load`, `/version`, `/metrics`.

`/health` says whether there is an engine or one is being restarted, for whoever restarts servers;
`/ready` whether a request sent now would be served, for whoever routes requests.
"""

from __future__ import annotations

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from headway import __version__
from headway.errors import Unavailable
from headway.server.admission import ServerState
from headway.server.body import json_response
from headway.server.metrics import Metrics


class HealthStatus(msgspec.Struct, frozen=True):
    status: str


class ServerLoad(msgspec.Struct, frozen=True, kw_only=True):
    server_load: int
    """HTTP requests in flight that generate, as vLLM counts."""
    continuations: int
    """Of those requests; at most `max_num_queued_reqs`."""
    max_num_queued_reqs: int
    running: int
    waiting: int


class VersionInfo(msgspec.Struct, frozen=True):
    version: str


async def health(request: Request) -> Response:
    state: ServerState = request.app.state.server
    if not state.alive:
        raise Unavailable("the engine is not running" if state.phase != "starting" else "starting")
    return json_response(HealthStatus("ok"))


async def ready(request: Request) -> Response:
    state: ServerState = request.app.state.server
    if not state.ready:
        raise Unavailable(f"not ready: {state.phase if state.phase != 'open' else 'no engine'}")
    return json_response(HealthStatus("ready"))


async def load(request: Request) -> Response:
    state: ServerState = request.app.state.server
    stats = state.llm.client.stats
    return json_response(
        ServerLoad(
            server_load=state.requests,
            continuations=state.continuations,
            max_num_queued_reqs=state.config.max_num_queued_reqs,
            running=stats.running,
            waiting=stats.waiting,
        )
    )


async def version(_request: Request) -> Response:
    return json_response(VersionInfo(__version__))


async def metrics(request: Request) -> Response:
    collected: Metrics = request.app.state.metrics
    return Response(collected.render(), headers={"content-type": CONTENT_TYPE_LATEST})
