"""Conversations become the text of a prompt, or a refusal that names what to change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headway.errors import InvalidRequest
from headway.llm.rendering import SMALL_INPUT, ChatRenderer
from headway.message import Tool
from headway.text import ChatTemplate, TextConfig
from tests.llm.support import TEMPLATE

HELLO: Any = [{"role": "user", "content": "hi"}]
TEXT = TextConfig(eos_token_ids=())


def render(messages: Any, source: str = TEMPLATE, **options: Any) -> str:
    async def main() -> str:
        renderer = ChatRenderer.trusted(ChatTemplate(source, TEXT))
        try:
            return await renderer.render(messages, **options)
        finally:
            await renderer.close()

    return asyncio.run(main())


def test_the_assistant_speaks_next_unless_its_message_goes_on() -> None:
    assert render(HELLO) == "<user>hi<assistant>"
    assert render(HELLO, add_generation_prompt=False) == "<user>hi"
    unfinished = [*HELLO, {"role": "assistant", "content": "Well"}]
    assert render(unfinished, continue_final_message=True) == "<user>hi<assistant>Well"


def test_templates_see_one_text_and_the_role_they_know() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages: Any = [{"role": "developer", "content": "be"}, {"role": "user", "content": parts}]
    assert render(messages) == "<system>be<user>a\nb<assistant>"
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
        render(messages, **options)
    assert caught.value.field == field


NAMES = ["self", "context", "environment", "loop", "messages", "range", "_headway_counted"]
NAMES += ["__class__", "caller", "True", "cls", "args", "kwargs", "", "a" * 10_000]


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_that_the_template_does_not_read_is_refused(name: str) -> None:
    source = "{{ thinking }}{{ messages }}{{ eos_token }}{% for i in range(1) %}{% endfor %}"
    with pytest.raises(InvalidRequest) as caught:
        render(HELLO, source, variables={name: 1})
    assert caught.value.field == "chat_template_kwargs"
    assert len(caught.value.message) < 300
    if name != "messages":
        assert "it reads: eos_token, thinking" in caught.value.message


def test_reasoning_that_there_is_no_switch_for_can_be_switched_off() -> None:
    source = "{{ messages[0].content }}"
    assert render(HELLO, source, variables={"enable_thinking": False}) == render(HELLO, source)
    with pytest.raises(InvalidRequest, match="does not read 'enable_thinking'"):
        render(HELLO, source, variables={"enable_thinking": True})


@pytest.mark.parametrize("name", ["self", "context", "environment", "loop", "cls", "args", "vars"])
def test_a_variable_of_any_name_is_handed_over_as_one(name: str) -> None:
    source = "{% if " + name + " is defined %}{{ " + name + " }}{% endif %}"
    if name == "self":  # Jinja has a meaning of its own for it: templates cannot read it
        with pytest.raises(InvalidRequest, match="does not read 'self'"):
            render(HELLO, source, variables={name: "given"})
    else:
        assert render(HELLO, source, variables={name: "given"}) == "given"


def test_a_large_conversation_of_a_known_template_is_rendered_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here: list[int] = []
    original = ChatTemplate.render

    def noted(self: ChatTemplate, messages: Any, **options: Any) -> str:
        here.append(len(messages))
        return original(self, messages, **options)

    monkeypatch.setattr(ChatTemplate, "render", noted)
    assert render(HELLO) == "<user>hi<assistant>"
    assert here == [1]
    long = [{"role": "user", "content": "x" * SMALL_INPUT}]
    assert render(long) == "<user>" + "x" * SMALL_INPUT + "<assistant>"
    many = HELLO * (SMALL_INPUT // 64)
    assert render(many) == "<user>hi" * len(many) + "<assistant>"
    assert render(HELLO, "{{ x[0][0] }}", variables={"x": [[1] * SMALL_INPUT]}) == "1"
    large = Tool(name="f", description="x" * SMALL_INPUT)
    assert render(HELLO, "{{ tools[0].function.name }}", tools=[large]) == "f"
    assert here == [1], "only the small one was rendered in this process"
