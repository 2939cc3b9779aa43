"""Server-sent events of one OpenAI stream, with the parts that never change encoded once.

Every event of a stream repeats its id, kind, time and model; only the choice differs, and of the
choice mostly one text. So an event is a few joined byte strings, and encoding one token costs less
than a microsecond. The counts of tokens that events and whole answers carry are here, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from headway.server.errors import detail_of, encode_error
from headway.server.formatter import UsageCounter
from headway.server.openai.schema import StreamOptions
from headway.server.timing import LlamaTimings
from headway.types.response_cache import CacheOutcome

DONE = b"data: [DONE]\n\n"

PLACE = "\0"
"""Stands for the text in the choice that a pattern is made from."""
Pattern = tuple[bytes, ...]
"""An event's beginning, in the pieces between which the same text is put."""

_encoder = msgspec.json.Encoder()


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """Drafts, whatever they were made from; rejected ones are no part of the completion."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    response_cache: CacheOutcome | UnsetType = UNSET
    """How the response cache answered; absent where none was asked."""
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


def usage_of(counter: UsageCounter, *, without: int = 0) -> Usage:
    """The tokens so far, but for so many of the last ones, as OpenAI's clients expect them."""
    generated = counter.completion_tokens - without
    return Usage(
        prompt_tokens=counter.prompt_tokens,
        completion_tokens=generated,
        total_tokens=counter.prompt_tokens + generated,
        prompt_tokens_details=PromptTokensDetails(counter.cached_tokens),
        response_cache=counter.outcome or UNSET,
        completion_tokens_details=_drafts_of(counter) if counter.predicts else UNSET,
    )


def _drafts_of(counter: UsageCounter) -> CompletionTokensDetails:
    accepted = counter.accepted_tokens
    return CompletionTokensDetails(accepted, counter.draft_tokens - accepted)


class EventEncoder:
    """Encodes the events of one stream; all texts that JSON needs escaped are escaped."""

    def __init__(
        self,
        usage: UsageCounter,
        options: StreamOptions | None,
        *,
        id: str,  # noqa: A002
        kind: str,
        created: int,
        model: str,
        tier: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """`kind` is the `object` field of every event, `tier` the `service_tier` if any, and
        `fingerprint` the `system_fingerprint`."""
        same = {"id": id, "object": kind, "created": created, "model": model}
        more = {"service_tier": tier, "system_fingerprint": fingerprint}
        head = _encoder.encode(same | {k: v for k, v in more.items() if v is not None})
        self._head = b"data: " + head[:-1]
        self._usage = usage
        self._last = bool(options and options.include_usage)
        self._every = self._last and bool(options and options.continuous_usage_stats)
        # Where the stream ends with an event of counts, the others say `usage: null`.
        self._tail = b'],"usage":null}\n\n' if self._last else b"]}\n\n"

    def choice(
        self,
        choice: msgspec.Struct,
        *,
        prompt_token_ids: Sequence[int] | None = None,
        without: int = 0,
        timings: LlamaTimings | None = None,
    ) -> bytes:
        """One event with one choice, and the prompt's token ids and timings beside it where they
        are given.

        Its counts leave out so many tokens, which a later event shows.
        """
        head, tail = self._head, self._counts(without) if self._every else self._tail
        if prompt_token_ids is not None:
            head += b',"prompt_token_ids":' + _encoder.encode(prompt_token_ids)
        if timings is not None:
            head += b',"timings":' + _encoder.encode(timings)
        return b"".join((head, b',"choices":[', _encoder.encode(choice), tail))

    def pattern(self, choice: msgspec.Struct) -> Pattern:
        """The events whose choices are like this one, with another text for every `PLACE`."""
        first, *others = _encoder.encode(choice).split(_encoder.encode(PLACE))
        return b"".join((self._head, b',"choices":[', first)), *others

    def text(self, pattern: Pattern, text: str) -> bytes:
        """One event of a pattern, byte for byte what `choice` gives."""
        return _encoder.encode(text).join(pattern) + (self._counts() if self._every else self._tail)

    def end(self) -> bytes:
        """The event with no choice that carries the counts, if asked for, and the end mark."""
        if not self._last:
            return DONE
        return b"".join((self._head, b',"choices":[', self._counts(), DONE))

    def error(self, error: Exception) -> bytes:
        """The event that says why a stream breaks off, and the end mark."""
        return b"".join((b"data: ", encode_error(detail_of(error)), b"\n\n", DONE))

    def _counts(self, without: int = 0) -> bytes:
        counts = usage_of(self._usage, without=without)
        return b'],"usage":' + _encoder.encode(counts) + b"}\n\n"
