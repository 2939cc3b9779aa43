"""What an assistant's message is made of, read from generated text piece by piece.

Pure: text in, parts out. Dialects of the HTTP API write the parts, and know no model's own form.
"""

from headway.message.parts import (
    AssistantMessage,
    MessageDelta,
    MessageParser,
    PlainMessageParser,
    ToolCall,
    ToolCallDelta,
    collect,
)

__all__ = [
    "AssistantMessage",
    "MessageDelta",
    "MessageParser",
    "PlainMessageParser",
    "ToolCall",
    "ToolCallDelta",
    "collect",
]
