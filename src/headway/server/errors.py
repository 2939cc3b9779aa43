"""What a client gets when something is wrong: a status, and `{"error": {...}}` in OpenAI's shape.

One table maps the package's errors to statuses. A bug is reported as such without its
details, which go to the log. Paths of another API have errors in that API's shape (`ErrorForm`).
This module sends nothing, and knows no API but OpenAI's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import (
    HeadwayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    RequestTooLarge,
    Unavailable,
)

RETRY_AFTER = 5
"""Seconds after which a client may try again while the server starts or shuts down."""
REQUEST_ID = "headway.request_id"
"""Key in the ASGI scope."""

KINDS = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    404: ("not_found_error", None),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("invalid_request_error", "request_timeout"),
    409: ("conflict_error", "conflict"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "unsupported_media_type"),
    429: ("rate_limit_error", "queue_full"),
    431: ("invalid_request_error", "headers_too_large"),
    503: ("unavailable_error", "unavailable"),
}


class BadBody(InvalidRequest):
    """A body that could not even be read; `status` says which 4xx. The connection is closed."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorForm:
    """How the clients of an API expect its errors to look."""

    body: type[msgspec.Struct]
    """What `write` makes."""
    write: Callable[[ErrorDetail, int, str], msgspec.Struct]
    """From what is wrong, the status, and the request's id."""
    id_header: bytes | None = None
    """Every answer names the request's id in this header, too, besides `x-request-id`."""


OPENAI_FORM = ErrorForm(body=ErrorBody, write=lambda detail, _status, _id: ErrorBody(detail))


def form_of(scope: Mapping[str, Any]) -> ErrorForm:
    """The form of the endpoint at a request's path, or above it: also where no endpoint is."""
    path: str = scope["path"]
    forms: Mapping[str, ErrorForm] = scope["app"].state.error_forms
    for start, form in forms.items():
        if path == start or path.startswith(start + "/"):
            return form
    return OPENAI_FORM


def status_of(error: Exception) -> int:
    match error:
        case BadBody():
            return error.status
        case InvalidRequest():
            return 400
        case ModelNotFound():
            return 404
        case Overloaded():
            return 429
        case Unavailable():
            return 503
        case _:
            return 500


def detail_of(error: Exception) -> ErrorDetail:
    """The error as a client may see it."""
    status = status_of(error)
    kind, code = KINDS.get(status, ("internal_error", "internal_error"))
    if isinstance(error, RequestTooLarge):
        code = "context_length_exceeded"
    elif isinstance(error, ModelNotFound):
        code = "model_not_found"
    if not isinstance(error, HeadwayError):
        return ErrorDetail(message="internal error; see the server's log", type=kind, code=code)
    return ErrorDetail(message=error.message, type=kind, param=error.field, code=code)


def headers_of(error: Exception) -> dict[str, str]:
    if isinstance(error, Overloaded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, Unavailable):
        return {"retry-after": str(RETRY_AFTER)}
    if isinstance(error, BadBody):
        return {"connection": "close"}
    return {}


def encode_error(detail: ErrorDetail) -> bytes:
    return msgspec.json.encode(ErrorBody(detail))


def error_response(error: Exception, scope: Mapping[str, Any]) -> Response:
    return _response(detail_of(error), status_of(error), headers_of(error), scope)


def plain_error(
    status: int,
    message: str,
    headers: dict[str, str] | None = None,
    scope: Mapping[str, Any] | None = None,
) -> Response:
    """A refusal that comes from routing or authentication rather than from an exception of ours.

    `scope` is None where there is no request yet.
    """
    kind, code = KINDS.get(status, ("invalid_request_error", None))
    return _response(ErrorDetail(message=message, type=kind, code=code), status, headers, scope)


def _response(
    detail: ErrorDetail,
    status: int,
    headers: dict[str, str] | None,
    scope: Mapping[str, Any] | None,
) -> Response:
    form, request_id = OPENAI_FORM, ""
    if scope is not None:
        form, request_id = form_of(scope), scope.get(REQUEST_ID, "")
    body = msgspec.json.encode(form.write(detail, status, request_id))
    return Response(body, status, headers, "application/json")


def refusal_bytes(status: int, message: str) -> bytes:
    """A whole response, for whoever never got as far as a request."""
    kind, code = KINDS[status]
    body = encode_error(ErrorDetail(message=message, type=kind, code=code))
    again = f"retry-after: {RETRY_AFTER}\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"{again}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def on_http_error(request: Request, error: Exception) -> Response:
    """Routing errors of Starlette: no such path, wrong method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    messages = {
        404: "there is nothing at this path; /docs lists the endpoints",
        405: f"this path does not take {request.method}",
    }
    message = messages.get(status, "the request cannot be served")
    return plain_error(status, message, headers, request.scope)
