"""Log probabilities in the three shapes that clients know.

Completions have parallel lists with text offsets, chat has one object per token with its bytes,
and `prompt_logprobs` is vLLM's: one mapping from token id per prompt token, null for the first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

import msgspec

from headway.server.openai.schema import SamplingBody
from headway.text import Tokenizer
from headway.text.detokenizer import Detokenizer
from headway.types import TokenLogprobs
from headway.types.sampling import WHOLE_VOCABULARY

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


def shown_alternatives(body: SamplingBody, asked: int | None) -> int | None:
    """How many of a position are shown where `asked` was given: all where tokens are listed."""
    return WHOLE_VOCABULARY if body.logprob_token_ids is not None else asked


def alternatives(asked: int) -> int:
    """The most alternatives to show of a position, where so many were asked for."""
    return sys.maxsize if asked == WHOLE_VOCABULARY else asked


def token_names(tokenizer: Tokenizer, *, as_ids: bool) -> Callable[[int], str]:
    """How tokens are written: as their text or, so that none is like another, as `token_id:N`."""
    return "token_id:{}".format if as_ids else tokenizer.token_text


class TextOffsets:
    """Where in a choice's text each token begins, in characters, one token after the other.

    A token that shows nothing, or completes no character, begins where the next one does.
    """

    def __init__(
        self, tokenizer: Tokenizer, before: Iterable[int] = (), *, skip_special_tokens: bool
    ) -> None:
        """`before` are tokens whose text is not the choice's: those of a prompt not echoed."""
        self._detokenizer = Detokenizer(tokenizer, before, skip_special_tokens)
        self._offset = 0

    def next(self, token: int) -> int:
        """The offset of the next token."""
        start = self._offset
        self._offset += len(self._detokenizer.push((token,)))
        return start


def completion_logprobs(
    positions: Iterable[TokenLogprobs],
    *,
    name: Callable[[int], str],
    top: int,
    offsets: TextOffsets,
    first: int | None,
) -> CompletionLogprobs:
    """The lists, with tokens as `name` writes them. `first` is a token that nothing predicted.

    `top` alternatives a token, after the chosen one.
    """
    tokens: list[str] = []
    chosen: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    starts: list[int] = []
    if first is not None:
        tokens.append(name(first))
        chosen.append(None)
        tops.append(None)
        starts.append(offsets.next(first))
    for position in positions:
        token = name(position.token)
        logprob = _finite(position.logprob)
        likeliest = {name(t): _finite(p) for t, p in position.top[: alternatives(top)]}
        tokens.append(token)
        chosen.append(logprob)
        # Another token may have the same text: the number is the chosen one's.
        tops.append({token: logprob} | likeliest | {token: logprob})
        starts.append(offsets.next(position.token))
    return CompletionLogprobs(
        tokens=tokens, token_logprobs=chosen, top_logprobs=tops, text_offset=starts
    )


def chat_logprobs(
    positions: Iterable[TokenLogprobs],
    tokenizer: Tokenizer,
    *,
    top: int,
    name: Callable[[int], str],
) -> ChatLogprobs:
    """`top` alternatives a token; the chosen one is among those that a request lists."""
    return ChatLogprobs(
        [
            ChatLogprob(
                token=name(position.token),
                logprob=_finite(position.logprob),
                bytes=list(tokenizer.token_bytes(position.token)),
                top_logprobs=[
                    TopLogprob(name(t), _finite(p), list(tokenizer.token_bytes(t)))
                    for t, p in _shown(position, top)
                ],
            )
            for position in positions
        ]
    )


def _shown(position: TokenLogprobs, top: int) -> Sequence[tuple[int, float]]:
    shown = position.top[: alternatives(top)]
    if top != WHOLE_VOCABULARY or any(token == position.token for token, _ in shown):
        return shown
    return ((position.token, position.logprob), *shown)


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
            for rank, (token, logprob) in enumerate(position.top[: alternatives(top)], start=1)
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
