"""The bodies of `/tokenize` and `/detokenize`, which are vLLM's and llama.cpp's at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from headway.server.openai.harmless import StrictBody
from headway.server.openai.schema import Message, TokenId
from headway.server.openai.tools import Tools


class TokenizeBody(StrictBody, frozen=True, kw_only=True):
    """`POST /tokenize`: a prompt, messages as they would reach the model, or content."""

    model: str | None = None
    prompt: str | None = None
    content: Annotated[str | None, Meta(description="A text, as llama.cpp's clients send it.")] = (
        None
    )
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    add_special_tokens: Annotated[
        bool | None, Meta(description="True for a prompt, false for messages, if absent.")
    ] = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Tools | None = None
    return_token_strs: bool | None = None
    add_special: Annotated[
        bool | None, Meta(description="For content: add special tokens; false if absent.")
    ] = None
    parse_special: Annotated[
        Literal[True] | None, Meta(description="For content: special tokens may be spelt out.")
    ] = None
    with_pieces: Annotated[
        bool | None, Meta(description="For content: each token with its id and its piece of text.")
    ] = None


class DetokenizeBody(StrictBody, frozen=True, kw_only=True):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[TokenId]


FOR_MESSAGES = (
    "messages",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
    "tools",
)
FOR_CONTENT = ("content", "add_special", "parse_special", "with_pieces")
"""Fields of `TokenizeBody` that belong to one of the things it may hold, which is the first."""


def _alternative(name: str, kind: str, *others: str) -> dict[str, Any]:
    """A body with this field, without those that belong to others."""
    absent = {other: {"type": "null"} for other in others}
    return {"required": [name], "properties": {name: {"type": kind}} | absent}


_ONE_OF_THREE = {
    "anyOf": [
        _alternative("prompt", "string", *FOR_MESSAGES, *FOR_CONTENT),
        _alternative("messages", "array", "prompt", *FOR_CONTENT),
        _alternative("content", "string", "prompt", "add_special_tokens", *FOR_MESSAGES),
    ]
}
DescribedTokenizeBody = Annotated[TokenizeBody, Meta(extra_json_schema=_ONE_OF_THREE)]
"""As the API's description has it: a prompt, messages or content, and what belongs to each."""
