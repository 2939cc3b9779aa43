"""What an endpoint is, and an OpenAPI description of all, made from the types of their bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from headway import __version__
from headway.server.errors import ErrorBody

REFERENCE = "#/components/schemas/{name}"
STATUSES = {
    400: "A field is wrong, unknown or not supported; `param` names it.",
    401: "The API key is missing or wrong.",
    404: "The model is not served here.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The queue is full; `Retry-After` says when to try again.",
    503: "The server starts or drains, or no token came within the queue timeout.",
}


Handler = Callable[[Request], Awaitable[Response]]
"""Returns its response."""
SendingHandler = Callable[[Request, Send], Awaitable[None]]
"""Sends its response itself, piece by piece, and returns once it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path of the server. It has a `handler`, or, where it generates, a `sender`.

    `takes` and `gives` are the types of the JSON body and answer, None where there is none;
    `media_type` is that of an answer that is not JSON.
    """

    method: str
    path: str
    handler: Handler | None = None
    sender: SendingHandler | None = None
    summary: str
    takes: type | None = None
    gives: type | None = None
    media_type: str = "application/json"


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    types: list[type] = [ErrorBody]
    for endpoint in endpoints:
        types += [kind for kind in (endpoint.takes, endpoint.gives) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    references = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        path = endpoint.path.replace(":path}", "}")
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headway", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, references: dict[type, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {endpoint.media_type: {}}
    if endpoint.gives is not None:
        content = {"application/json": {"schema": references[endpoint.gives]}}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {"200": {"description": "OK", "content": content}},
    }
    if "{model" in endpoint.path:
        operation["parameters"] = [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if endpoint.takes is not None:
        body = {"application/json": {"schema": references[endpoint.takes]}}
        operation["requestBody"] = {"required": True, "content": body}
        error = {"application/json": {"schema": references[ErrorBody]}}
        for status, description in STATUSES.items():
            operation["responses"][str(status)] = {"description": description, "content": error}
        operation["security"] = [{"key": []}, {}]
    return operation
