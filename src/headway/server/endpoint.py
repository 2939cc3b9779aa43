"""What the server knows of one endpoint: enough to route to it and to document it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

Handler = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`takes` and `gives` are the types of the JSON body and answer, None where there is none."""

    method: str
    path: str
    handler: Handler
    summary: str
    takes: type | None = None
    gives: type | None = None
    media_type: str = "application/json"
    """Of an answer that is not JSON."""
