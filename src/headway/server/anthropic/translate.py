"""A body of Anthropic's messages as the body of a chat. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway.server.anthropic.names import AnthropicNames
from headway.server.anthropic.schema import (
    AnthropicConversation,
    AnthropicNoChoice,
    AnthropicThinkingDisabled,
    AnthropicThinkingEnabled,
    AnthropicTool,
    AnthropicToolChoice,
    AnyToolChoice,
    MessagesBody,
)
from headway.server.anthropic.turns import chat_turns, continues
from headway.server.body import convert
from headway.server.openai.sampling import field_aliases
from headway.server.openai.schema import ChatBody

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedMessages:
    chat: ChatBody
    names: AnthropicNames
    """The client's names for the chat's fields."""
    shows_thinking: bool


def translate(body: AnthropicConversation, *, reasons: bool) -> TranslatedMessages:
    """The chat that a body asks for; a bound on thinking is one where the model `reasons`.

    Raises `InvalidRequest` with the client's name of the field to mend.
    """
    turns = chat_turns(body)
    names = AnthropicNames(turns)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": [turn.message for turn in turns],
        "chat_template_kwargs": body.chat_template_kwargs,
    }
    if body.thinking is not None:
        fields["enable_thinking"] = not isinstance(body.thinking, AnthropicThinkingDisabled)
    if reasons and isinstance(body.thinking, AnthropicThinkingEnabled):
        fields["thinking_token_budget"] = body.thinking.budget_tokens
    if continues(body):
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    if body.tools:
        fields["tools"] = [_tool(each) for each in body.tools]
    if body.tool_choice is not None:
        fields |= _choice(body.tool_choice)
    if body.output_config is not None:
        fields["reasoning_effort"] = body.output_config.effort
    if isinstance(body, MessagesBody):
        fields |= _sampling(body)
    with field_aliases(names):
        chat = convert(
            {name: value for name, value in fields.items() if value is not None}, ChatBody
        )
    shown = getattr(body.thinking, "display", None) != "omitted"
    return TranslatedMessages(chat=chat, names=names, shows_thinking=shown)


def _sampling(body: MessagesBody) -> dict[str, Any]:
    same = ("max_tokens", "temperature", "top_p", "top_k", "stream", "slo", "priority")
    fields: dict[str, Any] = {name: getattr(body, name) for name in (*same, "cache_salt")}
    fields["stop"] = body.stop_sequences
    fields["user"] = None if body.metadata is None else body.metadata.user_id
    fields["service_tier"] = "default" if body.service_tier == "standard_only" else None
    form = None if body.output_config is None else body.output_config.format
    if form is not None:
        named = {"name": "answer", "schema": form.schema}
        fields["response_format"] = {"type": "json_schema", "json_schema": named}
    return fields


def _tool(tool: AnthropicTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: AnyToolChoice) -> dict[str, Any]:
    if isinstance(choice, AnthropicToolChoice):
        named: Any = {"type": "function", "function": {"name": choice.name}}
    else:
        named = _CHOICES[str(choice.__struct_config__.tag)]
    if isinstance(choice, AnthropicNoChoice) or choice.disable_parallel_tool_use is None:
        return {"tool_choice": named}
    return {"tool_choice": named, "parallel_tool_calls": not choice.disable_parallel_tool_use}
