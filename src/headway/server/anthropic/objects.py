"""What Anthropic's clients are answered, as types: messages, the events of streams, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headway.server.errors import ErrorDetail, ErrorForm

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="text"):
    text: str
    citations: None = None


class ThinkingBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class ToolUseBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


AnswerBlock = TextBlock | ThinkingBlock | ToolUseBlock


class MessageUsage(msgspec.Struct, kw_only=True):
    """Tokens so far. Those of the prompt are `input_tokens` and what was read from the cache."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


class AnswerUsage(MessageUsage, kw_only=True):
    service_tier: Literal["standard", "priority", "batch"]


class AnthropicAnswer(msgspec.Struct, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: Sequence[AnswerBlock]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None
    usage: AnswerUsage


class TokensCount(msgspec.Struct, kw_only=True):
    input_tokens: int


class _Event(msgspec.Struct, kw_only=True, tag_field="type"):
    """An event of a stream; its type is the event's name, too."""


class MessageStartEvent(_Event, kw_only=True, tag="message_start"):
    message: AnthropicAnswer


class PingEvent(_Event, kw_only=True, tag="ping"):
    pass


class ContentBlockStartEvent(_Event, kw_only=True, tag="content_block_start"):
    index: int
    content_block: AnswerBlock


class TextPiece(msgspec.Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingPiece(msgspec.Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignaturePiece(msgspec.Struct, tag_field="type", tag="signature_delta"):
    signature: str


class InputPiece(msgspec.Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


class ContentBlockDeltaEvent(_Event, kw_only=True, tag="content_block_delta"):
    index: int
    delta: TextPiece | ThinkingPiece | SignaturePiece | InputPiece


class ContentBlockStopEvent(_Event, kw_only=True, tag="content_block_stop"):
    index: int


class Ending(msgspec.Struct, kw_only=True):
    stop_reason: StopReason
    stop_sequence: str | None
    stop_details: None = None


class MessageDeltaEvent(_Event, kw_only=True, tag="message_delta"):
    delta: Ending
    usage: MessageUsage


class MessageStopEvent(_Event, kw_only=True, tag="message_stop"):
    pass


class AnthropicErrorDetail(msgspec.Struct, kw_only=True):
    type: str
    message: str


class AnthropicError(_Event, kw_only=True, tag="error"):
    """An answer that is an error, or the last event of a stream that cannot go on."""

    error: AnthropicErrorDetail
    request_id: str | None = None


StreamEvent = (
    MessageStartEvent
    | PingEvent
    | ContentBlockStartEvent
    | ContentBlockDeltaEvent
    | ContentBlockStopEvent
    | MessageDeltaEvent
    | MessageStopEvent
    | AnthropicError
)

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_error(detail: ErrorDetail, status: int, request_id: str) -> AnthropicError:
    """An error in Anthropic's shape; `request_id` is empty where nobody knows it."""
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    found = AnthropicErrorDetail(type=kind, message=detail.message)
    return AnthropicError(error=found, request_id=request_id or None)


ANTHROPIC_FORM = ErrorForm(body=AnthropicError, write=anthropic_error, id_header=b"request-id")
