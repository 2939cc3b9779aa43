"""How a model writes its messages: chosen by name or template, and what follows from it."""

from __future__ import annotations

from headway.llm.message_form import MessageForm
from headway.message import Tool, ToolUse, collect
from headway.text import TextConfig, Tokenizer
from headway.types import Grammar

USE = ToolUse(
    tools=(Tool(name="f", parameters={"type": "object", "description": "dddd"}),),
    choice="required",
)
FORM = MessageForm.choose(None, reasoning_parser="qwen3")


class Markers(Tokenizer):
    """Its special tokens are the end of a text and a marker."""

    def __init__(self) -> None:
        self.config = TextConfig(eos_token_ids=(0,))
        self._special = frozenset((0, 1))

    def token_bytes(self, token: int) -> bytes:
        return (b"<end>", b"<tool_call>")[token]


def test_the_template_tells_the_form_and_a_name_overrides_it() -> None:
    assert MessageForm.choose("[TOOL_CALLS]").tools.name == "mistral"
    assert MessageForm.choose(None).tools.name == "hermes"
    assert MessageForm.choose("[TOOL_CALLS]", tool_call_parser="pythonic").tools.name == "pythonic"
    assert MessageForm.choose("<think>").reasoning is None


def test_markers_that_are_special_tokens() -> None:
    assert FORM.special_markers(Markers(), USE) == {"<tool_call>"}
    assert FORM.special_markers(Markers(), None) == frozenset()
    assert MessageForm.choose(None).special_markers(Markers(), None) == frozenset()


def test_an_answer_may_begin_inside_the_reasoning() -> None:
    outside = FORM.constraint(USE, prompt="assistant:")
    inside = FORM.constraint(USE, prompt="assistant:<think>\n")
    assert outside != inside
    parser = FORM.new_parser(USE, prompt="assistant:<think>\n")
    message = collect((parser.feed("hm</think>"), parser.finish()))
    assert (message.reasoning, message.content) == ("hm", "")


def test_a_constraint_has_no_descriptions() -> None:
    text = FORM.constraint(USE, prompt="")
    assert text is not None
    assert "dddd" not in text
    assert '"f"' in text.replace("\\", "")


def test_content_alone_is_constrained_here_where_the_model_reasons() -> None:
    content = Grammar(kind="json", text='{"type":"null"}', whitespace="x{0,1}")
    assert MessageForm.choose(None).constraint(None, prompt="", content=content) is None
    assert FORM.constraint(None, prompt="") is None
    text = FORM.constraint(None, prompt="", content=content)
    assert text is not None
    assert "x{0,1}" in text
    assert "</think>" in text
    assert FORM.constraint(None, prompt="", content=Grammar(kind="json", text="true")) is not None
