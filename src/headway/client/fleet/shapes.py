"""What a router may know of a request, made from the request itself."""

from __future__ import annotations

from dataclasses import replace

from headway.clock import Clock, MonotonicClock
from headway.routing import RequestShape, shape_of
from headway.types import Request


class ShapeMaker:
    """Makes the shapes of requests that are routed now; what continues one prompt has its prefixes
    named once, since naming reads all of it."""

    def __init__(self, *, named: bool, clock: Clock | None = None) -> None:
        """`named` says whether engines cache prefixes, so that their names are of any use."""
        self._named = named
        self._clock = clock or MonotonicClock()
        self._last: Request | None = None
        self._shape: RequestShape | None = None

    def __call__(self, request: Request) -> RequestShape:
        known = self._shape if self._begins_alike(request) else None
        shape = shape_of(request, self._clock.now(), named=self._named and known is None)
        if known is not None:
            shape = replace(shape, prefixes=known.prefixes)
        self._last, self._shape = request, shape
        return shape

    def _begins_alike(self, request: Request) -> bool:
        last = self._last
        return last is not None and (
            request.prompt is last.prompt
            and request.generated == last.generated
            and request.cache_salt == last.cache_salt
        )
