"""A load client for a server behind a URL: anything that speaks OpenAI's API, ours or another's.

Answers have exactly the asked lengths, by fields that vLLM's server and ours know: see
`OutputLength`. Others may get extra fields, which are put over these; where a server counts
tokens in another way than one a piece, what it reports at the end stands. Reading runs for every
token of every request, beside the server that is measured, so of each server-sent event only the
fields that count are decoded, and texts are looked at but not kept.

Endpoints that take no token ids get text. Every token becomes a common short word, most of which
are one token to most tokenizers, so that the text has about as many tokens as asked; equal tokens
are equal words, so shared prefixes stay shared. The server says how many tokens there really were.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from headway.errors import InvalidRequest
from headway.perf.bench.http_connection import Address, ConnectionBroken, HttpConnections
from headway.perf.bench.run_load import ClientResponse, OutputLength
from headway.perf.records.record import Outcome
from headway.perf.workload.workload import WorkloadRequest
from headway.types.objectives import METRICS, pace_of

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


class _Drafts(msgspec.Struct, gc=False):
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None

    @property
    def accepted(self) -> int:
        return self.accepted_prediction_tokens or 0

    @property
    def all(self) -> int:
        return self.accepted + (self.rejected_prediction_tokens or 0)


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Drafts | None = None


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
        drafts = None if usage is None else usage.completion_tokens_details
        return ClientResponse(
            times=self._times,
            counts=self._counts,
            outcome=outcome,
            error=error,
            cached_tokens=0 if details is None else details.cached_tokens or 0,
            draft_tokens=0 if drafts is None else drafts.all,
            accepted_tokens=0 if drafts is None else drafts.accepted,
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


_TEXT = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work government number
night point home water room mother area money story fact month lot right study book eye job word
business issue side kind head house service friend father power hour game line end member law car
city community name president team minute idea body information back parent face others level
office door health person art war history party result change morning reason research girl guy
moment air teacher force education be have do say get make go know take see come think look want
give use find tell ask seem feel try leave call good new first last long great little own other
old big high different small large next early young important few public bad same able to of in
for on with at by from up about into over after the and a that it not he as you this but his they
her she or an will my one all would there their
"""
WORDS = tuple(_TEXT.split())


def as_words(tokens: Sequence[int]) -> str:
    """The text that stands for these tokens."""
    count = len(WORDS)
    return " ".join([WORDS[token % count] for token in tokens])


COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
REQUEST_TIMEOUT = 6 * 3600.0
"""Seconds after which an answer is given up, by default."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBuilder:
    """Makes the body of a completion request."""

    model: str
    endpoint: str = COMPLETIONS
    prompts: Literal["tokens", "text"] = "tokens"
    """Token ids, or made-up words of about as many tokens; chat takes text alone."""
    token_ids: bool = False
    """Ask for the ids of generated tokens, so that those of each piece are known exactly."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields put over our own; those that are None are left out."""

    def __post_init__(self) -> None:
        if not self.endpoint.startswith("/") or not self.endpoint.isascii():
            raise InvalidRequest(
                f"--endpoint must be a path such as {COMPLETIONS}, got {self.endpoint!r}",
                field="--endpoint",
            )

    @property
    def chats(self) -> bool:
        return self.endpoint.rstrip("/").endswith("/chat/completions")

    def body(self, request: WorkloadRequest, tokens: Sequence[int]) -> bytes:
        """The request as JSON."""
        ending = OutputLength.of(request)
        fields: dict[str, Any] = {
            "model": self.model,
            "max_tokens": ending.max_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.chats:
            fields["messages"] = [{"role": "user", "content": as_words(tokens)}]
        else:
            fields["prompt"] = tokens if self.prompts == "tokens" else as_words(tokens)
        if ending.stop is not None:
            fields["min_tokens"] = ending.min_tokens
            fields["stop_token_ids"] = [ending.stop]
            fields["logit_bias"] = {str(ending.stop): ending.bias}
        if self.token_ids:
            fields["return_token_ids"] = True
        if request.tenant:
            fields["user"] = request.tenant
        fields["slo"] = slo_of(request)
        fields |= self.extra
        return _encode({name: value for name, value in fields.items() if value is not None})


_SLO_FIELDS = {"ttft": "ttft_ms", "tpot": "tpot_ms", "itl": "itl_ms", "e2el": "deadline_ms"}


def slo_of(request: WorkloadRequest) -> dict[str, float | str] | None:
    """Its class and the tightest of its objectives as our servers read them; None for neither.

    A request keeps its objectives or misses them, so their percentiles are left behind.
    """
    slo: dict[str, float | str] = {
        _SLO_FIELDS[metric]: round(seconds * 1e3, 6)
        for metric in METRICS
        if (seconds := getattr(pace_of(request.objectives), metric)) < math.inf
    }
    if request.service_class != "standard":
        slo["class"] = request.service_class
    return slo or None


class HttpLoadClient:
    """Sends requests to a server. Use on one event loop; `close` it."""

    def __init__(
        self,
        address: Address,
        builder: RequestBuilder,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        """`headers` go with every request; an answer takes `timeout` seconds at most."""
        self.tokens_received = 0
        """Tokens that came so far, of all requests, as counted by pieces."""
        self._builder = builder
        self._connections = HttpConnections(address, headers=headers or {}, timeout=timeout)

    async def send(
        self,
        request: WorkloadRequest,
        tokens: Sequence[int],
        *,
        request_id: str,  # noqa: ARG002
    ) -> ClientResponse:
        """See `LoadClient`. The server makes an id of its own."""
        reader = SSEReader(self)
        body = self._builder.body(request, tokens)
        try:
            await self._connections.post(self._builder.endpoint, body, reader)
        except ConnectionBroken as broken:
            return reader.response(str(broken))
        return reader.response()

    def close(self) -> None:
        self._connections.close()
