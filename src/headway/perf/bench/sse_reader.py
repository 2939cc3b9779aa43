"""A streamed response (server-sent events): when tokens came, how many, how it ended.

This runs for every token of every request, beside the server that is measured, so of each event
only the fields that count are decoded, by msgspec, and texts are looked at but not kept.
"""

from __future__ import annotations

from array import array
from typing import Any, Protocol

import msgspec

from headway.perf.bench.run_load import ClientResponse
from headway.perf.records.record import Outcome

MAX_LINE = 16 * 2**20
"""Bytes; an event that is longer is none."""
MAX_ERROR_BODY = 8192
"""Bytes of an error's body that are read."""
REFUSALS = (429, 503)
"""Statuses of a server that refuses a request because it has no room."""


class _Delta(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct, gc=False):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class TokenCounter(Protocol):
    """Counts tokens over all requests."""

    tokens_received: int


_decode = msgspec.json.Decoder(_Chunk).decode


class SSEReader:
    """Reads one streamed response; a `ResponseReader` of `headway.perf.bench.http_connection`."""

    __slots__ = (
        "_counter",
        "_counts",
        "_error",
        "_finished",
        "_rest",
        "_status",
        "_times",
        "_usage",
    )

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._times = array("d")
        self._counts = array("L")
        self._status = 0
        self._rest = b""
        self._finished = False
        self._usage: _Usage | None = None
        self._error: str | None = None

    def head(self, status: int) -> None:
        self._status = status

    def body(self, data: bytes, clock: float) -> None:
        if self._status != 200:
            self._rest = (self._rest + data)[:MAX_ERROR_BODY]
            return
        if self._rest:
            data, self._rest = self._rest + data, b""
        lines = data.split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_LINE:
            raise ValueError(f"a line has more than {MAX_LINE} bytes")
        self._rest = rest
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:], clock)

    def response(self, broken: str | None = None) -> ClientResponse:
        """What came; `broken` says why the connection broke, if it did."""
        outcome, error = self._outcome(broken)
        usage = self._usage
        counted = None if usage is None else usage.completion_tokens
        details = None if usage is None else usage.prompt_tokens_details
        return ClientResponse(
            times=self._times,
            counts=self._counts,
            outcome=outcome,
            error=error,
            cached_tokens=0 if details is None else details.cached_tokens or 0,
            output_tokens=counted,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
        )

    def _event(self, data: bytes, clock: float) -> None:
        if len(data) < 16 and data.strip() == b"[DONE]":
            self._finished = True
            return
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._error = self._error or f"an event cannot be read: {error}"
            return
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.error is not None:
            self._error = self._error or _message(chunk.error)
        count = 0
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self._finished = True
            ids = choice.token_ids
            count += _estimated_tokens(choice) if ids is None else len(ids)
        if count:
            self._times.append(clock)
            self._counts.append(count)
            self._counter.tokens_received += count

    def _outcome(self, broken: str | None) -> tuple[Outcome, str]:
        if self._status not in (0, 200):
            refused = self._status in REFUSALS
            return "refused" if refused else "error", f"{self._status}: {_error_text(self._rest)}"
        if self._error is not None:
            return "error", self._error
        if broken is not None:
            return "error", broken
        if not self._finished:
            return "error", "the stream broke off" if self._times else "the answer is no stream"
        if not self._times:
            return "error", "the answer has no tokens"
        return "ok", ""


def _estimated_tokens(choice: _Choice) -> int:
    """Tokens in a piece that has no ids: one, unless it only begins or ends the answer.

    A piece without text may be a token that is no whole letter yet.
    """
    delta = choice.delta
    if delta is None:
        return 1 if choice.text or choice.finish_reason is None else 0
    if delta.content or delta.reasoning_content or delta.reasoning:
        return 1
    return 0 if delta.role is not None or choice.finish_reason is not None else 1


def _error_text(body: bytes) -> str:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return " ".join(body.decode(errors="replace").split())[:200] or "no explanation"
    error = content.get("error", content) if isinstance(content, dict) else content
    return _message(error)


def _message(error: object) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return str(error)[:500]
