"""Conversations become the text of a prompt, or a refusal that names what to change."""

from __future__ import annotations

from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.llm.prompt import render_chat
from headway.text import ChatTemplate, TextConfig
from tests.llm.support import TEMPLATE

HELLO: Any = [{"role": "user", "content": "hi"}]


def template() -> ChatTemplate:
    return ChatTemplate(TEMPLATE, TextConfig(eos_token_ids=()))


def test_the_assistant_speaks_next_unless_its_message_goes_on() -> None:
    assert render_chat(template(), HELLO) == "<user>hi<assistant>"
    assert render_chat(template(), HELLO, add_generation_prompt=False) == "<user>hi"
    unfinished = [*HELLO, {"role": "assistant", "content": "Well"}]
    text = render_chat(template(), unfinished, continue_final_message=True)
    assert text == "<user>hi<assistant>Well"


def test_templates_see_one_text_and_the_role_they_know() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages: Any = [{"role": "developer", "content": "be"}, {"role": "user", "content": parts}]
    assert render_chat(template(), messages) == "<system>be<user>a\nb<assistant>"
    assert messages[1]["content"] is parts, "the caller's messages stay as they are"


@pytest.mark.parametrize(
    ("messages", "options", "field"),
    [
        ([], {}, "messages"),
        (HELLO, {"variables": {"messages": 1}}, "chat_template_kwargs"),
        (HELLO, {"variables": {"a b": 1}}, "chat_template_kwargs"),
        (
            HELLO,
            {"add_generation_prompt": True, "continue_final_message": True},
            "continue_final_message",
        ),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_name(
    messages: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        render_chat(template(), messages, **options)
    assert caught.value.field == field


def test_a_model_without_a_template() -> None:
    with pytest.raises(InvalidRequest, match="no chat template"):
        render_chat(None, HELLO)
