"""Reasoning told from what follows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.message import (
    REASONING_FORMATS,
    PlainMessageParser,
    ReasoningParser,
    begins_inside,
    reasoning_for_template,
)
from tests.message.calls import read

THINK = REASONING_FORMATS["think"]
R1 = REASONING_FORMATS["deepseek_r1"]


@pytest.mark.parametrize(
    ("text", "inside", "reasoning", "content"),
    [
        ("<think>\nHm <b.\n</think>\n\nYes.\n", False, "Hm <b.", "Yes.\n"),
        ("\n<think>\n\n</think>\n\nYes", False, "", "Yes"),
        ("Hm\n</think>Yes </think>", True, "Hm", "Yes </think>"),
        ("<think>Hm</think>Yes", True, "Hm", "Yes"),
        ("Yes <think>Hm</think>", False, "", "Yes <think>Hm</think>"),
        (" Yes", False, "", " Yes"),
        ("<thin", False, "", "<thin"),
        ("<think>never closed </thin", False, "never closed </thin", ""),
        ("never closed\n", True, "never closed", ""),
        ("", True, "", ""),
    ],
    ids=str,
)
def test_reasoning_is_what_stands_between_the_marks(
    text: str, inside: bool, reasoning: str, content: str
) -> None:
    found = read(ReasoningParser(THINK, PlainMessageParser(), inside=inside), text)
    assert (found.reasoning, found.content) == (reasoning, content)


@given(
    fragments=st.lists(
        st.sampled_from(("<think>", "</think>", "<", "</thi", " ", "\n", "a", "é ")), max_size=9
    ),
    cuts=st.lists(st.integers(0, 50), max_size=6),
    inside=st.booleans(),
)
def test_how_a_text_is_cut_does_not_matter(
    fragments: list[str], cuts: list[int], inside: bool
) -> None:
    text = "".join(fragments)

    def parser() -> ReasoningParser:
        return ReasoningParser(THINK, PlainMessageParser(), inside=inside)

    found = read(parser(), text)
    assert read(parser(), text, cuts) == read(parser(), text, range(len(text))) == found


def test_reasoning_comes_while_it_is_written() -> None:
    parser = ReasoningParser(THINK, PlainMessageParser(), inside=False)
    assert not parser.feed("<think>")
    assert parser.feed("Hm, ").reasoning == "Hm,"
    assert parser.feed("so </thi").reasoning == " so"
    assert parser.feed("nk>Yes").content == "Yes"
    assert parser.feed("!").content == "!"


@pytest.mark.parametrize(
    ("prompt", "always", "sometimes"),
    [
        ("<|assistant|>", True, False),
        ("<|assistant|><think>\n", True, True),
        ("<|assistant|><think>\n\n</think>\n\n", False, False),
        ("<think></think> before<|assistant|>", True, False),
    ],
)
def test_the_prompt_tells_where_an_answer_begins(
    prompt: str, always: bool, sometimes: bool
) -> None:
    assert begins_inside(R1, prompt) is always
    assert begins_inside(THINK, prompt) is sometimes


def test_a_template_tells_its_reasoning() -> None:
    assert reasoning_for_template("{{ '<think>' }}") == "think"
    assert reasoning_for_template("[THINK]") == "mistral"
    assert reasoning_for_template("{{ messages }}") is None
    for form in REASONING_FORMATS.values():
        text = f"{form.opening} a {form.closing} b"
        found = read(ReasoningParser(form, PlainMessageParser(), inside=False), text)
        assert (found.reasoning, found.content) == ("a", "b")
