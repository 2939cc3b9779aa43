"""What every request passes on its way in: a request id, the name that it calls the server by and,
on protected paths, the key.

On its way out it gets the id, and the names of its fields that were ignored.

Plain ASGI, so that a stream's events pass through without being touched; or they pass by, see
`headway.server.body_writer`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Collection, Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.server.callers import TENANT, tenant_name
from headway.server.errors import REQUEST_ID, form_of, plain_error
from headway.server.exposure import host_name
from headway.server.ignored_fields import HEADER, IGNORED_FIELDS, shown

PROTECTED = (
    "/v1",
    "/chat",
    "/completions",
    "/models",
    "/completion",
    "/apply-template",
    "/props",
    "/slots",
    "/infill",
    "/api",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/slo",
    "/live",
    "/replicas",
)
OPEN = ("/v1/health",)
"""Within those, for probes, which have no key."""

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
        shown_id = [(b"x-request-id", request_id.encode())]
        if name := form_of(scope).id_header:
            shown_id.append((name, request_id.encode()))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *shown_id]
                if ignored := scope.get(IGNORED_FIELDS):
                    headers.append((HEADER, shown(ignored).encode()))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_id)


class HostMiddleware:
    """Refuses requests that call this server by a name which is not its own."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """`hosts` are names in lower case, without ports."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        other = next((value for value in given if host_name(value) not in self._hosts), None)
        if scope["type"] != "http" or other is None:
            await self._app(scope, receive, send)
            return
        refusal = plain_error(
            403,
            f"this server is not called {host_name(other)[:100]!r}; start it with --allowed-hosts "
            "and the names that it has, or with --api-key",
            scope=scope,
        )
        await refusal(scope, receive, send)


class ApiKeyMiddleware:
    """Asks for one of the keys on some paths (`PROTECTED`): those that generate or tokenize, and
    what tells of others' requests.

    It comes as bearer token or as `X-Api-Key`. Every key is compared, in time that does not depend
    on what was given.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_protected(scope["path"]) or self._authorized(scope):
            await self._app(scope, receive, send)
            return
        refusal = plain_error(
            401,
            "a valid API key is needed, as `Authorization: Bearer KEY` or as `X-Api-Key: KEY`",
            {"www-authenticate": "Bearer"},
            scope,
        )
        await refusal(scope, receive, send)

    def _authorized(self, scope: Scope) -> bool:
        """Whether a key was given; whose it is goes into the scope."""
        known = False
        for name, value in scope["headers"]:
            given = value if name == b"x-api-key" else None
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                given = key if scheme.lower() == b"bearer" else None
            if given is not None:
                digest = _digest(given.strip())
                matches = [hmac.compare_digest(digest, each) for each in self._digests]
                if any(matches) and not known:
                    known = True
                    scope[TENANT] = tenant_name(matches.index(True))
        return known


def is_protected(path: str) -> bool:
    """Whether requests to this path need a key, where the server has any."""
    if path in OPEN:
        return False
    return any(path == start or path.startswith(start + "/") for start in PROTECTED)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
