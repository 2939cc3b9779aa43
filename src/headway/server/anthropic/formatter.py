"""Anthropic's messages, whole and as the events of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from headway.llm import ChoiceCollector, Delta
from headway.message import AssistantMessage
from headway.server.anthropic.blocks import BlockWriter, blocks_of
from headway.server.anthropic.objects import (
    AnswerUsage,
    AnthropicAnswer,
    Ending,
    MessageDeltaEvent,
    MessageStartEvent,
    MessageStopEvent,
    MessageUsage,
    PingEvent,
    StopReason,
    StreamEvent,
    anthropic_error,
)
from headway.server.errors import detail_of, status_of
from headway.server.formatter import UsageCounter
from headway.server.openai.conversation import Conversation
from headway.types import ServiceClass

STOP_REASONS: dict[str | None, StopReason] = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
}
TIERS: dict[ServiceClass, Literal["standard", "priority", "batch"]] = {
    "interactive": "priority",
    "standard": "standard",
    "batch": "batch",
}

_encoder = msgspec.json.Encoder()


class MessagesFormatter:
    """Writes Anthropic's messages; see `headway.server.formatter.Formatter`."""

    def __init__(self, conversation: Conversation, *, shows_thinking: bool = True) -> None:
        generation = conversation.generation
        self.usage = UsageCounter(generation)
        self._shows_thinking = shows_thinking
        self._answer_id = generation.id
        self._model = conversation.model
        self._tier = TIERS[generation.requests[0].service_class]
        self._reader = conversation.reader()
        self._blocks = BlockWriter(generation.id)
        self._begun = False

    def events(self, delta: Delta) -> bytes:
        events: list[StreamEvent] = []
        if not self._begun:
            self._begun = True
            # What is generated is told at the end.
            events += [MessageStartEvent(message=self._answer(output_tokens=0)), PingEvent()]
        for part in self._reader.read(delta):
            shown = part if self._shows_thinking else replace(part, reasoning="")
            events += self._blocks.write(shown)
        if delta.finish_reason is not None:
            events += self._blocks.close()
            ending = _ending(self._reader.finish_reason(delta), delta.stop_reason)
            events.append(MessageDeltaEvent(delta=ending, usage=self._usage()))
        return _encoded(events)

    def end(self) -> bytes:
        return _encoded((MessageStopEvent(),))

    def error(self, error: Exception) -> bytes:
        return _encoded((anthropic_error(detail_of(error), status_of(error), ""),))

    def body(self, choices: Sequence[ChoiceCollector]) -> bytes:
        message, finish = self._reader.whole(choices[0])
        if not self._shows_thinking:
            message = AssistantMessage(content=message.content, tool_calls=message.tool_calls)
        answer = self._answer(output_tokens=self.usage.completion_tokens)
        answer.content = blocks_of(message, self._answer_id)
        ending = _ending(finish, choices[0].stop_reason)
        answer.stop_reason, answer.stop_sequence = ending.stop_reason, ending.stop_sequence
        return _encoder.encode(answer)

    def _answer(self, *, output_tokens: int) -> AnthropicAnswer:
        used = self._usage()
        return AnthropicAnswer(
            id=self._answer_id,
            model=self._model,
            content=[],
            usage=AnswerUsage(
                input_tokens=used.input_tokens,
                cache_read_input_tokens=used.cache_read_input_tokens,
                output_tokens=output_tokens,
                service_tier=self._tier,
            ),
        )

    def _usage(self) -> MessageUsage:
        return MessageUsage(
            input_tokens=self.usage.prompt_tokens - self.usage.cached_tokens,
            cache_read_input_tokens=self.usage.cached_tokens,
            output_tokens=self.usage.completion_tokens,
        )


def _ending(finish: str | None, stop: int | str | None) -> Ending:
    """Why an answer ended; a stop token is the end of a turn, as the model's own end is."""
    if finish == "stop" and isinstance(stop, str):
        return Ending(stop_reason="stop_sequence", stop_sequence=stop)
    return Ending(stop_reason=STOP_REASONS.get(finish, "end_turn"), stop_sequence=None)


def _encoded(events: Iterable[StreamEvent]) -> bytes:
    return b"".join(map(_event, events))


def _event(event: StreamEvent) -> bytes:
    name = str(event.__struct_config__.tag).encode()
    return b"event: %b\ndata: %b\n\n" % (name, _encoder.encode(event))
