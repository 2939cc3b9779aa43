"""`POST /tokenize` and `/detokenize`: text to token ids and back, without generating."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.server.body import read_body
from headway.server.house import House
from headway.server.prompts import encode, render
from headway.server.replies import json_response
from headway.server.schema import DetokenizeBody, TokenizeBody

MANY = 4096
"""So many tokens are decoded off the event loop."""


class Tokenized(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(msgspec.Struct, frozen=True):
    prompt: str


async def tokenize(request: Request) -> Response:
    house: House = request.app.state.house
    body = await read_body(request, TokenizeBody, max_bytes=house.config.max_body_bytes)
    house.check_model(body.model)
    backend = house.backend
    text, special = _text(house, body)
    field = "messages" if body.prompt is None else "prompt"
    tokens = await encode(backend, text, special=special, keep=None, field=field)
    strings = None
    if body.return_token_strs:
        strings = [backend.tokenizer.token_text(token) for token in tokens]
    return json_response(
        Tokenized(
            count=len(tokens),
            max_model_len=backend.max_model_len,
            tokens=tokens,
            token_strs=strings,
        )
    )


async def detokenize(request: Request) -> Response:
    house: House = request.app.state.house
    body = await read_body(request, DetokenizeBody, max_bytes=house.config.max_body_bytes)
    house.check_model(body.model)
    tokenizer = house.backend.tokenizer
    unknown = next((token for token in body.tokens if token >= tokenizer.vocab_size), None)
    if unknown is not None:
        raise InvalidRequest(f"tokens: {unknown} is outside the vocabulary", field="tokens")
    if len(body.tokens) < MANY:
        text = tokenizer.decode(body.tokens, skip_special_tokens=False)
    else:
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special_tokens=False)
    return json_response(Detokenized(text))


def _text(house: House, body: TokenizeBody) -> tuple[str, bool]:
    """What to tokenize, and whether the model's special tokens are added."""
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("give either prompt or messages", field="prompt")
    if body.messages is not None:
        text = render(
            house.backend,
            body.messages,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            variables=body.chat_template_kwargs,
        )
        return text, bool(body.add_special_tokens)
    for name in ("add_generation_prompt", "continue_final_message", "chat_template_kwargs"):
        if getattr(body, name) is not None:
            raise InvalidRequest(f"{name} needs messages", field=name)
    return body.prompt or "", body.add_special_tokens is not False
