"""Calls told from content, whatever pieces a text comes in."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.message import MAX_CALLS, TOOL_FORMATS, Tool, ToolUse, write_calls
from headway.message.tools import MAX_NAME
from tests.message.calls import CALLS, FORMS, USE, call, message, pairs, parser, read

PARIS = '{"city": "Paris"}'
A_CALL = f'{{"name": "get_weather", "arguments": {PARIS}}}'
LLAMA = '{"name": "now", "parameters": {}}'

READ: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    (
        "hermes",
        f"Let me see.\n<tool_call>\n{A_CALL}\n</tool_call>",
        "Let me see.",
        [("get_weather", PARIS)],
    ),
    ("hermes", f"<tool_call>{A_CALL}</tool_call>\n", "", [("get_weather", PARIS)]),
    ("hermes", f"<tool_call>{A_CALL}</tool_call> So.", " So.", [("get_weather", PARIS)]),
    ("hermes", f"a<tool_call>{A_CALL}<tool_call>{A_CALL}", "a", [("get_weather", PARIS)] * 2),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "now", "arguments": null}</tool_call>', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"arguments": {"a": [1]}, "name": "now"}', "", [("now", '{"a": [1]}')]),
    ("hermes", r'<tool_call>{"name": "now", "arguments": "{\"a\": 1}"}', "", [("now", '{"a": 1}')]),
    ("hermes", '<tool_call>{"id": [1, "}"], "name": "now", "arguments": {}}', "", [("now", "{}")]),
    ("hermes", '<tool_call>{"name": "other", "arguments": {}}', "", [("other", "{}")]),
    ("llama3_json", LLAMA, "", [("now", "{}")]),
    ("llama3_json", '{"type": "function", "name": "now", "parameters": {}}', "", [("now", "{}")]),
    ("llama3_json", f"{LLAMA}; {LLAMA}", "", [("now", "{}")] * 2),
    ("llama3_json", '<|python_tag|>{"name": "now", "arguments": {}}', "", [("now", "{}")]),
    (
        "mistral",
        f'[TOOL_CALLS][{A_CALL}, {{"name": "now"}}]',
        "",
        [("get_weather", PARIS), ("now", "{}")],
    ),
    ("mistral", "[TOOL_CALLS]now[CALL_ID]abc[ARGS]{}[TOOL_CALLS]now{}", "", [("now", "{}")] * 2),
    ("mistral_named", f"[TOOL_CALLS] [{A_CALL}]", "", [("get_weather", PARIS)]),
    ("pythonic", "[now(), now(a=1,)]", "", [("now", "{}"), ("now", '{"a": 1}')]),
    ("pythonic", "<|python_start|>[other()]<|python_end|>", "<|python_end|>", [("other", "{}")]),
    ("gemma3", "```tool_code\nnow()\nnow()\n```\n", "", [("now", "{}")] * 2),
    (
        "functiongemma",
        "<start_function_call>call:now{a:<escape>x}<y<escape>,b:{c:[1,true]}}<end_function_call>",
        "",
        [("now", '{"a": "x}<y", "b": {"c": [1, true]}}')],
    ),
    ("gemma4", '<|tool_call>call:now{a:<|"|>"<|"|>}<tool_call|>', "", [("now", r'{"a": "\""}')]),
]


@pytest.mark.parametrize(("form", "text", "content", "calls"), READ, ids=str)
def test_what_models_write_is_read(
    form: str, text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    found = message(form, text)
    assert found.content == content
    assert [(each.name, each.arguments) for each in found.tool_calls] == calls
    assert message(form, text, cuts=range(len(text))) == found


CONTENT: list[tuple[str, str]] = [
    ("hermes", "no call\n"),
    ("hermes", "<tool_call> is a mark, <tool_call"),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": 1}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now" "arguments": {}}'),
    ("hermes", '<tool_call>{"name": "now", "arguments": [1]}'),
    ("hermes", '<tool_call>{"name": "no'),
    ("hermes", '<tool_call>{"arguments": {"a"'),
    ("hermes", f'<tool_call>{{"name": "{"a" * (MAX_NAME + 1)}", "arguments": {{}}}}'),
    ("hermes", "\n "),
    ("hermes", A_CALL),
    ("llama3_json", '{"name": "Bob", "parameters": {}}'),
    ("llama3_json", '{"age": 1, "name": "now", "parameters": {}}'),
    ("llama3_json", ' See {"name": "now", "parameters": {}}'),
    ("llama3_json", '{"name": "now"'),
    ("llama3_json", '{"name": "now"}'),
    ("mistral", "[TOOL_CALLS] and more"),
    ("mistral", "[TOOL_CALLS] [1, 2]"),
    ("pythonic", "[1, 2]"),
    ("pythonic", "[other(a=1)]"),
    ("pythonic", "[now(1)]"),
    ("pythonic", "[now("),
    ("gemma3", "```tool_code\nprint(now())\n```"),
    ("functiongemma", "<start_function_call>now{}"),
]


@pytest.mark.parametrize(("form", "text"), CONTENT, ids=str)
def test_what_only_looks_like_a_call_is_content(form: str, text: str) -> None:
    found = message(form, text)
    assert (found.content, found.tool_calls) == (text, [])
    assert message(form, text, cuts=range(len(text))) == found


PYTHON: list[tuple[str, Any]] = [
    ("1", 1),
    ("-2.50", -2.5),
    ("1_000", 1000),
    (".5", 0.5),
    ("0x1F", 31),
    ("True", True),
    ("false", False),
    ("None", None),
    ("'it\\'s \"x\"'", 'it\'s "x"'),
    (r'"\x41\u00e9\U0001F600\ud83d\ude00\d\n"', "Aé😀😀\\d\n"),
    (r'"\ud83d"', "\ufffd"),
    (r'"\ud83d\u0041"', "\ufffdA"),
    ("[1, (2, 'a'), {'k': [None], 'é': 2,},]", [1, [2, "a"], {"k": [None], "é": 2}]),
    ("{}", {}),
    ("New York", "New York"),
    ("inf", "inf"),
]


@pytest.mark.parametrize(("written", "value"), PYTHON, ids=str)
def test_literals_become_json(written: str, value: Any) -> None:
    text = f"[now(a = {written}, b=1)]"
    found = message("pythonic", text, cuts=range(len(text)))
    assert pairs(found.tool_calls) == [("now", {"a": value, "b": 1})]


def test_what_cannot_be_read_within_a_call_is_content_again() -> None:
    found = message("pythonic", "[now(a=1, b=f(2))] x")
    assert [each.arguments for each in found.tool_calls] == ['{"a": 1, "b": ']
    assert found.content == "(2))] x"
    cut = message("pythonic", '[now(a=1, b="x", c=Tru')
    assert [each.arguments for each in cut.tool_calls] == ['{"a": 1, "b": "x", "c": ']
    assert cut.content == ""
    deep = "[" * 1000
    assert message("pythonic", f"[now(a={deep})]").content


@pytest.mark.parametrize("form", FORMS)
def test_a_call_is_told_of_before_it_ends(form: str) -> None:
    text = write_calls(TOOL_FORMATS[form], [call("now", {"city": "Paris by night"})])
    reader = parser(TOOL_FORMATS[form])
    told = [delta for letter in text for delta in reader.feed(letter).tool_calls]
    assert [(each.id, each.name) for each in told if each.id] == [("id0", "now")]
    assert len(told) > len("Paris by night")
    assert json.loads("".join(each.arguments for each in told)) == {"city": "Paris by night"}


def test_what_was_cut_off_is_given_as_far_as_it_came() -> None:
    for end, arguments in (
        ('"get_weather"', ""),
        ('"get_weather", "argum', ""),
        ('"get_weather", "arguments": nul', ""),
        ('"get_weather", "arguments": {"ci', '{"ci'),
        ('"get_weather", "arguments": {"city": "P\\', '{"city": "P\\'),
        ('"get_weather", "arguments": {}', "{}"),
    ):
        found = message("hermes", f'<tool_call>{{"name": {end}')
        assert [(each.name, each.arguments) for each in found.tool_calls] == [
            ("get_weather", arguments)
        ]
        assert found.content == ""


@pytest.mark.parametrize("form", FORMS)
def test_an_end_that_breaks_off_is_no_content(form: str) -> None:
    text = write_calls(TOOL_FORMATS[form], [call("now", {}), call("get_weather", {"city": "Bern"})])
    whole = message(form, text)
    ending = TOOL_FORMATS[form].end.strip()
    for missing in range(1, len(ending)):
        found = message(form, text.rstrip()[:-missing])
        assert (found.content, found.tool_calls) == ("", whole.tool_calls)


def test_whether_the_last_call_broke_off_is_told() -> None:
    text = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    for end in range(len(text) + 1):
        parsed = parser(TOOL_FORMATS["hermes"])
        assert not parsed.feed(text[:end]).cut_off
        assert parsed.finish().cut_off == (text.index("now") + 4 <= end <= text.index("}}") + 1)


def test_calls_that_are_not_asked_for_are_left_out() -> None:
    text = write_calls(
        TOOL_FORMATS["hermes"], [call("now", {"n": n}) for n in range(MAX_CALLS + 1)]
    )
    assert len(message("hermes", text).tool_calls) == MAX_CALLS
    one = ToolUse(tools=USE.tools, parallel=False)
    assert pairs(message("hermes", text, one).tool_calls) == [("now", {"n": 0})]
    for none in (ToolUse(), ToolUse(tools=USE.tools, choice="none")):
        assert message("hermes", text, none).content == text


def test_names_decide_only_where_no_marker_leads_to_calls() -> None:
    named = ToolUse(tools=(Tool(name="now"), Tool(name="then")), choice="then")
    assert message("pythonic", "[now()]", named).tool_calls


FRAGMENTS = st.sampled_from(
    sorted(
        {
            each
            for form in TOOL_FORMATS.values()
            for each in (form.start, form.separator, form.end, *form.markers)
        }
    )
) | st.sampled_from(
    (
        *('{"name": "now"', '"arguments": ', '"parameters": ', "{", "}", '"', "\\", ", ", ":", "["),
        *("]", "(", ")", "now(", "call:now{", "a=", "a:", "1", "true", "'", "x", " ", "\n", A_CALL),
        *("**", "[CALL_ID]", "null", "\\u", "d83d", "é"),
    )
)


@settings(max_examples=300)
@given(
    form=st.sampled_from(FORMS),
    fragments=st.lists(FRAGMENTS, max_size=12),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_how_a_text_is_cut_does_not_matter(
    form: str, fragments: list[str], cuts: list[int]
) -> None:
    text = "".join(fragments)
    found = message(form, text)
    assert message(form, text, cuts=cuts) == found
    assert message(form, text, cuts=range(len(text))) == found


@settings(max_examples=200)
@given(form=st.sampled_from(FORMS), calls=CALLS, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_what_is_written_is_read(form: str, calls: list[Any], cuts: list[int]) -> None:
    use = ToolUse(tools=(*USE.tools, Tool(name="a-b.c")))
    text = write_calls(TOOL_FORMATS[form], calls)
    found = read(parser(TOOL_FORMATS[form], use), text, cuts)
    assert (found.content, pairs(found.tool_calls)) == ("", pairs(calls))


def work(name: str, text: str, size: int) -> int:
    """Calls of functions to read a text that comes in pieces of a size."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        message(name, text, cuts=range(0, len(text), size))
    finally:
        sys.setprofile(None)
    return count


ENDLESS = [
    ("hermes", "<tool_call>"),
    ("hermes", '<tool_call>{"arguments": {'),
    ("hermes", '<tool_call>{"x": '),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": '),
    ("hermes", " \n"),
    ("hermes", "<tool"),
    ("mistral", "[TOOL_CALLS]x"),
    ("mistral", "[TOOL_CALLS][{"),
    ("pythonic", "[now(a=["),
    ("pythonic", "[now(a=1, "),
    ("gemma3", "```tool_code now(a='"),
    ("functiongemma", "<start_function_call>call:now{a:<escape><escap"),
]


@pytest.mark.parametrize(("form", "unit"), ENDLESS, ids=str)
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_reading_takes_time_linear_in_the_text(form: str, unit: str, size: int) -> None:
    few, many = (work(form, unit * count, size) for count in (100, 400))
    assert many < 4.5 * few + 1000


@pytest.mark.parametrize(("form", "unit"), ENDLESS, ids=str)
def test_what_waits_to_be_read_is_short(form: str, unit: str) -> None:
    """It is copied with each piece that comes."""
    reader = parser(TOOL_FORMATS[form])
    waiting = reader._reader
    for letter in unit * 100:
        reader.feed(letter)
        assert len(waiting._text) - waiting._place < 40
