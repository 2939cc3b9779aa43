"""`POST /tokenize` and `/detokenize`: text to token ids and back, without generating."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headway.errors import InvalidRequest
from headway.llm import AsyncLLM
from headway.server.admission import ServerState
from headway.server.body import json_response, read_body
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import DetokenizeBody, TokenizeBody, plain_messages

MANY_TOKENS = 4096
"""From so many on, tokens are decoded off the event loop."""


class TokenizeResult(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: Sequence[int]
    token_strs: list[str] | None = None


class DetokenizeResult(msgspec.Struct, frozen=True):
    prompt: str


async def tokenize(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, TokenizeBody, max_bytes=state.config.max_body_bytes)
    state.check_model(body.model)
    llm = state.llm
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("give either prompt or messages", field="prompt")
    with field_aliases({"prompt": "messages"} if body.prompt is None else {}):
        text, special = _text(llm, body)
        prompt = await llm.encode(text, add_special_tokens=special)
    tokens = prompt.token_ids
    strings = None
    if body.return_token_strs:
        strings = [llm.tokenizer.token_text(token) for token in tokens]
    return json_response(
        TokenizeResult(
            count=len(tokens),
            max_model_len=llm.max_model_len,
            tokens=tokens,
            token_strs=strings,
        )
    )


async def detokenize(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, DetokenizeBody, max_bytes=state.config.max_body_bytes)
    state.check_model(body.model)
    tokenizer = state.llm.tokenizer
    unknown = next((token for token in body.tokens if token >= tokenizer.vocab_size), None)
    if unknown is not None:
        raise InvalidRequest(f"tokens: {unknown} is outside the vocabulary", field="tokens")
    if len(body.tokens) < MANY_TOKENS:
        text = tokenizer.decode(body.tokens, skip_special_tokens=False)
    else:
        text = await asyncio.to_thread(tokenizer.decode, body.tokens, skip_special_tokens=False)
    return json_response(DetokenizeResult(text))


def _text(llm: AsyncLLM, body: TokenizeBody) -> tuple[str, bool]:
    """What to tokenize, and whether the model's special tokens are added."""
    if body.messages is not None:
        text = llm.render(
            plain_messages(body.messages),
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=bool(body.continue_final_message),
            variables=body.chat_template_kwargs,
        )
        return text, bool(body.add_special_tokens)
    for name in ("add_generation_prompt", "continue_final_message", "chat_template_kwargs"):
        if getattr(body, name) is not None:
            raise InvalidRequest(f"{name} needs messages", field=name)
    return body.prompt or "", body.add_special_tokens is not False
