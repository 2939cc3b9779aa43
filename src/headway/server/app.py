"""The ASGI application: routes, middleware, and what becomes of errors."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headway.client.response_cache import CachingEngine
from headway.config import ServerConfig
from headway.errors import HeadwayError
from headway.llm import AsyncLLM
from headway.llm.rendering import RESERVED
from headway.logs import line
from headway.server.admission import ServerState
from headway.server.batch_metrics import BatchMetrics
from headway.server.callers import MOST_PRIORITY
from headway.server.endpoints import ENDPOINTS
from headway.server.errors import (
    OPENAI_FORM,
    REQUEST_ID,
    error_response,
    on_http_error,
    status_of,
)
from headway.server.exposure import hosts_answered
from headway.server.logs import log, logs_requests
from headway.server.metrics import Metrics
from headway.server.middleware import ApiKeyMiddleware, HostMiddleware, RequestIdMiddleware
from headway.server.ollama.errors import OLLAMA_FORM
from headway.server.openai.fit import NOT_LOST
from headway.server.openapi import Endpoint, ModelBounds, SendingHandler, describe
from headway.server.page.figures import FigureMaker
from headway.server.page.news import LiveNews
from headway.server.replica_metrics import ReplicaMetrics
from headway.server.replicas import ReplicaChanges
from headway.server.response_cache import ResponseCacheMetrics
from headway.server.responses.kept import KeptResponses
from headway.server.responses.store import ResponseStore
from headway.server.slo import Explainer


def create_app(llm: AsyncLLM, config: ServerConfig, *, model_name: str) -> Starlette:
    """The application over a model that is ready."""
    app = build_app(build_state(config, model_name=model_name))
    attach_engine(app, llm)
    return app


def build_state(config: ServerConfig, *, model_name: str) -> ServerState:
    """The state of a server that has no engine yet."""
    return ServerState(config, config.served_model_name or (model_name,))


def build_app(state: ServerState) -> Starlette:
    """The application over a server that may still be starting: it answers 503 till then."""
    metrics = Metrics(state.names[0])
    state.observers.append(metrics)
    app = Starlette(
        routes=[
            _route(endpoint, path)
            for endpoint in ENDPOINTS
            for path in (endpoint.path, *endpoint.aliases)
        ],
        middleware=_middleware(state.config),
        exception_handlers={
            HeadwayError: _on_headway_error,
            HTTPException: on_http_error,
            Exception: _on_bug,
        },
    )
    app.router.redirect_slashes = False
    app.state.server = state
    app.state.metrics = metrics
    app.state.responses = _kept_responses(state.config)
    app.state.explainer = None
    app.state.replica_changes = ReplicaChanges()
    app.state.live = LiveNews(state.config.max_page_viewers)
    app.state.error_forms = {
        path: each.errors
        for each in ENDPOINTS
        for path in (each.path, *each.aliases)
        if each.errors is not OPENAI_FORM
    } | {"/api": OLLAMA_FORM}
    app.state.openapi = describe(ENDPOINTS, keys=bool(state.config.api_key))
    return app


def attach_engine(app: Starlette, llm: AsyncLLM) -> None:
    """The engine is up: accept requests, and let the metrics listen to it."""
    state: ServerState = app.state.server
    keys = bool(state.config.api_key)
    app.state.openapi = describe(ENDPOINTS, keys=keys, bounds=_bounds_of(llm, state.config))
    metrics: Metrics = app.state.metrics
    metrics.attach(llm.client, llm.objectives)
    explainer = Explainer(llm.client, llm.objectives, attainment=metrics.attainment.ratio)
    metrics.registry.register(BatchMetrics(explainer, state.names[0]))
    if state.config.replicas > 1:
        metrics.registry.register(ReplicaMetrics(llm.client, state.names[0]))
    if isinstance(llm.client, CachingEngine):
        metrics.registry.register(ResponseCacheMetrics(llm.client, state.names[0]))
    app.state.explainer = explainer
    app.state.live.attach(
        llm.client, lambda: FigureMaker(llm.client, metrics, explainer), state.names[0]
    )
    app.state.server.open(llm)


def _bounds_of(llm: AsyncLLM, config: ServerConfig) -> ModelBounds:
    template = llm.chat_template
    variables, unread = None, frozenset[str]()
    if template is not None:
        variables = template.facts.variables - RESERVED
        unread = frozenset(name for name in NOT_LOST if not template.reads(name))
    return ModelBounds(
        vocab_size=min(llm.model_config.vocab_size, llm.tokenizer.vocab_size),
        max_model_len=llm.max_model_len,
        template_variables=variables,
        unread_fields=unread,
        most_priority=MOST_PRIORITY if config.scheduling_policy == "priority" else 0,
    )


def _kept_responses(config: ServerConfig) -> KeptResponses:
    store = ResponseStore(
        most_entries=config.max_stored_responses, most_bytes=config.max_stored_response_bytes
    )
    return KeptResponses(store)


def _route(endpoint: Endpoint, path: str) -> Route:
    if endpoint.sender is not None:
        return Route(path, _SenderApp(endpoint.sender), methods=[endpoint.method])
    assert endpoint.handler is not None, "an endpoint has one of the two"
    return Route(path, endpoint.handler, methods=[endpoint.method])


class _SenderApp:
    """A handler that sends its response itself, as an ASGI application."""

    def __init__(self, handler: SendingHandler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(Request(scope, receive), send)


def _middleware(config: ServerConfig) -> list[Middleware]:
    layers = [Middleware(RequestIdMiddleware)]
    hosts = hosts_answered(config)
    if hosts is not None:
        layers.append(Middleware(HostMiddleware, hosts=hosts))
    if config.allowed_origins:
        # Outside the keys: browsers ask for permission without sending one.
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(config.allowed_origins),
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=[
                    "x-request-id",
                    "x-ignored-fields",
                    "x-headway-cache",
                    "retry-after",
                ],
            )
        )
    if config.api_key:
        layers.append(Middleware(ApiKeyMiddleware, keys=config.api_key))
    return layers


async def _on_headway_error(request: Request, error: Exception) -> Response:
    status = status_of(error)
    # Probes ask again and again while a server starts; their refusals are no events.
    quiet = request.method in ("GET", "HEAD") or not logs_requests(request)
    level = logging.DEBUG if quiet else logging.INFO
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
    return error_response(error, request.scope)


async def _on_bug(request: Request, error: Exception) -> Response:
    """A bug; Starlette raises it again after this answer, and uvicorn logs the traceback."""
    request_id = request.scope.get(REQUEST_ID)
    log.error(line("error", request_id=request_id, reason=f"{type(error).__name__}: {error}"))
    answer = error_response(error, request.scope)
    # uvicorn closes the connection after a fault; a client that knows sends nothing more on it.
    answer.headers["connection"] = "close"
    # This answer is given outside the middleware that adds the id to all others.
    if request_id is not None:
        answer.headers["x-request-id"] = request_id
    return answer
