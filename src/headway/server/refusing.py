"""Endpoints of other servers that are refused with a reason, rather than not found."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.server.openapi import Handler


def refusing(reason: str) -> Handler:
    """A handler that says why there is nothing at its path; it reads no body."""

    async def refuse(request: Request) -> Response:
        path = request.scope["path"]
        raise InvalidRequest(f"{path} is not supported by this server: {reason}")

    return refuse
