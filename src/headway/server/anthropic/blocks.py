"""The parts of an assistant's message as Anthropic's content blocks: whole, and event by event."""

from __future__ import annotations

from collections.abc import Iterator

from headway.message import AssistantMessage, MessageDelta, ToolCallDelta
from headway.server.anthropic.objects import (
    AnswerBlock,
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    ContentBlockStopEvent,
    InputPiece,
    SignaturePiece,
    StreamEvent,
    TextBlock,
    TextPiece,
    ThinkingBlock,
    ThinkingPiece,
    ToolUseBlock,
)
from headway.server.anthropic.unfinished import finished_part


def blocks_of(message: AssistantMessage, signature: str) -> list[AnswerBlock]:
    """A whole answer: its thinking, with this signature, its text, and its calls."""
    blocks: list[AnswerBlock] = []
    if message.reasoning:
        blocks.append(ThinkingBlock(thinking=message.reasoning, signature=signature))
    if message.content:
        blocks.append(TextBlock(text=message.content))
    for call in message.tool_calls:
        given = finished_part(call.arguments)
        blocks.append(ToolUseBlock(id=call.id, name=call.name, input=given))
    return blocks


class BlockWriter:
    """Writes a message's parts as they come, as events of one block after the other."""

    def __init__(self, signature: str) -> None:
        """`signature` is that of thinking: some clients ask that there be one."""
        self._signature = signature
        self._index = -1
        self._open: type[AnswerBlock] | None = None

    def write(self, part: MessageDelta) -> Iterator[StreamEvent]:
        """The events of this part."""
        if part.reasoning:
            yield from self._begin(ThinkingBlock(thinking="", signature=""))
            yield self._piece(ThinkingPiece(part.reasoning))
        if part.content:
            yield from self._begin(TextBlock(text=""))
            yield self._piece(TextPiece(part.content))
        for call in part.tool_calls:
            yield from self._call(call)

    def close(self) -> Iterator[StreamEvent]:
        """The events that end the open block, if there is one."""
        if self._open is ThinkingBlock:
            yield self._piece(SignaturePiece(self._signature))
        if self._open is not None:
            yield ContentBlockStopEvent(index=self._index)
        self._open = None

    def _call(self, call: ToolCallDelta) -> Iterator[StreamEvent]:
        if call.name is not None:
            yield from self.close()
            yield from self._begin(ToolUseBlock(id=call.id or "", name=call.name, input={}))
        if call.arguments:
            yield self._piece(InputPiece(call.arguments))

    def _begin(self, block: AnswerBlock) -> Iterator[StreamEvent]:
        """Open a block, unless one of its kind is open: each call has its own."""
        if self._open is not type(block):
            yield from self.close()
            self._index += 1
            self._open = type(block)
            yield ContentBlockStartEvent(index=self._index, content_block=block)

    def _piece(
        self, piece: TextPiece | ThinkingPiece | SignaturePiece | InputPiece
    ) -> ContentBlockDeltaEvent:
        return ContentBlockDeltaEvent(index=self._index, delta=piece)
