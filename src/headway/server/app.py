"""The ASGI application: routes, what every request passes, and how errors are told."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.config import ServerConfig
from headway.errors import HeadwayError
from headway.server.backend import Backend
from headway.server.endpoints import ENDPOINTS
from headway.server.errors import error_response, on_http_error, status_of
from headway.server.house import House
from headway.server.logs import line, log
from headway.server.metrics import Metrics
from headway.server.middleware import REQUEST_ID, Keys, RequestIds
from headway.server.openapi import describe


def create_app(llm: Backend, config: ServerConfig, *, model_name: str) -> Starlette:
    """The application over a model that is ready."""
    house = build_house(config, model_name=model_name)
    app = build_app(house)
    admit_engine(app, llm)
    return app


def build_house(config: ServerConfig, *, model_name: str) -> House:
    return House(config, config.served_model_name or (model_name,))


def build_app(house: House) -> Starlette:
    """The application over a house whose doors may still be closed: it answers 503 till then."""
    metrics = Metrics(house.names[0])
    house.observers.append(metrics)
    app = Starlette(
        routes=[Route(e.path, e.handler, methods=[e.method]) for e in ENDPOINTS],
        middleware=_middleware(house.config),
        exception_handlers={
            HeadwayError: _on_headway_error,
            HTTPException: on_http_error,
            Exception: _on_bug,
        },
    )
    app.router.redirect_slashes = False
    app.state.house = house
    app.state.metrics = metrics
    app.state.openapi = describe(ENDPOINTS)
    return app


def admit_engine(app: Starlette, llm: Backend) -> None:
    """The engine is up: open the doors and let the metrics hear it."""
    app.state.metrics.attach(llm.client)
    app.state.house.open(llm)


def _middleware(config: ServerConfig) -> list[Middleware]:
    layers = [Middleware(RequestIds)]
    if config.allowed_origins:
        # Outside the keys: browsers ask for permission without sending one.
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(config.allowed_origins),
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "retry-after"],
            )
        )
    if config.api_key:
        layers.append(Middleware(Keys, keys=config.api_key))
    return layers


async def _on_headway_error(request: Request, error: Exception) -> Response:
    status = status_of(error)
    # Probes ask again and again while a server starts; their refusals are no events.
    level = logging.DEBUG if request.method in ("GET", "HEAD") else logging.INFO
    log.log(
        level,
        line(
            "refused",
            request_id=request.scope.get(REQUEST_ID),
            path=request.scope["path"],
            status=status,
            reason=str(error)[:500],
        ),
    )
    return error_response(error)


async def _on_bug(request: Request, error: Exception) -> Response:
    """A fault of ours; Starlette raises it again after this answer, and uvicorn logs where."""
    request_id = request.scope.get(REQUEST_ID)
    log.error(line("error", request_id=request_id, reason=f"{type(error).__name__}: {error}"))
    answer = error_response(error)
    # uvicorn closes the connection after a fault; a client that knows sends nothing more on it.
    answer.headers["connection"] = "close"
    # This answer is given outside the middleware that adds the id to all others.
    if request_id is not None:
        answer.headers["x-request-id"] = request_id
    return answer
