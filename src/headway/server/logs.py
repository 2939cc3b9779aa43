"""Log lines: one an event, as `event=... key=value ...`, so that grep and machines can read them.

Values that clients chose are quoted, so none can forge a line or a field.
"""

from __future__ import annotations

import json
import logging
import re
import time

from starlette.requests import Request

from headway.llm import GenerationRequest
from headway.server.admission import RequestHandle
from headway.server.formatter import UsageCounter
from headway.server.middleware import REQUEST_ID

log = logging.getLogger("headway.server")

_BARE = re.compile(r"[A-Za-z0-9_.:/,+-]+")


def line(event: str, **fields: object) -> str:
    """The event with its fields; those that are None are left out, floats get three digits."""
    parts = [f"event={event}"]
    parts += [f"{name}={_value(value)}" for name, value in fields.items() if value is not None]
    return " ".join(parts)


def log_received(
    request: Request,
    generation: GenerationRequest,
    usage: UsageCounter,
    *,
    stream: bool,
    user: str | None,
) -> None:
    """A request goes to the engine."""
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
            stream=str(stream).lower(),
            user=user,
        )
    )


def log_end(event: str, handle: RequestHandle, usage: UsageCounter, **fields: object) -> None:
    """It has ended: `event` says how, `fields` why."""
    first = handle.first_token_at
    log.info(
        line(
            event,
            id=handle.id,
            **fields,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            first_token_seconds=None if first is None else first - handle.admitted_at,
            seconds=time.monotonic() - handle.admitted_at,
        )
    )


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)
