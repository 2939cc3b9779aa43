"""Life of the engine process: start, serve steps, end.

One thread does all the work: between steps it takes in what arrived, and it sleeps while there is
nothing to do. Exceptions are not mended here: the process says why and ends, and its supervisor,
which keeps the ledger, starts another. It knows messages and the engine's few methods, no text and
no tensor.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from headway.clock import Clock, MonotonicClock
from headway.engine.channel import LAST_WORDS, BadFrame, Channel
from headway.errors import HeadwayError
from headway.types import Request, TokenEvent
from headway.wire import Abort, EngineInfo, EngineStats, Events, Failed, Ready, Start, ToEngine

PR_SET_PDEATHSIG = 1
OFFER_AGAIN = 0.05
"""Seconds between offers to an API process that does not read."""

logger = logging.getLogger(__name__)


class Rest(Protocol):
    """There is nothing to compute before `until` (clock seconds; None: before news arrives)."""

    @property
    def until(self) -> float | None: ...


class Loop(Protocol):
    """What the process needs of `headway.engine.loop.Engine`."""

    @property
    def has_work(self) -> bool: ...

    def add(self, request: Request) -> list[TokenEvent]: ...

    def abort(self, request_id: str) -> list[TokenEvent]: ...

    def step(self) -> Sequence[TokenEvent] | Rest: ...

    def stats(self) -> EngineStats: ...


Build = Callable[[Start], tuple[Loop, EngineInfo]]


def serve(fd: int, build: Build) -> int:
    """Run an engine on the socket `fd` until that closes; returns the process's exit code.

    `build` makes the engine from the first message, and may raise: a `HeadwayError` tells the
    supervisor what to mend.
    """
    _answer_to_parent_only()
    channel = Channel(socket.socket(fileno=fd))
    try:
        return _serve(channel, build)
    except BadFrame as error:
        return _end(channel, Failed(message=f"unreadable message from the API process: {error}"))


def run(channel: Channel, engine: Loop, clock: Clock) -> None:
    """Take in messages and do steps, for ever: one frame goes up for each step.

    Returns only by an exception, the engine's own or `BadFrame`.
    """
    wait: float | None = None
    told: EngineStats | None = None
    while True:
        if wait != 0 and channel.behind:
            channel.flush(OFFER_AGAIN)
            wait = 0
        events = _take_in(channel.receive(wait), engine)
        wait = None
        if engine.has_work:
            outcome = engine.step()
            if isinstance(outcome, Sequence):
                events += outcome
                wait = 0
            elif outcome.until is not None:
                wait = max(0.0, outcome.until - clock.now())
        stats = engine.stats()
        if events or stats != told:
            channel.send(Events(events=events, stats=stats))
            told = stats


def _serve(channel: Channel, build: Build) -> int:
    match channel.receive(None):
        case [Start() as start]:
            pass
        case _:
            raise BadFrame("a lone Start must come first")
    logging.getLogger().setLevel(start.log_level)
    try:
        engine, info = build(start)
    except HeadwayError as error:
        logger.error("engine cannot start: %s", error)
        return _end(channel, Failed(message=error.message, field=error.field))
    except Exception as error:
        logger.exception("engine cannot start")
        return _end(channel, Failed(message=f"the engine cannot start: {_brief(error)}"))
    channel.send(Ready(info=info))
    try:
        run(channel, engine, MonotonicClock())
    except BadFrame:
        raise
    except Exception as error:
        logger.exception("engine failed")
        return _end(channel, Failed(message=f"the engine failed: {_brief(error)}"))
    return 0


def _take_in(messages: list[ToEngine], engine: Loop) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    for message in messages:
        if isinstance(message, Abort):
            for name in message.ids:
                events += engine.abort(name)
        elif isinstance(message, Start):
            raise BadFrame("Start came twice")
        else:
            for request in message.requests:
                events += engine.add(request)
    return events


def _end(channel: Channel, last: Failed) -> int:
    channel.send(last)
    channel.flush(LAST_WORDS)
    return 1


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _answer_to_parent_only() -> None:
    """Leave Ctrl-C and SIGTERM to the API process, and die with it, come what may."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        # The socket's end says the same, but only once the reader thread gets to run.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
