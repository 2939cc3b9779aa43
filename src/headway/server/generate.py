"""Generates and answers one admitted request, whole or as a stream of events.

The three things that must not be forgotten happen here: a client that disconnects has its request
aborted, one that waits too long for a first token is told so, and an error after the first byte is
sent as an event. The first byte waits for the first delta, so that errors before it have a status
of their own. What the bytes look like is the `Formatter`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.types import Receive, Send

from headway.background import later, watched
from headway.client import EngineHandle
from headway.errors import EngineError, HeadwayError, InvalidRequest, Overloaded, Unavailable
from headway.llm import ChoiceCollector, Delta, DeltaStream, GenerationRequest, RequestStream
from headway.logs import line
from headway.server.admission import RequestHandle, ServerState
from headway.server.body_writer import BODY_WRITER, BodyWriter
from headway.server.formatter import Formatter
from headway.server.logs import log, log_end, log_received
from headway.server.relay import Relay
from headway.server.response_cache import CACHE_HEADER, asks_anew
from headway.types.grammar import GRAMMAR_ERROR
from headway.types.response_cache import CacheOutcome
from headway.types.sampling import MAX_LOGPROBS, NOTHING_LEFT

Headers = list[tuple[bytes, bytes]]

LONG_ANSWER = 4096
"""Tokens, those of prompts with log probabilities included."""

WHOLE_PATIENCE = 64
"""Steps whose tokens wait to be taken in together, where an answer is sent whole."""
EVENT_STREAM = "text/event-stream; charset=utf-8"
STREAM_HEADERS: Headers = [
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


WATCH_AFTER = 0.05
"""Seconds of preparing after which it is looked whether the client is still there."""


@contextlib.contextmanager
def client_watched(request: Request, handle: RequestHandle) -> Iterator[None]:
    """While a prompt is prepared in the block: cancel that if the client leaves.

    `respond` watches from then on. What takes no time is not watched.
    """
    watchers: list[asyncio.Task[None]] = []

    def watch() -> None:
        watchers.append(_watch(request, handle))

    timer = later(
        WATCH_AFTER,
        watch,
        name="disconnect watcher",
        on_failure=lambda _: handle.cancel("disconnect"),
    )
    try:
        yield
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


async def respond(
    request: Request,
    send: Send,
    handle: RequestHandle,
    generation: GenerationRequest,
    formatter: Formatter,
    *,
    stream: str | None,
    user: str | None,
    as_told: Callable[[Exception], Exception],
) -> None:
    """Run `generation` and send the answer; returns once the last byte is sent.

    `stream` is the content type of a stream of events, None for one JSON body. Errors before the
    first byte are raised and get a status of their own, later ones are sent as the last event;
    `as_told` makes of each what its client is told, with the client's own names of fields.
    Every request is logged as received, and as finished, failed or aborted; `user` is for that log.
    """
    state: ServerState = request.app.state.server
    usage, response = formatter.usage, _Response(send, stream, request.scope.get(BODY_WRITER))
    state.started(handle, generation)
    log_received(request, generation, usage, stream=stream is not None, user=user)
    watcher = _watch(request, handle)
    error: Exception | None = None
    try:
        await _generate(state, handle, generation, formatter, response, asks_anew(request.headers))
        log_end("finished", request, handle, usage, finish=handle.finish)
    except asyncio.CancelledError:
        if handle.cancel_reason is None:
            raise
        handle.uncancel()
        log_end("aborted", request, handle, usage, reason=handle.cancel_reason)
        if handle.cancel_reason == "shutdown":
            error = Unavailable("the server stopped")
    except Overloaded as shed:
        error = shed
        handle.shed = True
        handle.fail()
        log_end("shed", request, handle, usage, retry_after=shed.retry_after)
    except Exception as caught:
        error = caught
        handle.fail()
        reason = error.message if isinstance(error, HeadwayError) else type(error).__name__
        log_end("failed", request, handle, usage, reason=reason)
        if response.started and not isinstance(error, HeadwayError):
            log.exception(line("error", id=handle.id))
    finally:
        watcher.cancel()
    if error is not None:
        await _tell(as_told(error), formatter, response)


async def _tell(error: Exception, formatter: Formatter, response: _Response) -> None:
    """Raise the error, or send it as the last event of a stream that has begun."""
    if not response.started:
        raise error from None
    await response.send(formatter.error(error), more=False)


async def _generate(
    state: ServerState,
    handle: RequestHandle,
    generation: GenerationRequest,
    formatter: Formatter,
    response: _Response,
    anew: bool,
) -> None:
    """Hand every delta to the formatter, and send what it makes of them: events, or the whole.

    `anew`: no response cache is asked. However this ends, what still runs in the engine is aborted.
    Raises `Overloaded` where the engine sheds any continuation.
    """
    choices = [ChoiceCollector() for _ in generation.requests]
    receiver = _DeltaReceiver(state.llm.client, handle, formatter, choices, response)
    deltas = state.llm.run(generation, anew=anew)
    # The text must be looked at as it comes only where a stop string may end it.
    patience = 0 if response.stream or generation.params.stop else WHOLE_PATIENCE
    try:
        delta = await _first(deltas, state)
        handle.first_token_at = time.monotonic()
        formatter.usage.outcome = response.outcome = deltas.outcome
        while delta is not None:
            if data := receiver.take(delta):
                await response.send(data)
            if receiver.ready and isinstance(deltas, RequestStream):
                await Relay(deltas, receiver, patience=patience).run()
            delta = await anext(deltas, None)
    finally:
        deltas.cancel()
    await response.send(await _last_bytes(formatter, choices, response), more=False)


class _DeltaReceiver:
    """What becomes of the deltas of one answer; see `headway.server.relay.Receiver`."""

    def __init__(
        self,
        client: EngineHandle,
        handle: RequestHandle,
        formatter: Formatter,
        choices: list[ChoiceCollector],
        response: _Response,
    ) -> None:
        """`choices` collect what is answered whole."""
        self.write = response.write
        self._client = client
        self._restarts = client.restarts
        self._handle = handle
        self._formatter = formatter
        self._choices = choices
        self._response = response

    @property
    def ready(self) -> bool:
        """A whole answer is written in the end."""
        return not self._response.stream or self._response.ready

    def take(self, delta: Delta) -> bytes:
        """Raises `HeadwayError` where the engine gave the request up."""
        self._formatter.usage.add(delta)
        if delta.finish_reason is not None:
            if delta.finish_reason == "error":
                raise _engine_error(self._client, delta, self._restarts)
            self._handle.finish_reasons[delta.index] = delta.finish_reason
        if self._response.stream:
            return self._formatter.events(delta)
        self._choices[delta.index].add(delta)
        return b""


async def _last_bytes(
    formatter: Formatter, choices: list[ChoiceCollector], response: _Response
) -> bytes:
    """The end of a stream, or a whole answer: a long one is written off the event loop."""
    if response.stream:
        return formatter.end()
    if sum(map(_size, choices)) < LONG_ANSWER:
        return formatter.body(choices)
    return await asyncio.to_thread(formatter.body, choices)


def _size(choice: ChoiceCollector) -> int:
    """Tokens and alternatives, without those few that cost no more than a token."""
    scored = (*choice.prompt_logprobs, *choice.logprobs)
    more = sum(max(0, len(each.top) - MAX_LOGPROBS) for each in scored)
    return len(choice.token_ids) + len(choice.prompt_logprobs) + more


async def _first(deltas: DeltaStream, state: ServerState) -> Delta | None:
    """The first delta; raises `Unavailable` where none comes within `queue_timeout`."""
    limit = state.config.queue_timeout
    try:
        async with asyncio.timeout(limit):
            return await anext(deltas, None)
    except TimeoutError:
        state.refuse("queue_timeout")
        raise Unavailable(f"no token came within the queue timeout of {limit:g} s") from None


def _engine_error(client: EngineHandle, delta: Delta, restarts: int) -> HeadwayError:
    """Why the engine gave up: what it never scheduled was refused on arrival, and what leaves no
    token to choose, or grows beyond the limits of a grammar, was asked so.

    `restarts` is the client's count from when the request began: a request that brought engines
    down was not refused, though it may never have been scheduled either.
    """
    message = delta.error or "the engine could not finish the request"
    if client.state not in ("ready", "restarting"):
        return Unavailable(message)
    refused = delta.scheduled_at is None and not delta.token_ids
    if message == NOTHING_LEFT or (refused and client.restarts == restarts):
        return InvalidRequest(message)
    if message.startswith(GRAMMAR_ERROR):
        return InvalidRequest(message, field="structured_outputs")
    return EngineError(message)


class _Response:
    """The response as far as it is sent: nothing before its first bytes are there."""

    def __init__(self, send: Send, stream_type: str | None, writer: BodyWriter | None) -> None:
        """`stream_type`: what a stream of events is; None for one JSON body. `writer` is the
        connection's own, where it has one."""
        self.started = False
        self.stream = stream_type is not None
        self.outcome: CacheOutcome | None = None
        self._stream_type = stream_type
        self._send = send
        self._writer = writer

    @property
    def ready(self) -> bool:
        """Whether more bytes of the body can be written at once."""
        return self._writer is not None and self._writer.ready

    def write(self, data: bytes) -> None:
        """As `send`, when `ready`; the middleware of the application has nothing to add then."""
        if self._writer is not None:
            self._writer.write(data)

    async def send(self, data: bytes, *, more: bool = True) -> None:
        if not self.started:
            self.started = True
            headers = _headers(self._stream_type, data)
            if self.outcome is not None:
                headers.append((CACHE_HEADER, self.outcome.encode()))
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _headers(stream_type: str | None, data: bytes) -> Headers:
    """Those of a stream, or of a JSON body that is all of `data`."""
    if stream_type is not None:
        return [(b"content-type", stream_type.encode()), *STREAM_HEADERS]
    length = (b"content-length", str(len(data)).encode())
    return [(b"content-type", b"application/json"), length]


def _watch(request: Request, handle: RequestHandle) -> asyncio.Task[None]:
    return watched(
        _watch_disconnect(request.receive, handle),
        name="disconnect watcher",
        on_failure=lambda _: handle.cancel("disconnect"),
    )


async def _watch_disconnect(receive: Receive, handle: RequestHandle) -> None:
    """Cancel the request when its client leaves. Its body has been read: nothing else comes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    handle.cancel("disconnect")
