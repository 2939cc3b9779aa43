"""From a prompt as it is given, text or token ids, to the token ids that the model reads.

Knows the tokenizer and the context length, and neither sampling nor who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from headway.errors import InvalidRequest, RequestTooLarge
from headway.text import Tokenizer

LONG_TEXT = 16_384
"""Characters from which a text is encoded in a thread, so that the event loop stays responsive."""
MAX_TOKEN_CHARACTERS = 128
"""Mean characters per token that no real text reaches: a text longer than the context times this
cannot fit, and is refused without being encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensPrompt:
    """A prompt as token ids, with the text that they came from where a text was given."""

    token_ids: tuple[int, ...]
    text: str | None = None


Prompt = str | Sequence[int] | TokensPrompt
"""A text (which gets the model's special tokens), token ids, or both."""


def encode_now(tokenizer: Tokenizer, prompt: Prompt) -> TokensPrompt:
    """The prompt in token ids, encoded on the spot; token ids are taken as they are."""
    if isinstance(prompt, TokensPrompt):
        return prompt
    if isinstance(prompt, str):
        return TokensPrompt(token_ids=tuple(tokenizer.encode(prompt)), text=prompt)
    return TokensPrompt(token_ids=tuple(prompt))


async def encode_prompt(
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    *,
    max_model_len: int,
    add_special_tokens: bool = True,
    truncate_to: int | None = None,
) -> TokensPrompt:
    """The prompt in token ids; long texts are encoded off the event loop.

    `truncate_to` keeps so many of the last tokens, -1 as many as leave room for one token of the
    answer. Raises `RequestTooLarge` for a text that cannot fit however it is encoded, and
    `InvalidRequest` for one that is not valid Unicode or for another `truncate_to`.
    """
    text = prompt if isinstance(prompt, str) else None
    if isinstance(prompt, str):
        if truncate_to is None and len(prompt) > MAX_TOKEN_CHARACTERS * max_model_len:
            raise RequestTooLarge(
                f"a text of {len(prompt)} characters cannot fit in the context of "
                f"{max_model_len} tokens",
                field="prompt",
            )
        if len(prompt) < LONG_TEXT:
            tokens: Sequence[int] = tokenizer.encode(prompt, add_special_tokens=add_special_tokens)
        else:
            tokens = await asyncio.to_thread(
                tokenizer.encode, prompt, add_special_tokens=add_special_tokens
            )
    else:
        tokens = prompt
    if truncate_to is not None:
        if truncate_to < -1 or truncate_to == 0:
            raise InvalidRequest(
                f"truncate_prompt_tokens must be positive or -1, got {truncate_to}",
                field="truncate_prompt_tokens",
            )
        tokens = tokens[-(max_model_len - 1 if truncate_to == -1 else truncate_to) :]
    return TokensPrompt(token_ids=tuple(tokens), text=text)
