"""From a conversation to the text of a prompt, as the model's chat template writes it.

Messages are OpenAI's, as dictionaries: `role`, `content` (a text, or a list of text parts), and
whatever else the template knows. This module knows neither the tokenizer nor bodies of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.errors import InvalidRequest
from headway.text import ChatTemplate

RESERVED = frozenset(("messages", "tools", "add_generation_prompt", "continue_final_message"))
"""Template variables that have arguments of their own."""


def render_chat(
    template: ChatTemplate | None,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool | None = None,
    continue_final_message: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The conversation as one text.

    `add_generation_prompt` opens the assistant's turn (if None: unless the final message is
    continued), `variables` are further variables of the template. Raises `InvalidRequest` where
    the model has no template, or the template cannot show these messages.
    """
    if template is None:
        raise InvalidRequest(
            "this model has no chat template: give a prompt instead (/v1/completions over HTTP), "
            "or start with --chat-template",
            field="messages",
        )
    if not messages:
        raise InvalidRequest("messages is empty", field="messages")
    opens = not continue_final_message if add_generation_prompt is None else add_generation_prompt
    for name in variables or {}:
        if name in RESERVED or not name.isidentifier():
            raise InvalidRequest(
                f"chat_template_kwargs may not set {name[:100]!r}", field="chat_template_kwargs"
            )
    return template.render(
        [_as_templates_expect(message) for message in messages],
        add_generation_prompt=opens,
        continue_final_message=continue_final_message,
        **(variables or {}),
    )


def message_text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """A message's content as one text; several parts are joined by line breaks."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content)


def _as_templates_expect(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates know one text for content, and `system` where OpenAI now says `developer`."""
    shown = dict(message)
    if shown.get("role") == "developer":
        shown["role"] = "system"
    content = shown.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        shown["content"] = message_text(content)
    return shown
