"""Prompts as text, for servers and endpoints that take no token ids.

Every token becomes a common short word, most of which are one token to most tokenizers, so that the
text has about as many tokens as asked; equal tokens are equal words, so shared beginnings stay
shared. How many there really were, servers say themselves.

A server behind a URL as a target: anything that speaks OpenAI's API, ours or another's.

Answers have exactly the asked lengths, by fields that vLLM's server and ours know: see `Ending`.
Servers that know them not may be told otherwise by extra fields, which are put over these, and
where they count tokens in another way than one a piece, what they report at the end stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from headway.errors import InvalidRequest
from headway.perf.bench.http_connection import Address, ConnectionBroken, HttpConnections
from headway.perf.bench.run_load import ClientResponse, Ending
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
PATIENCE = 6 * 3600.0
"""Seconds after which an answer is given up, unless told otherwise."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a server is asked."""

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

    def body(self, job: WorkloadRequest, tokens: Sequence[int]) -> bytes:
        """The request for a job, as JSON."""
        ending = Ending.of(job)
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
    """Sends jobs to a server. Use on one event loop; `close` it."""

    def __init__(
        self,
        address: Address,
        asking: Asking,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> None:
        """`headers` go with every request; an answer takes `timeout` seconds at most."""
        self.heard = 0
        """Tokens that came so far, of all requests, as far as pieces tell."""
        self._asking = asking
        self._connections = HttpConnections(address, headers=headers or {}, timeout=timeout)

    async def ask(self, job: WorkloadRequest, tokens: Sequence[int], *, id: str) -> ClientResponse:  # noqa: A002, ARG002
        """See `Target`. The server makes an id of its own."""
        reading = SSEReader(self)
        body = self._asking.body(job, tokens)
        try:
            await self._connections.post(self._asking.endpoint, body, reading)
        except ConnectionBroken as broken:
            return reading.answer(str(broken))
        return reading.answer()

    def close(self) -> None:
        self._connections.close()
