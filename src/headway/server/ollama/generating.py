"""`POST /api/chat` and `POST /api/generate`: streams by default, one JSON object a line.

A body without anything to answer asks whether the model is there: Ollama loads it then.
"""

from __future__ import annotations

import uuid
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from headway.llm import GenerationRequest, MessageReader
from headway.message import PlainMessageParser
from headway.server.admission import ServerState
from headway.server.body import read_body
from headway.server.ollama.formatter import (
    NDJSON,
    OllamaFormatter,
    Writer,
    chat_reply,
    generate_reply,
)
from headway.server.ollama.schema import OllamaBody, OllamaChatBody, OllamaGenerateBody
from headway.server.ollama.translate import (
    GENERATE_NAMES,
    OLLAMA_NAMES,
    chat_body,
    generate_body,
    raw_body,
    served_name,
    wants_raw,
)
from headway.server.openai.conversation import Conversation, answer_conversation
from headway.server.openai.prompts import Prompts, answer_prompts
from headway.server.openai.sampling import field_aliases, prompt_params


async def ollama_chat(request: Request, send: Send) -> None:
    """Answer a conversation; see `headway.server.openai.conversation`."""
    state: ServerState = request.app.state.server
    body = await read_body(
        request, OllamaChatBody, max_bytes=state.config.max_body_bytes, typed=False
    )
    model = served_name(state, body.model)
    if not body.messages:
        await _loaded(request, send, body, chat_reply)
        return
    await answer_conversation(
        request,
        send,
        chat_body(body, state.llm, model),
        _new_id(),
        partial(_of_conversation, chat_reply, body.model),
        names=OLLAMA_NAMES,
        stream_type=NDJSON,
    )


async def ollama_generate(request: Request, send: Send) -> None:
    """Answer a prompt, as the only turn of a conversation, or continue it as it is."""
    state: ServerState = request.app.state.server
    body = await read_body(
        request, OllamaGenerateBody, max_bytes=state.config.max_body_bytes, typed=False
    )
    model = served_name(state, body.model)
    if not body.prompt:
        await _loaded(request, send, body, generate_reply)
    elif wants_raw(body, state.llm):
        await _continue(request, send, body, model)
    else:
        await answer_conversation(
            request,
            send,
            generate_body(body, state.llm, model),
            _new_id(),
            partial(_of_conversation, generate_reply, body.model),
            names=GENERATE_NAMES,
            stream_type=NDJSON,
        )


async def _continue(request: Request, send: Send, body: OllamaGenerateBody, model: str) -> None:
    state: ServerState = request.app.state.server
    llm = state.llm
    asked = raw_body(body, llm, model)
    with field_aliases(GENERATE_NAMES):
        params = prompt_params(
            asked,
            state.default_sampling.chat,
            max_tokens=asked.max_tokens,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        )

    def new_formatter(generation: GenerationRequest) -> OllamaFormatter:
        reader = MessageReader(PlainMessageParser)
        return OllamaFormatter(generation, reader, llm.tokenizer, generate_reply, model=body.model)

    await answer_prompts(
        request,
        send,
        asked,
        Prompts(given=[body.prompt or ""], params=params),
        _new_id(),
        new_formatter,
        names=GENERATE_NAMES,
        stream_type=NDJSON,
    )


def _of_conversation(write: Writer, model: str, conversation: Conversation) -> OllamaFormatter:
    return OllamaFormatter(
        conversation.generation,
        conversation.reader(),
        conversation.llm.tokenizer,
        write,
        model=model,
    )


async def _loaded(request: Request, send: Send, body: OllamaBody, write: Writer) -> None:
    """Say that the model is there; nothing is unloaded, whatever `keep_alive` says."""
    reply = write(body.model, "", "", ())
    reply.done, reply.done_reason = True, "load"
    end, kind = (b"", "application/json") if body.stream is False else (b"\n", NDJSON)
    response = Response(msgspec.json.encode(reply) + end, media_type=kind)
    await response(request.scope, request.receive, send)


def _new_id() -> str:
    return f"ollama-{uuid.uuid4().hex}"
