"""What a client gets when something is wrong: a status, and `{"error": {...}}` in OpenAI's shape.

One table maps the package's errors to statuses. A bug is reported as such without its
details, which go to the log. This module sends nothing.
"""

from __future__ import annotations

import math
from http import HTTPStatus

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

KINDS = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    404: ("not_found_error", None),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("invalid_request_error", "request_timeout"),
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


def error_response(error: Exception) -> Response:
    return Response(
        encode_error(detail_of(error)),
        status_code=status_of(error),
        headers=headers_of(error),
        media_type="application/json",
    )


def plain_error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal that comes from routing or authentication rather than from an exception of ours."""
    kind, code = KINDS.get(status, ("invalid_request_error", None))
    return Response(
        encode_error(ErrorDetail(message=message, type=kind, code=code)),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


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
    return plain_error(status, messages.get(status, "the request cannot be served"), headers)
