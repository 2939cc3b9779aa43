"""Log probabilities in the three shapes that clients know.

Completions have parallel lists with text offsets, chat has one object per token with its bytes,
and `prompt_logprobs` is vLLM's: one mapping from token id per prompt token, null for the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from headway.text import Tokenizer
from headway.types import TokenLogprobs

LOWEST = -9999.0
"""Stands for minus infinity, which JSON has no number for."""


class CompletionLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[ChatLogprob]
    refusal: None = None


class PromptLogprob(msgspec.Struct, frozen=True, kw_only=True):
    logprob: float
    rank: int | None
    decoded_token: str


def completion_logprobs(
    positions: Iterable[TokenLogprobs],
    tokenizer: Tokenizer,
    *,
    top: int,
    offset: int,
    first: int | None,
) -> tuple[CompletionLogprobs, int]:
    """The lists, and the text offset after them. `first` is a token that nothing predicted.

    `top` alternatives a token, and the chosen one where it is not among them.
    """
    tokens: list[str] = []
    chosen: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets: list[int] = []
    if first is not None:
        tokens.append(tokenizer.token_text(first))
        chosen.append(None)
        tops.append(None)
        offsets.append(offset)
        offset += len(tokens[0])
    for position in positions:
        token = tokenizer.token_text(position.token)
        logprob = _finite(position.logprob)
        likeliest = {tokenizer.token_text(t): _finite(p) for t, p in position.top[:top]}
        tokens.append(token)
        chosen.append(logprob)
        tops.append(likeliest | {token: logprob})
        offsets.append(offset)
        offset += len(token)
    lists = CompletionLogprobs(
        tokens=tokens, token_logprobs=chosen, top_logprobs=tops, text_offset=offsets
    )
    return lists, offset


def chat_logprobs(
    positions: Iterable[TokenLogprobs], tokenizer: Tokenizer, *, top: int
) -> ChatLogprobs:
    return ChatLogprobs(
        [
            ChatLogprob(
                token=tokenizer.token_text(position.token),
                logprob=_finite(position.logprob),
                bytes=list(tokenizer.token_bytes(position.token)),
                top_logprobs=[
                    TopLogprob(tokenizer.token_text(t), _finite(p), list(tokenizer.token_bytes(t)))
                    for t, p in position.top[:top]
                ],
            )
            for position in positions
        ]
    )


def prompt_logprobs(
    positions: Sequence[TokenLogprobs], tokenizer: Tokenizer, *, top: int
) -> list[dict[str, PromptLogprob] | None]:
    """One mapping per prompt token, from token id to its probability; null for the first."""
    listed: list[dict[str, PromptLogprob] | None] = [None]
    for position in positions:
        entry = {
            str(token): PromptLogprob(
                logprob=_finite(logprob), rank=rank, decoded_token=tokenizer.token_text(token)
            )
            for rank, (token, logprob) in enumerate(position.top[:top], start=1)
        }
        entry[str(position.token)] = PromptLogprob(
            logprob=_finite(position.logprob),
            rank=position.rank,
            decoded_token=tokenizer.token_text(position.token),
        )
        listed.append(entry)
    return listed


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST)
