"""The one road of prompts: from texts or token ids to their continuations, whatever the dialect.

A dialect says how to sample, and gives a formatter for the answer; admission, encoding and
generating are the same for all. For messages there is `headway.server.openai.conversation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request
from starlette.types import Send

from headway.llm import AsyncLLM, GenerationRequest, TokensPrompt
from headway.server.admission import RequestHandle, ServerState
from headway.server.callers import owner_of, priority_of, tenant_of
from headway.server.formatter import Formatter
from headway.server.generate import EVENT_STREAM, client_watched, respond
from headway.server.openai.fit import check_length, check_scores, room_for_answer
from headway.server.openai.sampling import check_streaming, field_aliases, renamed
from headway.server.openai.schema import SamplingBody
from headway.server.openai.service import service_of
from headway.server.openai.structured import grammar_field
from headway.types import SamplingParams

MixedPrompt = str | Sequence[int] | Sequence[str | int]
"""A text, token ids, or pieces of either, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What is to be continued, and how."""

    given: Sequence[MixedPrompt]
    params: SamplingParams
    add_special_tokens: bool = True
    """A prompt that begins with a text gets the model's own, such as BOS."""


async def answer_prompts(
    request: Request,
    send: Send,
    body: SamplingBody,
    prompts: Prompts,
    request_id: str,
    new_formatter: Callable[[GenerationRequest], Formatter],
    *,
    names: Mapping[str, str] | None = None,
    stream_type: str = EVENT_STREAM,
) -> None:
    """Continue prompts: admit, encode, generate.

    The parameters of `prompts` are what `body` asks of sampling. Errors name the fields of `body`;
    where the client's own have other names, `names` maps one to the other. `stream_type` is the
    content type of the formatter's events.
    """
    state: ServerState = request.app.state.server
    own = names or {}
    with field_aliases(own):
        state.check_model(body.model)
        check_streaming(body)
        priority = priority_of(request.scope, state.config, body.priority)
    with state.admit(request_id, len(prompts.given) * prompts.params.n) as handle:
        with field_aliases(own):
            generation = await _prepare(request, handle, body, prompts, priority)
        formatter = new_formatter(generation)
        # A grammar may outgrow its limits only while an answer is generated.
        grammar = {"structured_outputs": grammar_field(body)}
        await respond(
            request,
            send,
            handle,
            generation,
            formatter,
            stream=stream_type if body.stream else None,
            user=body.user,
            as_told=lambda error: renamed(error, grammar, own),
        )


async def _prepare(
    request: Request, handle: RequestHandle, body: SamplingBody, prompts: Prompts, priority: int
) -> GenerationRequest:
    """What the engine is asked for; raises `InvalidRequest` or its kin with the field to mend."""
    state: ServerState = request.app.state.server
    llm = state.llm
    service = service_of(request.scope, state, body)
    aliases = {"structured_outputs": grammar_field(body)}
    with field_aliases(aliases), client_watched(request, handle):
        await llm.check(prompts.params, tenant=tenant_of(request.scope))
        encoded = await _encode(prompts, body, llm)
    generation = llm.resolve(
        *encoded,
        params=prompts.params,
        request_id=handle.id,
        priority=priority,
        owner=owner_of(request.scope, handle.id, body.user),
        cache_salt=body.cache_salt or "",
        objectives=service.objectives,
        service_class=service.service_class,
    )
    check_length(generation, llm, asked="max_tokens" if body.max_tokens else None)
    scoring = "logprobs" if body.prompt_logprobs is None else "prompt_logprobs"
    check_scores(generation, asked=scoring)
    return generation


async def _encode(prompts: Prompts, body: SamplingBody, llm: AsyncLLM) -> list[TokensPrompt]:
    special = prompts.add_special_tokens
    truncate_to = room_for_answer(body.truncate_prompt_tokens, body.max_tokens, llm)
    return [
        await _joined(prompt, llm, add_special_tokens=special)
        if _is_mixed(prompt)
        else await llm.encode(
            cast(str | Sequence[int], prompt),
            add_special_tokens=special,
            truncate_to=truncate_to,
            keep_first=body.truncation_side == "right",
        )
        for prompt in prompts.given
    ]


def _is_mixed(prompt: MixedPrompt) -> bool:
    return not isinstance(prompt, str) and str in set(map(type, prompt))


async def _joined(prompt: MixedPrompt, llm: AsyncLLM, *, add_special_tokens: bool) -> TokensPrompt:
    """The tokens of all pieces; more than surely fit are not looked for."""
    tokens: list[int] = []
    for place, piece in enumerate(prompt):
        if len(tokens) >= llm.max_model_len:
            break
        if isinstance(piece, int):
            tokens.append(piece)
        else:
            special = add_special_tokens and place == 0
            tokens += (await llm.encode(piece, add_special_tokens=special)).token_ids
    return TokensPrompt(token_ids=tuple(tokens))
