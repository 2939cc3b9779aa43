"""What a router may know of a request, made from the request itself."""

from __future__ import annotations

from headway.routing import RequestShape
from headway.types import Request
from headway.types.block_hash import block_hashes

MOST_NAMED = 64
"""Blocks of a prompt that are named, the first ones. Prompts that share these but not more go to
the same engine, which is as well; and naming takes no more than 0.1 ms of the event loop."""


class ShapeMaker:
    """Makes the shapes of requests; what continues one prompt has its blocks named once."""

    def __init__(self, block_size: int) -> None:
        """`block_size` is that of the engines' KV caches, in tokens."""
        self._block_size = block_size
        self._last: Request | None = None
        self._names: tuple[bytes, ...] = ()

    def __call__(self, request: Request) -> RequestShape:
        last = self._last
        same = last is not None and (
            request.prompt is last.prompt and request.cache_salt == last.cache_salt
        )
        if not same:
            self._last, self._names = request, self._name(request)
        done = len(request.generated)
        return RequestShape(
            prompt_tokens=len(request.prompt) + done,
            max_tokens=max(0, request.sampling.max_tokens - done),
            prefixes=self._names,
        )

    def _name(self, request: Request) -> tuple[bytes, ...]:
        """Of full blocks; the last token of a prompt is computed anew in any case."""
        named = min(len(request.prompt) - 1, MOST_NAMED * self._block_size)
        salt = b"all:" + request.cache_salt.encode()  # as the prefix cache names them
        return tuple(block_hashes(request.prompt[:named], self._block_size, salt))
