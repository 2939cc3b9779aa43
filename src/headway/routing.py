"""Which of several engines gets a request: a pure decision, shared by the simulator and servers.

In turn, to the least loaded engine, or to the engine that has the prompt's prefix. Standard
library only; no I/O, no clock. A router sees the shape of a request and what was sent to each
engine, so the same code decides in a simulation and in front of real engines. A new router is a
class with `choose` and a line in `_MAKERS`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol, get_args

RouterName = Literal["round-robin", "least-requests", "least-tokens", "prefix-affine"]
ROUTERS: tuple[RouterName, ...] = get_args(RouterName)
MAX_LOAD_OVER_MEAN = 1.25
"""An engine with more requests than this times the mean gets no more for the sake of a prefix."""
MAX_PREFIXES = 1 << 20
"""Prefixes that a router remembers; beyond that it forgets the least recently used ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShape:
    """What a router may know of a request."""

    prompt_tokens: int
    max_tokens: int
    """Tokens that it may generate at most."""
    prefixes: Sequence[bytes] = ()
    """Names of the prompt's blocks, from the first to the last that other prompts may share.

    A name stands for its block and everything before it: equal names, equal prefixes. Names of
    full KV blocks are those of `headway.types.block_hash`.
    """


@dataclass(slots=True, kw_only=True)
class EngineView:
    """The load of one engine, as whoever routes knows it: requests sent there that have not ended.

    They wait or run: which of the two, only the engine knows.
    """

    requests: int = 0
    tokens: int = 0
    """Prompt tokens of these requests, and the tokens that they may generate."""

    def sent(self, request: RequestShape) -> None:
        """A request was sent to this engine."""
        self.requests += 1
        self.tokens += request.prompt_tokens + request.max_tokens

    def ended(self, request: RequestShape) -> None:
        """A request that was sent to this engine has ended."""
        self.requests -= 1
        self.tokens -= request.prompt_tokens + request.max_tokens


class Router(Protocol):
    """Chooses an engine for each request, in the order of arrival."""

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        """Index of the engine. Between calls, an engine keeps its index."""
        ...


@dataclass(slots=True)
class RoundRobin:
    """Each engine in turn, whatever its load."""

    last: int = -1

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:  # noqa: ARG002
        self.last = (self.last + 1) % len(engines)
        return self.last


@dataclass(frozen=True, slots=True)
class LeastLoaded:
    """The engine with the least load; of equals, the first."""

    load: Callable[[EngineView], int]

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:  # noqa: ARG002
        return min(range(len(engines)), key=lambda index: self.load(engines[index]))


@dataclass(slots=True)
class PrefixAffine:
    """The engine that last got the prompt's longest known prefix, unless its load is too high.

    That engine most likely has the prefix in its KV cache. A prompt without a known prefix, or
    with one on an overloaded engine only, goes to the engine with the fewest requests.
    """

    _engine_of: OrderedDict[bytes, int] = field(default_factory=OrderedDict)

    def choose(self, request: RequestShape, engines: Sequence[EngineView]) -> int:
        most = MAX_LOAD_OVER_MEAN * (1 + sum(each.requests for each in engines)) / len(engines)
        chosen = min(range(len(engines)), key=lambda index: engines[index].requests)
        for name in reversed(request.prefixes):
            known = self._engine_of.get(name)
            if known is not None and known < len(engines) and engines[known].requests < most:
                chosen = known
                break
        self._remember(request.prefixes, chosen)
        return chosen

    def _remember(self, prefixes: Sequence[bytes], engine: int) -> None:
        for name in prefixes:
            self._engine_of[name] = engine
            self._engine_of.move_to_end(name)
        while len(self._engine_of) > MAX_PREFIXES:
            self._engine_of.popitem(last=False)


_MAKERS: Mapping[RouterName, Callable[[], Router]] = MappingProxyType(
    {
        "round-robin": RoundRobin,
        "least-requests": lambda: LeastLoaded(lambda engine: engine.requests),
        "least-tokens": lambda: LeastLoaded(lambda engine: engine.tokens),
        "prefix-affine": PrefixAffine,
    }
)


def make_router(name: RouterName) -> Router:
    """A new router of this name, which has seen no request yet."""
    return _MAKERS[name]()
