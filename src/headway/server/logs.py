"""What the server logs of requests: a line when one comes, and one when it has ended.

Prompts and answers are never logged. `enable_log_requests` turns these lines off, but for those of
requests that failed.
"""

from __future__ import annotations

import logging
import time

from starlette.requests import Request

from headway.llm import GenerationRequest
from headway.logs import line
from headway.server.admission import RequestHandle, ServerState
from headway.server.errors import REQUEST_ID
from headway.server.formatter import UsageCounter

log = logging.getLogger("headway.server")


def log_received(
    request: Request,
    generation: GenerationRequest,
    usage: UsageCounter,
    *,
    stream: bool,
    user: str | None,
) -> None:
    """A request goes to the engine."""
    if not logs_requests(request):
        return
    log.info(
        line(
            "received",
            id=generation.id,
            request_id=request.scope.get(REQUEST_ID),
            path=request.scope["path"],
            prompts=len(generation.prompts),
            n=generation.params.n,
            prompt_tokens=usage.prompt_tokens,
            max_tokens=generation.max_tokens,
            stream=stream,
            user=user,
        )
    )


def log_end(
    event: str, request: Request, handle: RequestHandle, usage: UsageCounter, **fields: object
) -> None:
    """It has ended: `event` says how, `fields` why."""
    if event != "failed" and not logs_requests(request):
        return
    first = handle.first_token_at
    log.info(
        line(
            event,
            id=handle.id,
            **fields,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            response_cache=usage.outcome,
            completion_tokens=usage.completion_tokens,
            draft_tokens=usage.draft_tokens or None,
            accepted_tokens=usage.accepted_tokens if usage.draft_tokens else None,
            first_token_seconds=None if first is None else first - handle.admitted_at,
            seconds=time.monotonic() - handle.admitted_at,
        )
    )


def logs_requests(request: Request) -> bool:
    """Whether the server that has this request logs the ordinary ones."""
    state: ServerState = request.app.state.server
    return state.config.enable_log_requests
