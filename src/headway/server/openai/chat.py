"""`POST /v1/chat/completions`: a conversation in, the next message out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.types import Send

from headway.llm import ChoiceCollector, Delta, GenerationRequest, message_text
from headway.server.admission import ServerState
from headway.server.body import read_body
from headway.server.callers import owner_of, priority_of
from headway.server.formatter import UsageCounter
from headway.server.generate import client_watched, respond
from headway.server.openai.fit import (
    check_length,
    check_messages,
    check_scores,
    room_for_answer,
)
from headway.server.openai.logprobs import (
    ChatLogprobs,
    PromptLogprob,
    chat_logprobs,
    prompt_logprobs,
    token_names,
)
from headway.server.openai.sampling import (
    chat_params,
    check_streaming,
    field_aliases,
    length_field,
)
from headway.server.openai.schema import ChatBody, plain_messages
from headway.server.openai.service import answered_tier, service_of
from headway.server.openai.sse import EventEncoder, Usage, usage_of
from headway.server.openai.structured import grammar_field
from headway.text import Tokenizer
from headway.types import TokenLogprobs


class ChatMessage(msgspec.Struct, kw_only=True):
    role: str = "assistant"
    content: str
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    reasoning: None = None


class ChatChoice(msgspec.Struct, kw_only=True):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: Sequence[int] | None = None


class ChatCompletion(msgspec.Struct, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: str | None = None
    system_fingerprint: None = None
    prompt_token_ids: Sequence[int] | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


class MessageDelta(msgspec.Struct, kw_only=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: Sequence[int] | UnsetType = UNSET


async def chat_completions(request: Request, send: Send) -> None:
    """Answer a conversation: admit, render and encode, generate."""
    state: ServerState = request.app.state.server
    body = await read_body(request, ChatBody, max_bytes=state.config.max_body_bytes)
    state.check_model(body.model)
    check_streaming(body)
    params = chat_params(body, state.default_sampling.chat)
    priority = priority_of(request.scope, state.config, body.priority)
    with state.admit(f"chatcmpl-{uuid.uuid4().hex}", params.n) as handle:
        llm = state.llm
        service = service_of(request.scope, state, body)
        check_messages(body.messages, llm)
        aliases = {"prompt": "messages", "structured_outputs": grammar_field(body)}
        with field_aliases(aliases), client_watched(request, handle):
            await llm.check(params)
            text = await llm.render(
                plain_messages(body.messages),
                add_generation_prompt=body.add_generation_prompt,
                continue_final_message=bool(body.continue_final_message),
                variables=body.chat_template_kwargs,
            )
            prompt = await llm.encode(
                text,
                add_special_tokens=bool(body.add_special_tokens),
                truncate_to=room_for_answer(body.truncate_prompt_tokens, params.max_tokens, llm),
            )
            generation = llm.resolve(
                prompt,
                params=params,
                request_id=handle.id,
                priority=priority,
                owner=owner_of(request.scope, handle.id, body.user),
                cache_salt=body.cache_salt or "",
                objectives=service.objectives,
                service_class=service.service_class,
            )
        check_length(generation, llm, asked=length_field(body))
        check_scores(generation, asked="prompt_logprobs")
        formatter = ChatFormatter(generation, body, llm.tokenizer, state.names[0])
        await respond(
            request,
            send,
            handle,
            generation,
            formatter,
            stream=bool(body.stream),
            user=body.user,
        )


class ChatFormatter:
    """Writes chat completions; see `headway.server.formatter.Formatter`."""

    def __init__(
        self, generation: GenerationRequest, body: ChatBody, tokenizer: Tokenizer, model: str
    ) -> None:
        last = body.messages[-1]
        self.usage = UsageCounter(generation)
        self._id = generation.id
        self._created = int(time.time())
        self._model = model
        self._tokenizer = tokenizer
        self._echo = ""
        if body.echo and last.role == "assistant":
            self._echo = message_text(plain_messages([last])[0]["content"])
        self._name = token_names(self._tokenizer, as_ids=bool(body.return_tokens_as_token_ids))
        self._top = (body.top_logprobs or 0) if body.logprobs else None
        self._prompt_top = body.prompt_logprobs
        self._prompt_ids = generation.prompts[0].token_ids if body.return_token_ids else None
        self._tier = answered_tier(body, generation)
        self._begun: set[int] = set()
        self._events = EventEncoder(
            self.usage,
            body.stream_options,
            id=self._id,
            kind="chat.completion.chunk",
            created=self._created,
            model=model,
            tier=self._tier,
        )

    def events(self, delta: Delta) -> bytes:
        data = b""
        if delta.index not in self._begun:
            data = self._opening(delta)
        scored = self._top is not None and delta.logprobs
        if delta.text or scored or (self._prompt_ids is not None and delta.token_ids):
            choice = ChatChunkChoice(index=delta.index, delta=MessageDelta(content=delta.text))
            if self._top is not None:
                choice.logprobs = self._logprobs(delta.logprobs)
            if self._prompt_ids is not None:
                choice.token_ids = delta.token_ids
            data += self._events.choice(choice)
        if delta.finish_reason is not None:
            last = ChatChunkChoice(
                index=delta.index,
                delta=MessageDelta(),
                finish_reason=delta.finish_reason,
                stop_reason=delta.stop_reason,
            )
            data += self._events.choice(last)
        return data

    def end(self) -> bytes:
        return self._events.end()

    def error(self, error: Exception) -> bytes:
        return self._events.error(error)

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        completion = ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
            usage=usage_of(self.usage),
        )
        if self._tier is not None:
            completion.service_tier = self._tier
        if self._prompt_ids is not None:
            completion.prompt_token_ids = self._prompt_ids
        if self._prompt_top is not None:
            completion.prompt_logprobs = prompt_logprobs(
                choices[0].prompt_logprobs, self._tokenizer, top=self._prompt_top
            )
        return msgspec.json.encode(completion)

    def _opening(self, delta: Delta) -> bytes:
        """The event that names the role, with what echo shows, and comes before any token."""
        role = ChatChunkChoice(
            index=delta.index, delta=MessageDelta(role="assistant", content=self._echo)
        )
        prompt_ids = None if self._begun else self._prompt_ids
        self._begun.add(delta.index)
        return self._events.choice(role, prompt_token_ids=prompt_ids, without=len(delta.token_ids))

    def _logprobs(self, positions: Sequence[TokenLogprobs]) -> ChatLogprobs:
        return chat_logprobs(positions, self._tokenizer, top=self._top or 0, name=self._name)

    def _choice(self, index: int, choice: ChoiceCollector) -> ChatChoice:
        written = ChatChoice(
            index=index,
            message=ChatMessage(content=self._echo + choice.text),
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
        )
        if self._top is not None:
            written.logprobs = self._logprobs(choice.logprobs)
        if self._prompt_ids is not None:
            written.token_ids = choice.token_ids
        return written
