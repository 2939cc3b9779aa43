"""Life of the engine process: start, serve steps, end.

One thread does all the work: between steps it reads the messages that arrived, and it sleeps while
there is nothing to do. A second thread tells the heartbeat. Nothing recovers from exceptions: the
process reports why and exits, and its supervisor, which has a journal of all requests, starts
another one. Knows messages and the engine's methods, no text and no tensors.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from headway.clock import Clock, MonotonicClock
from headway.engine.channel import LAST_MESSAGE_WAIT, BadFrame, Channel
from headway.engine.heartbeat import StepProgress, start_heartbeat
from headway.errors import HeadwayError
from headway.logs import start_logging
from headway.types import TokenEvent
from headway.wire import Abort, EngineInfo, EngineStats, Failed, Ready, Start, ToEngine, Watch

if TYPE_CHECKING:
    from headway.engine.loop import Engine
    from headway.engine.watching import BatchWatch

PR_SET_PDEATHSIG = 1
RETRY_SEND = 0.05
"""Seconds between attempts to send to an API process that does not read."""
MOST_REASON = 2000
"""Characters of an exception that are told."""

logger = logging.getLogger(__name__)


Build = Callable[[Start], tuple["Engine", EngineInfo]]


def serve(fd: int, build: Build) -> int:
    """Run an engine on the socket `fd` until that closes; returns the process's exit code.

    `build` makes the engine from the first message. A `HeadwayError` that it raises is sent to the
    supervisor, with the setting that it names.
    """
    _tie_to_parent()
    channel = Channel(socket.socket(fileno=fd))
    clock = MonotonicClock()
    progress = StepProgress(clock)
    start_heartbeat(channel, progress)
    try:
        return _serve(channel, build, clock, progress)
    except BadFrame as error:
        return _fail(channel, Failed(message=f"unreadable message from the API process: {error}"))


def run(channel: Channel, engine: Engine, clock: Clock, progress: StepProgress) -> None:
    """Read messages and run steps until an exception; one message is sent for each step.

    The exception is the engine's own, or `BadFrame`.
    """
    wait: float | None = None
    sent: EngineStats | None = None
    while True:
        if wait != 0 and channel.has_unsent:
            channel.flush(RETRY_SEND)
            wait = 0
        messages = channel.receive(wait)
        progress.begin()
        events = _handle(messages, engine)
        wait = None
        if engine.has_work:
            outcome = engine.step()
            if isinstance(outcome, list):
                events += outcome
                wait = 0
            elif outcome.until is not None:
                wait = max(0.0, outcome.until - clock.now())
        stats = engine.stats()
        progress.end()
        if events or stats != sent:
            for event, reason in channel.send_events(events, stats):
                _end_unsendable(channel, engine, event.id, reason)
            sent = stats
        if engine.batch_watch is not None:
            wait = _tell_batch(channel, engine.batch_watch, clock.now(), wait)


def _serve(channel: Channel, build: Build, clock: Clock, progress: StepProgress) -> int:
    match channel.receive(None):
        case [Start() as start]:
            pass
        case _:
            raise BadFrame("a lone Start must come first")
    logging.getLogger().setLevel(start.log_level)
    start_logging(start.log_level, start.log_format)
    _keep_to(start.cpus)
    _see_only(start.gpu)
    try:
        engine, info = build(start)
    except HeadwayError as error:
        logger.error("engine cannot start: %s", error)
        return _fail(channel, Failed(message=error.message, field=error.field))
    except Exception as error:
        logger.exception("engine cannot start")
        return _fail(channel, Failed(message=f"the engine cannot start: {_brief(error)}"))
    channel.send(Ready(info=info))
    try:
        run(channel, engine, clock, progress)
    except BadFrame:
        raise
    except Exception as error:
        logger.exception("engine failed")
        return _fail(channel, Failed(message=f"the engine failed: {_brief(error)}"))
    return 0


def _handle(messages: list[ToEngine], engine: Engine) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    for message in messages:
        if isinstance(message, Abort):
            for name in message.ids:
                events += engine.abort(name)
        elif isinstance(message, Watch):
            engine.watch(message.interval)
        elif isinstance(message, Start):
            raise BadFrame("Start came twice")
        else:
            for request in message.requests:
                events += engine.add(request)
    return events


def _tell_batch(
    channel: Channel, watch: BatchWatch, now: float, wait: float | None
) -> float | None:
    """Tell those who watch the batch what is due; returns how long the loop may sleep now.

    An API process that does not read gets the next telling instead of ever more of them.
    """
    if channel.has_unsent:
        return wait
    news = watch.take(now)
    if news is not None:
        channel.send(news)
    due = watch.due_in(now)
    if due is None:
        return wait
    return due if wait is None else min(wait, due)


def _end_unsendable(channel: Channel, engine: Engine, name: str, reason: str) -> None:
    """End one request, whose results no message can hold; the others go on."""
    logger.error("request ended request_id=%s: its results cannot be sent: %s", name, reason)
    engine.abort(name)
    error = f"the results cannot be sent: {reason}"
    channel.send_events([TokenEvent(id=name, finish="error", error=error)], engine.stats())


def _fail(channel: Channel, failure: Failed) -> int:
    channel.send(failure)
    channel.flush(LAST_MESSAGE_WAIT)
    return 1


def _brief(error: BaseException) -> str:
    reason = f"{type(error).__name__}: {error}"[:MOST_REASON]
    return reason.encode(errors="replace").decode()


def _keep_to(cpus: tuple[int, ...]) -> None:
    """Run on these cores alone, all threads that there are and will be; on any if there are none.

    Whoever counts the cores of this process afterwards finds these.
    """
    if not cpus:
        return
    try:
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
            os.sched_setaffinity(int(thread), cpus)
        logger.info("engine keeps to cores %s", ",".join(map(str, cpus)))
    except (AttributeError, OSError) as error:
        logger.warning("engine cannot keep to cores %s: %s", cpus, error)


def _see_only(gpu: str) -> None:
    """Compute on this GPU, if it names one. To be called before anything looks for GPUs."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        logger.info("engine keeps to GPU %s", gpu)


def _tie_to_parent() -> None:
    """Ignore the signals that the API process handles, and die when it dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        # The socket's end says the same, but only once the reader thread gets to run.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
