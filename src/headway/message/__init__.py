"""What an assistant's message is made of, read from generated text piece by piece.

Pure: text in, parts out. Dialects of the HTTP API write the parts, and know no model's own form.
The forms in which models call tools are descriptions (`TOOL_FORMATS`), from which the grammar of an
answer (`tool_grammar`) and its parser (`ToolCallParser`) are both made.
"""

from headway.message.annotations import without_annotations
from headway.message.call_grammar import tool_grammar
from headway.message.call_parser import ToolCallParser
from headway.message.formats import TOOL_FORMATS, ToolFormat, format_for_template, shown_tokens
from headway.message.parts import (
    AssistantMessage,
    MessageDelta,
    MessageParser,
    PlainMessageParser,
    ToolCall,
    ToolCallDelta,
    collect,
)
from headway.message.reasoning import (
    REASONING_FORMATS,
    ReasoningFormat,
    ReasoningParser,
    begins_inside,
    reasoning_for_template,
)
from headway.message.tools import MAX_CALLS, MAX_NAME, Tool, ToolUse
from headway.message.writing import describe_tools, write_calls

__all__ = [
    "MAX_CALLS",
    "MAX_NAME",
    "REASONING_FORMATS",
    "TOOL_FORMATS",
    "AssistantMessage",
    "MessageDelta",
    "MessageParser",
    "PlainMessageParser",
    "ReasoningFormat",
    "ReasoningParser",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallParser",
    "ToolFormat",
    "ToolUse",
    "begins_inside",
    "collect",
    "describe_tools",
    "format_for_template",
    "reasoning_for_template",
    "shown_tokens",
    "tool_grammar",
    "without_annotations",
    "write_calls",
]
