"""`POST /completion`: llama.cpp's own form of completions."""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.types import Send

from headway.server.admission import ServerState
from headway.server.body import read_body
from headway.server.llamacpp.formatter import LlamaCompletionFormatter
from headway.server.llamacpp.schema import LlamaCompletionBody
from headway.server.llamacpp.translate import (
    COMPLETION_NAMES,
    most_tokens,
    sampling_body,
    split_llama_prompts,
)
from headway.server.openai.prompts import Prompts, answer_prompts
from headway.server.openai.sampling import field_aliases, prompt_params


async def llama_completion(request: Request, send: Send) -> None:
    """Continue prompts; see `headway.server.openai.prompts`.

    What the body leaves open is as for chats, whose defaults are llama.cpp's or the model's.
    """
    state: ServerState = request.app.state.server
    body = await read_body(request, LlamaCompletionBody, max_bytes=state.config.max_body_bytes)
    llm, request_id = state.llm, f"llama-{uuid.uuid4().hex}"
    given = split_llama_prompts(body)
    with field_aliases(COMPLETION_NAMES):
        asked = sampling_body(body, llm.tokenizer, salt=request_id)
        params = prompt_params(
            asked,
            state.default_sampling.chat,
            max_tokens=most_tokens(body),
            logprobs=body.n_probs or None,
        )
    await answer_prompts(
        request,
        send,
        asked,
        Prompts(given=given, params=params),
        request_id,
        lambda generation: LlamaCompletionFormatter(generation, body, llm, state.names[0]),
        names=COMPLETION_NAMES,
    )
