"""Anthropic's turns as the messages of a chat, and where each came from, for errors.

A turn of a user holds results of calls and texts, which are messages of their own in a chat; turns
of one role that follow each other are one turn, as Anthropic has it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from headway.errors import InvalidRequest
from headway.server.anthropic.schema import (
    AnthropicAssistantTurn,
    AnthropicConversation,
    AnthropicSystemTurn,
    AnthropicText,
    AnthropicThinking,
    AnthropicToolResult,
    AnthropicToolUse,
    AssistantBlock,
    UserBlock,
)

BILLING = "x-anthropic-billing-header"
"""Begins a block that tools put before the system's text for Anthropic's accounts. It differs from
request to request, so that no prefix would be shared, and is not meant for the model."""

Placed = tuple[str, UserBlock | AssistantBlock]
"""A block and its field, such as `messages.2.content.0`."""


@dataclass(slots=True, kw_only=True)
class ChatTurn:
    """One message of a chat, in OpenAI's form."""

    message: dict[str, Any]
    own: str
    """The field that it was made from."""
    calls: list[str] = field(default_factory=list)
    """Those of its calls."""


def chat_turns(body: AnthropicConversation) -> list[ChatTurn]:
    """The conversation as messages of a chat, the system's first."""
    turns: list[ChatTurn] = []
    if body.system is not None:
        blocks = [each for each in _placed("system", body.system) if not _is_billing(each)]
        turns += [_turn("system", blocks, "system")] if blocks else []
    for kind, group in groupby(enumerate(body.messages), key=lambda each: type(each[1])):
        fields = [(f"messages.{number}.content", turn.content) for number, turn in group]
        blocks = [placed for where, content in fields for placed in _placed(where, content)]
        if kind is AnthropicAssistantTurn:
            turns.append(_assistant(blocks, fields[0][0]))
        elif kind is AnthropicSystemTurn:
            turns.append(_turn("system", blocks, fields[0][0]))
        else:
            turns.extend(_user(blocks, fields[0][0]))
    return turns


def continues(body: AnthropicConversation) -> bool:
    """Whether the last turn is the assistant's, which the answer goes on with.

    Raises `InvalidRequest` where it has more than texts.
    """
    last = body.messages[-1]
    if not isinstance(last, AnthropicAssistantTurn):
        return False
    for where, block in _placed(f"messages.{len(body.messages) - 1}.content", last.content):
        if not isinstance(block, AnthropicText):
            kind = block.__struct_config__.tag
            raise InvalidRequest(
                f"{where}: the answer goes on with a last assistant message, which may hold text "
                f"alone, and no {kind}; after tool_use, send a user message with its tool_result",
                field=where,
            )
    return True


def _placed(where: str, content: str | Sequence[Any]) -> list[Placed]:
    if isinstance(content, str):
        return [(where, AnthropicText(text=content))]
    return [(f"{where}.{number}", block) for number, block in enumerate(content)]


def _is_billing(placed: Placed) -> bool:
    _, block = placed
    return isinstance(block, AnthropicText) and block.text.startswith(BILLING)


def _turn(role: str, blocks: Sequence[Placed], where: str) -> ChatTurn:
    """A message of these blocks' texts; `where` is its field if it has no block."""
    texts = [block.text for _, block in blocks if isinstance(block, AnthropicText)]
    content: object = texts[0] if texts else ""
    if len(texts) > 1:
        content = [{"type": "text", "text": text} for text in texts]
    own = blocks[0][0] if blocks else where
    return ChatTurn(message={"role": role, "content": content}, own=own)


def _user(blocks: Sequence[Placed], where: str) -> Iterator[ChatTurn]:
    """Results and texts in their order; texts that follow each other are one message."""
    texts: list[Placed] = []
    results = 0
    for place, block in blocks:
        if not isinstance(block, AnthropicToolResult):
            texts.append((place, block))
            continue
        if texts:
            yield _turn("user", texts, where)
        texts, results = [], results + 1
        yield _result(place, block)
    if texts or not results:
        yield _turn("user", texts, where)


def _result(where: str, block: AnthropicToolResult) -> ChatTurn:
    content = block.content or ""
    if not isinstance(content, str):
        content = "\n".join(each.text for each in content)
    if block.is_error:
        content = f"Error: {content}"
    message = {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}
    return ChatTurn(message=message, own=where)


def _assistant(blocks: Sequence[Placed], where: str) -> ChatTurn:
    turn = _turn("assistant", blocks, where)
    thoughts = [block.thinking for _, block in blocks if isinstance(block, AnthropicThinking)]
    if thoughts:
        turn.message["reasoning_content"] = "\n".join(thoughts)
    calls = []
    for place, block in blocks:
        if isinstance(block, AnthropicToolUse):
            function = {"name": block.name, "arguments": block.input}
            calls.append({"id": block.id, "type": "function", "function": function})
            turn.calls.append(place)
    if calls:
        turn.message["tool_calls"] = calls
    return turn
