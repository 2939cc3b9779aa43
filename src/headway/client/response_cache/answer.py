"""What is kept of an answer: its tokens with all that was said of them, as bytes.

An answer without `finish` is the beginning of one: a reader had enough of it, as by a stop string.
Bytes that come from elsewhere are checked before use.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headway.types import TokenLogprobs

MOST_NUMBERS = 20_000
"""Tokens and alternatives in an answer that is kept: encoding more would hold up others."""

Token = Annotated[int, Meta(ge=0, lt=2**31)]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tokens of one continuation, and how it ended."""

    tokens: tuple[Token, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish: Literal["stop", "length"] | None = None
    stop_reason: Token | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Answer)


def encode_answer(answer: Answer) -> bytes | None:
    """The answer as bytes; None for one that is too large to be kept."""
    scored = (*answer.logprobs, *answer.prompt_logprobs)
    numbers = len(answer.tokens) + sum(1 + len(each.top) for each in scored)
    return _encoder.encode(answer) if numbers <= MOST_NUMBERS else None


def decode_answer(value: bytes | None) -> Answer | None:
    """The answer that bytes stand for; None for bytes that are none."""
    if not value:
        return None
    try:
        answer = _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None
    scored = not answer.logprobs or len(answer.logprobs) == len(answer.tokens)
    return answer if answer.tokens and scored else None
