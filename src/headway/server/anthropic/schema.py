"""The bodies of Anthropic's messages, as types: what is not written here is refused by its name.

Names are Anthropic's. Types are strict at the top; blocks, tools and turns may have more than is
written here, such as `cache_control`, and that is not looked at. Whose field has the type `None` is
not supported, but may be spelt out as null. This module knows neither the engine nor HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headway.server.openai.harmless import ShortText, StrictBody
from headway.server.openai.schema import (
    INT32,
    Positive,
    PositiveLength,
    Priority,
    SloBody,
    StopText,
)
from headway.types.sampling import MAX_STOP_STRINGS

ToolUseName = Annotated[str, Meta(min_length=1, max_length=512)]


class AnthropicText(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: str


class AnthropicThinking(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="thinking"
):
    """What the model thought earlier; its signature is not looked at."""

    thinking: str


class AnthropicHiddenThinking(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="redacted_thinking"
):
    """Thinking that another server encrypted: nobody here can read it, and it is left out."""


class AnthropicToolUse(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    """A call that the assistant made earlier."""

    id: ShortText
    name: ToolUseName
    input: dict[str, Any]


class AnthropicToolResult(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_result"
):
    """What came of a call."""

    tool_use_id: ShortText
    content: str | list[AnthropicText] | None = None
    is_error: Annotated[
        bool | None, Meta(description="True puts `Error: ` before the content.")
    ] = None


UserBlock = AnthropicText | AnthropicToolResult
AssistantBlock = AnthropicText | AnthropicThinking | AnthropicHiddenThinking | AnthropicToolUse


class AnthropicUserTurn(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="user"):
    content: str | list[UserBlock]


class AnthropicAssistantTurn(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="assistant"
):
    """As the last one, of texts alone, it is continued."""

    content: str | list[AssistantBlock]


class AnthropicSystemTurn(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="system"
):
    """Instructions in the middle of a conversation, for chat templates that take them."""

    content: str | list[AnthropicText]


AnthropicTurn = AnthropicUserTurn | AnthropicAssistantTurn | AnthropicSystemTurn


class AnthropicTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the client runs."""

    name: ToolUseName
    input_schema: Annotated[dict[str, Any], Meta(description="A JSON Schema of an object.")]
    description: str | None = None
    strict: Annotated[bool | None, Meta(description="Input matches the schema in any case.")] = None
    type: Literal["custom"] | None = None


class _Choice(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    disable_parallel_tool_use: Annotated[
        bool | None, Meta(description="True: one call at most.")
    ] = None


class AnthropicAutoChoice(_Choice, frozen=True, kw_only=True, tag="auto"):
    """The model decides."""


class AnthropicAnyChoice(_Choice, frozen=True, kw_only=True, tag="any"):
    """Some tool must be called."""


class AnthropicToolChoice(_Choice, frozen=True, kw_only=True, tag="tool"):
    """This tool must be called."""

    name: ToolUseName


class AnthropicNoChoice(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="none"):
    """The model does not hear of the tools."""


AnyToolChoice = AnthropicAutoChoice | AnthropicAnyChoice | AnthropicToolChoice | AnthropicNoChoice
Display = Annotated[
    Literal["summarized", "omitted"] | None,
    Meta(description="Omitted leaves thinking out of the answer; else it is there as it is."),
]


class AnthropicThinkingEnabled(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="enabled"
):
    budget_tokens: Annotated[
        Positive,
        Meta(description="Most tokens of thinking, where the server has a --reasoning-parser."),
    ]
    display: Display = None


class AnthropicThinkingAdaptive(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="adaptive"
):
    display: Display = None


class AnthropicThinkingDisabled(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="disabled"
):
    """No thinking."""


ThinkingConfig = AnthropicThinkingEnabled | AnthropicThinkingAdaptive | AnthropicThinkingDisabled


class AnthropicOutputFormat(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="json_schema",
    forbid_unknown_fields=True,
):
    """JSON of this schema."""

    schema: dict[str, Any]


class AnthropicOutputConfig(StrictBody, frozen=True, kw_only=True):
    format: Annotated[
        AnthropicOutputFormat | None, Meta(description="What the answer must match.")
    ] = None
    effort: Annotated[
        Literal["low", "medium", "high", "xhigh", "max"] | None,
        Meta(description="As `reasoning_effort` of chats."),
    ] = None


class AnthropicMetadata(msgspec.Struct, frozen=True, kw_only=True):
    user_id: Annotated[
        ShortText | None,
        Meta(description="Written to the log; requests of one user take turns as one caller."),
    ] = None


class AnthropicConversation(StrictBody, frozen=True, kw_only=True):
    """What a message is made from: the fields that say what the model reads."""

    messages: Annotated[list[AnthropicTurn], Meta(min_length=1)]
    model: Annotated[
        str | None, Meta(description="One of the served names; the model that is served if absent.")
    ] = None
    system: str | list[AnthropicText] | None = None
    tools: Annotated[list[AnthropicTool] | None, Meta(description="What the model may call.")] = (
        None
    )
    tool_choice: Annotated[AnyToolChoice | None, Meta(description="Auto if absent.")] = None
    thinking: Annotated[
        ThinkingConfig | None, Meta(description="Whether to think, and how much.")
    ] = None
    output_config: AnthropicOutputConfig | None = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, Meta(description="More variables for the chat template.")
    ] = None
    cache_control: Annotated[Any, Meta(description="Prefixes are cached by themselves.")] = None
    context_management: Annotated[
        dict[str, Any] | None, Meta(description="Nothing is cleared: the model reads all.")
    ] = None
    speed: Annotated[Literal["standard"] | None, Meta(description="There is one.")] = None
    mcp_servers: Annotated[
        Annotated[list[Any], Meta(max_length=0)] | None, Meta(description="None, or an empty list.")
    ] = None


class CountTokensBody(AnthropicConversation, frozen=True, kw_only=True):
    """`POST /v1/messages/count_tokens`."""


class MessagesBody(AnthropicConversation, frozen=True, kw_only=True):
    """`POST /v1/messages`."""

    max_tokens: Annotated[PositiveLength, Meta(description="Most tokens to generate.")]
    stop_sequences: Annotated[list[StopText], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None, Meta(description="0 is greedy.")
    ] = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[
        Annotated[int, Meta(ge=-1, le=INT32)] | None, Meta(description="0 or -1 switches it off.")
    ] = None
    stream: bool | None = None
    metadata: AnthropicMetadata | None = None
    service_tier: Annotated[
        Literal["auto", "standard_only"] | None,
        Meta(description="Standard only is OpenAI's default; must not contradict `slo.class`."),
    ] = None
    slo: Annotated[
        SloBody | None,
        Meta(description="Objectives in milliseconds, and the class; a key may be bound to less."),
    ] = None
    priority: Annotated[
        Priority | None,
        Meta(description="-10 to 10, smaller runs earlier; needs `--scheduling-policy priority`."),
    ] = None
    cache_salt: Annotated[
        ShortText | None, Meta(description="Only requests of equal salt share cached prefixes.")
    ] = None
    inference_geo: Annotated[
        ShortText | None, Meta(description="Inference runs where the server is.")
    ] = None
    container: None = None
    diagnostics: None = None
    user_profile_id: None = None
    workspace_id: None = None
