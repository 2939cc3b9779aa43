"""A load client for a server behind a URL: anything that speaks OpenAI's API, ours or another's.

Answers have exactly the asked lengths, by fields that vLLM's server and ours know: see
`OutputLength`. Others may get extra fields, which are put over these; where a server counts
tokens in another way than one a piece, what it reports at the end stands.

Endpoints that take no token ids get text. Every token becomes a common short word, most of which
are one token to most tokenizers, so that the text has about as many tokens as asked; equal tokens
are equal words, so shared prefixes stay shared. The server says how many tokens there really were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from headway.errors import InvalidRequest
from headway.perf.bench.http_connection import Address, ConnectionBroken, HttpConnections
from headway.perf.bench.run_load import ClientResponse, OutputLength
from headway.perf.bench.sse_reader import SSEReader
from headway.perf.workload.workload import WorkloadRequest

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
        fields |= self.extra
        return _encode({name: value for name, value in fields.items() if value is not None})


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
