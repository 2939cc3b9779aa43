"""`POST /v1/chat/completions`: a conversation in, the next message out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request

from headway.errors import InvalidRequest
from headway.llm import Delta
from headway.server.answer import Answer
from headway.server.backend import Text
from headway.server.body import read_body
from headway.server.events import Events
from headway.server.house import House
from headway.server.job import Choice, Job, Usage
from headway.server.logprobs import ChatLogprobs, PromptLogprob, chat_logprobs, prompt_logprobs
from headway.server.prompts import encode, message_text, render
from headway.server.sampling import chat_params
from headway.server.schema import ChatBody


class AnswerMessage(msgspec.Struct, kw_only=True):
    role: str = "assistant"
    content: str
    refusal: None = None


class ChatChoice(msgspec.Struct, kw_only=True):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: Sequence[int] | UnsetType = UNSET


class ChatCompletion(msgspec.Struct, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | UnsetType = UNSET


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


async def chat_completions(request: Request) -> Answer:
    house: House = request.app.state.house
    house.check_open()
    body = await read_body(request, ChatBody, max_bytes=house.config.max_body_bytes)
    house.check_model(body.model)
    _check_combinations(body)
    params = chat_params(body)
    house.check_count(params.n)
    text = render(
        house.backend,
        body.messages,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        variables=body.chat_template_kwargs,
    )
    tokens = await encode(
        house.backend,
        text,
        special=bool(body.add_special_tokens),
        keep=body.truncate_prompt_tokens,
        field="messages",
    )
    options = body.stream_options
    job = Job(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        prompts=(tokens,),
        params=params,
        priority=body.priority or 0,
        cache_salt=body.cache_salt or "",
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.continuous_usage_stats),
        user=body.user,
    )
    writer = ChatWriter(job, body, house.backend.tokenizer, house.names[0])
    return Answer(house, job, writer, words={"prompt": "messages"})


def _check_combinations(body: ChatBody) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true", field="stream_options")
    if body.stream and body.prompt_logprobs is not None:
        raise InvalidRequest(
            "prompt_logprobs is not available while streaming", field="prompt_logprobs"
        )


class ChatWriter:
    """Writes chat completions; see `headway.server.answer.Writer`."""

    def __init__(self, job: Job, body: ChatBody, text: Text, model: str) -> None:
        last = body.messages[-1]
        self._job = job
        self._text = text
        self._model = model
        self._echoed = message_text(last) if body.echo and last.role == "assistant" else ""
        self._top = (body.top_logprobs or 0) if body.logprobs else None
        self._prompt_logprobs = body.prompt_logprobs
        self._ids = bool(body.return_token_ids)
        self._begun: set[int] = set()
        self._events = Events(
            id=job.id,
            kind="chat.completion.chunk",
            created=job.created,
            model=model,
            counts=job.include_usage,
        )

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        completion = ChatCompletion(
            id=self._job.id,
            created=self._job.created,
            model=self._model,
            choices=[self._choice(choice) for choice in choices],
            usage=usage,
        )
        if self._ids:
            completion.prompt_token_ids = self._job.prompts[0]
        if self._prompt_logprobs is not None:
            completion.prompt_logprobs = prompt_logprobs(
                choices[0].prompt_logprobs, self._text, top=self._prompt_logprobs
            )
        return msgspec.json.encode(completion)

    def piece(self, number: int, delta: Delta, usage: Usage | None) -> bytes:
        data = b""
        if number not in self._begun:
            data = self._opening(number, usage)
        logs = self._top is not None and bool(delta.logprobs)
        if delta.text or logs or (self._ids and delta.token_ids):
            choice = ChatChunkChoice(index=number, delta=MessageDelta(content=delta.text))
            if self._top is not None:
                choice.logprobs = chat_logprobs(delta.logprobs, self._text, top=self._top)
            if self._ids:
                choice.token_ids = delta.token_ids
            data += self._events.choice(choice, usage)
        if delta.finish_reason is not None:
            end = ChatChunkChoice(
                index=number,
                delta=MessageDelta(),
                finish_reason=delta.finish_reason,
                stop_reason=delta.stop_reason,
            )
            data += self._events.choice(end, usage)
        return data

    def closing(self, usage: Usage) -> bytes:
        return self._events.closing(usage)

    def _opening(self, number: int, usage: Usage | None) -> bytes:
        """The event that names the role, with what echo shows."""
        role = ChatChunkChoice(
            index=number, delta=MessageDelta(role="assistant", content=self._echoed)
        )
        first = not self._begun
        self._begun.add(number)
        if self._ids and first:
            return self._events.choice(role, usage, prompt_token_ids=self._job.prompts[0])
        return self._events.choice(role, usage)

    def _choice(self, choice: Choice) -> ChatChoice:
        written = ChatChoice(
            index=choice.number,
            message=AnswerMessage(content=self._echoed + "".join(choice.text)),
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
        )
        if self._top is not None:
            written.logprobs = chat_logprobs(choice.logprobs, self._text, top=self._top)
        if self._ids:
            written.token_ids = choice.token_ids
        return written
