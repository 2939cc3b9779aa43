"""What every request passes on its way in: a request id and, on protected paths, the key.

Plain ASGI, so that a stream's events pass through without being touched.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.server.errors import plain_error

REQUEST_ID = "headway.request_id"
"""Key in the ASGI scope."""
PROTECTED = ("/v1", "/tokenize", "/detokenize")

_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIdMiddleware:
    """Takes the client's `X-Request-Id`, or makes one up, and returns it with the answer.

    An id of odd characters or length is replaced: it goes to logs and back into a header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        scope[REQUEST_ID] = request_id
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, send_with_id)


class ApiKeyMiddleware:
    """Asks for one of the keys as a bearer token, on paths that generate or tokenize.

    Every key is compared, in time that does not depend on what was given.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._authorized(scope):
            await self._app(scope, receive, send)
            return
        refusal = plain_error(
            401, "a valid API key is needed as bearer token", {"www-authenticate": "Bearer"}
        )
        await refusal(scope, receive, send)

    def _authorized(self, scope: Scope) -> bool:
        path = scope["path"]
        if not any(path == start or path.startswith(start + "/") for start in PROTECTED):
            return True
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
