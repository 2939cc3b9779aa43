"""From a prompt as it is given to the token ids that the model reads.

A conversation becomes one text, as the model's chat template writes it; a text becomes token ids.
Messages are OpenAI's, as dictionaries: `role`, `content` (a text, or a list of text parts), and
whatever else the template knows. This module knows neither bodies of requests nor sampling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.errors import InvalidRequest, RequestTooLarge
from headway.text import ChatTemplate, Tokenizer

RESERVED = frozenset(("messages", "tools", "add_generation_prompt", "continue_final_message"))
"""Template variables that have arguments of their own."""


def render_chat(
    template: ChatTemplate | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool | None = None,
    continue_final_message: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The conversation as one text.

    `add_generation_prompt` opens the assistant's turn (if None: unless the final message is
    continued), `variables` are further variables of the template. Raises `InvalidRequest` where
    the model has no template, or the template cannot show these messages.
    """
    if template is None:
        raise InvalidRequest(
            "this model has no chat template: give a prompt instead (/v1/completions over HTTP), "
            "or start with --chat-template",
            field="messages",
        )
    if not messages:
        raise InvalidRequest("messages is empty", field="messages")
    opens = not continue_final_message if add_generation_prompt is None else add_generation_prompt
    for name in variables or {}:
        if name in RESERVED or not name.isidentifier():
            raise InvalidRequest(
                f"chat_template_kwargs may not set {name[:100]!r}", field="chat_template_kwargs"
            )
    return template.render(
        [_as_templates_expect(message) for message in messages],
        add_generation_prompt=opens,
        continue_final_message=continue_final_message,
        **(variables or {}),
    )


def message_text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """A message's content as one text; several parts are joined by line breaks."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content)


def _as_templates_expect(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates know one text for content, and `system` where OpenAI now says `developer`."""
    shown = dict(message)
    if shown.get("role") == "developer":
        shown["role"] = "system"
    content = shown.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        shown["content"] = message_text(content)
    return shown


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
