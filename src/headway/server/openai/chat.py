"""`POST /v1/chat/completions`: a conversation in, the next message out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from starlette.requests import Request
from starlette.types import Send

from headway.llm import TOOL_CALLS, ChoiceCollector, Delta, message_text
from headway.message import AssistantMessage, MessageDelta, ToolCallDelta
from headway.server.admission import ServerState
from headway.server.body import read_body
from headway.server.formatter import UsageCounter
from headway.server.openai.conversation import Conversation, answer_conversation
from headway.server.openai.logprobs import (
    ChatLogprobs,
    PromptLogprob,
    chat_logprobs,
    prompt_logprobs,
    shown_alternatives,
    token_names,
)
from headway.server.openai.schema import ChatBody, plain_messages
from headway.server.openai.service import answered_tier
from headway.server.openai.sse import PLACE, EventEncoder, Pattern, Usage, usage_of
from headway.server.openai.tools import NamedChoice
from headway.server.timing import LlamaTimings, TimedUsage, timings_of
from headway.types import TokenLogprobs

Part = TypeVar("Part", AssistantMessage, MessageDelta)


class CalledFunction(msgspec.Struct, kw_only=True):
    name: str
    arguments: str


class ChatToolCall(msgspec.Struct, kw_only=True):
    id: str
    type: str = "function"
    function: CalledFunction


class ChatMessage(msgspec.Struct, kw_only=True):
    role: str = "assistant"
    content: str | None
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: list[ChatToolCall] | UnsetType = UNSET
    reasoning: str | None = None
    reasoning_content: str | UnsetType = UNSET


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
    system_fingerprint: str | None = None
    prompt_token_ids: Sequence[int] | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None
    timings: LlamaTimings | UnsetType = UNSET
    """Of the first choice, on request."""


class FunctionDelta(msgspec.Struct, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class ChatToolCallDelta(msgspec.Struct, kw_only=True):
    index: int
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionDelta


class ChatDelta(msgspec.Struct, kw_only=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: Sequence[int] | UnsetType = UNSET


async def chat_completions(request: Request, send: Send) -> None:
    """Answer a conversation; see `headway.server.openai.conversation`."""
    state: ServerState = request.app.state.server
    body = await read_body(request, ChatBody, max_bytes=state.config.max_body_bytes)
    request_id = f"chatcmpl-{uuid.uuid4().hex}"
    await answer_conversation(request, send, body, request_id, ChatFormatter)


class ChatFormatter:
    """Writes chat completions; see `headway.server.formatter.Formatter`."""

    def __init__(self, conversation: Conversation) -> None:
        generation, body = conversation.generation, conversation.body
        last = body.messages[-1]
        self._times = TimedUsage(generation) if body.timings_per_token else None
        self.usage = self._times or UsageCounter(generation)
        self._id = generation.id
        self._created = int(time.time())
        self._model = conversation.model
        self._tokenizer = conversation.llm.tokenizer
        self._echo = ""
        if body.echo and last.role == "assistant":
            self._echo = message_text(plain_messages([last])[0]["content"])
        self._name = token_names(self._tokenizer, as_ids=bool(body.return_tokens_as_token_ids))
        self._top = shown_alternatives(body, body.top_logprobs or 0) if body.logprobs else None
        self._prompt_top = body.prompt_logprobs
        self._prompt_ids = generation.prompts[0].token_ids if body.return_token_ids else None
        self._tier = answered_tier(body, generation)
        self._fingerprint = conversation.llm.fingerprint
        self._patterns: dict[int, Pattern] = {}
        """Of the events of each continuation that has begun: they bring a piece of content."""
        self._reader = conversation.reader()
        self._plain = self._top is None and self._prompt_ids is None and self._times is None
        """Nothing but text is told of a token."""
        self._reasons = body.include_reasoning is not False
        self._named = isinstance(body.tool_choice, NamedChoice)
        self._events = EventEncoder(
            self.usage,
            body.stream_options,
            id=self._id,
            kind="chat.completion.chunk",
            created=self._created,
            model=self._model,
            tier=self._tier,
            fingerprint=self._fingerprint,
        )

    def events(self, delta: Delta) -> bytes:
        pattern = self._patterns.get(delta.index)
        if self._plain and delta.finish_reason is None and self._reader.is_plain(delta.index):
            return self._events.text(pattern, delta.text) if pattern and delta.text else b""
        data = self._opening(delta) if pattern is None else b""
        parts = self._reader.read(delta)
        if not self._reasons:
            parts = [shown for part in parts if (shown := _without_reasoning(part))]
        scored = self._top is not None and delta.logprobs
        if not parts and (scored or (self._prompt_ids is not None and delta.token_ids)):
            parts = [MessageDelta()]
        for number, part in enumerate(parts):
            if self._plain and not (part.reasoning or part.tool_calls):
                data += self._events.text(self._patterns[delta.index], part.content)
                continue
            choice = ChatChunkChoice(index=delta.index, delta=_written_delta(part))
            if number == 0 and self._top is not None:
                choice.logprobs = self._logprobs(delta.logprobs)
            if number == 0 and self._prompt_ids is not None:
                choice.token_ids = delta.token_ids
            data += self._events.choice(choice, timings=self._timings(delta.index))
        if delta.finish_reason is not None:
            last = ChatChunkChoice(
                index=delta.index,
                delta=ChatDelta(),
                finish_reason=self._finish(self._reader.finish_reason(delta)),
                stop_reason=delta.stop_reason,
            )
            data += self._events.choice(last, timings=self._timings(delta.index))
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
            system_fingerprint=self._fingerprint,
        )
        if (timings := self._timings(0)) is not None:
            completion.timings = timings
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
            index=delta.index, delta=ChatDelta(role="assistant", content=self._echo)
        )
        prompt_ids = None if self._patterns else self._prompt_ids
        content = ChatChunkChoice(index=delta.index, delta=ChatDelta(content=PLACE))
        self._patterns[delta.index] = self._events.pattern(content)
        return self._events.choice(role, prompt_token_ids=prompt_ids, without=len(delta.token_ids))

    def _timings(self, index: int) -> LlamaTimings | None:
        """Of a continuation of which something has come, where that is asked for."""
        return None if self._times is None else timings_of(self._times.choices[index])

    def _logprobs(self, positions: Sequence[TokenLogprobs]) -> ChatLogprobs:
        return chat_logprobs(positions, self._tokenizer, top=self._top or 0, name=self._name)

    def _finish(self, reason: str | None) -> str | None:
        """OpenAI and vLLM say "stop" where the client itself chose which tool is called."""
        return "stop" if self._named and reason == TOOL_CALLS else reason

    def _choice(self, index: int, choice: ChoiceCollector) -> ChatChoice:
        message, reason = self._reader.whole(choice)
        if not self._reasons:
            message = _without_reasoning(message)
        written = ChatChoice(
            index=index,
            message=_written_message(message, self._echo),
            finish_reason=self._finish(reason),
            stop_reason=choice.stop_reason,
        )
        if self._top is not None:
            written.logprobs = self._logprobs(choice.logprobs)
        if self._prompt_ids is not None:
            written.token_ids = choice.token_ids
        return written


def _without_reasoning(part: Part) -> Part:
    return replace(part, reasoning="")


def _written_message(message: AssistantMessage, echo: str) -> ChatMessage:
    """Content is null where there are calls and nothing else, as in OpenAI's answers."""
    content = echo + message.content
    written = ChatMessage(content=content if content or not message.tool_calls else None)
    if message.reasoning:
        written.reasoning = written.reasoning_content = message.reasoning
    if message.tool_calls:
        written.tool_calls = [
            ChatToolCall(
                id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments)
            )
            for call in message.tool_calls
        ]
    return written


def _written_delta(part: MessageDelta) -> ChatDelta:
    delta = ChatDelta()
    if part.content or not part:
        delta.content = part.content
    if part.reasoning:
        delta.reasoning = delta.reasoning_content = part.reasoning
    if part.tool_calls:
        delta.tool_calls = [_written_call(call) for call in part.tool_calls]
    return delta


def _written_call(call: ToolCallDelta) -> ChatToolCallDelta:
    """The first delta of a call names it, and has its type."""
    written = ChatToolCallDelta(index=call.index, function=FunctionDelta(arguments=call.arguments))
    if call.id is not None:
        written.id, written.type = call.id, "function"
    if call.name is not None:
        written.function.name = call.name
    return written
