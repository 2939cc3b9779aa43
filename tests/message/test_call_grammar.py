"""Answers drawn from the grammars of every format, read by its parser."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.errors import InvalidRequest
from headway.grammar.translate import nesting
from headway.message import (
    MAX_CALLS,
    REASONING_FORMATS,
    TOOL_FORMATS,
    ReasoningParser,
    Tool,
    ToolFormat,
    ToolUse,
    tool_grammar,
    write_calls,
)
from tests.grammar.schemas import SCHEMAS
from tests.grammar.validity import validate
from tests.message.calls import (
    FORMS,
    NOTHING,
    USE,
    WEATHER,
    Walk,
    call,
    message,
    pairs,
    parser,
    read,
)

REQUIRED = ToolUse(tools=USE.tools, choice="required")
ONE = ToolUse(tools=USE.tools, choice="required", parallel=False)
THINK = REASONING_FORMATS["think"]
PARIS = call("get_weather", {"city": "Paris", "unit": "C", "days": [1, 2], "wind": True})
NOW = call("now", {})


def walk(form: ToolFormat, use: ToolUse, special: tuple[str, ...] = (), **reasoning: Any) -> Walk:
    grammar = tool_grammar(form, use, special=special, **reasoning)
    assert grammar is not None
    return Walk(grammar, special)


def special_of(form: ToolFormat) -> tuple[str, ...]:
    """Those of a format's markers that models have as special tokens."""
    return tuple(marker for marker in form.markers if marker[0] in "<[")


def is_valid(use: ToolUse, name: str, arguments: Any) -> bool:
    tool = next(tool for tool in use.tools if tool.name == name)
    validate(arguments, tool.schema())
    return True


@pytest.mark.parametrize("special", [False, True], ids=["spelt", "special"])
@pytest.mark.parametrize("name", FORMS)
def test_a_required_answer_is_calls_and_nothing_else(name: str, special: bool) -> None:
    form = TOOL_FORMATS[name]
    tokens = special_of(form) if special else ()
    if special and not tokens:
        return
    drawn = [walk(form, REQUIRED, tokens).draw(seed) for seed in range(6)]
    answers = [text for text in drawn if text is not None]
    assert len(answers) > 2
    for text in answers:
        found = message(name, text, REQUIRED)
        assert found.content == ""
        assert 1 <= len(found.tool_calls) <= MAX_CALLS
        assert all(is_valid(REQUIRED, *each) for each in pairs(found.tool_calls))


@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_of_calls_is_an_answer(name: str) -> None:
    """The history shows calls as the model is made to write them."""
    form = TOOL_FORMATS[name]
    for special in ((), special_of(form)):
        assert walk(form, REQUIRED, special).takes(write_calls(form, [PARIS, NOW, PARIS]))
        assert walk(form, ONE, special).takes(write_calls(form, [PARIS]))
        assert not walk(form, ONE, special).takes(write_calls(form, [PARIS, NOW]))
        assert not walk(form, REQUIRED, special).takes("Hi")
        named = ToolUse(tools=USE.tools, choice="now")
        assert walk(form, named, special).takes(write_calls(form, [NOW]))
        assert not walk(form, named, special).takes(write_calls(form, [PARIS]))
        wrong = write_calls(form, [call("get_weather", {"city": 1})])
        assert not walk(form, REQUIRED, special).takes(wrong)


@pytest.mark.parametrize("name", FORMS)
def test_an_answer_may_have_no_call(name: str) -> None:
    form = TOOL_FORMATS[name]
    for special in ((), special_of(form)):
        for text in ("", "Hi.\n", ' {"name": "Bob", "age": 1}', "[1, 2]", "<tool", "x < y\n\n"):
            assert walk(form, USE, special).takes(text)
            assert message(name, text).content == text


@pytest.mark.parametrize("name", FORMS)
def test_what_leads_to_a_call_leads_to_a_valid_one(name: str) -> None:
    form = TOOL_FORMATS[name]
    said = "Well.\n" if form.marker_needed else "\n"
    for special in ((), special_of(form)):
        may_call = walk(form, USE, special)
        assert may_call.takes(said + write_calls(form, [PARIS, NOW]))
        assert not walk(form, USE, special).takes(write_calls(form, [call("other", {})]) + "?") or (
            not form.marker_needed
        )
        wrong = write_calls(form, [call("get_weather", {"town": "x"})])
        assert not walk(form, USE, special).takes(said + wrong)
        if form.marker_needed:
            assert not walk(form, USE, special).takes(f"{said}{form.marker} x")


@pytest.mark.parametrize("name", FORMS)
def test_an_answer_that_may_call_is_read_as_it_was_meant(name: str) -> None:
    form = TOOL_FORMATS[name]
    tokens = special_of(form)
    for seed in range(6):
        text = walk(form, USE, tokens).draw(seed)
        if text is not None:
            found = message(name, text)
            assert all(is_valid(USE, *each) for each in pairs(found.tool_calls))
            assert found.tool_calls or found.content == text


def test_calls_without_a_marker_may_have_other_white_space() -> None:
    form = TOOL_FORMATS["llama3_json"]
    for text in (
        '{"type":"function","name":"now","parameters":{}}',
        '{ "name" : "now" , "arguments" : {}}',
    ):
        assert walk(form, USE).takes(text)
        assert pairs(message("llama3_json", text).tool_calls) == [("now", {})]
        assert not walk(form, USE).takes(text.replace("{}", '{"a": 1}'))


OBJECTS = st.dictionaries(st.sampled_from(("a", "x y", "b_1", "é")), SCHEMAS, max_size=4)


@settings(max_examples=50)
@given(
    name=st.sampled_from(FORMS),
    properties=OBJECTS,
    required=st.integers(0, 15),
    seed=st.integers(0, 99),
)
def test_arguments_are_valid_whatever_the_schema(
    name: str, properties: dict[str, Any], required: int, seed: int
) -> None:
    definitions: dict[str, Any] = {}
    for schema in properties.values():
        definitions |= schema.pop("$defs", {})
    schema = {
        "type": "object",
        "properties": properties,
        "required": [key for n, key in enumerate(properties) if required >> n & 1],
        "$defs": definitions,
    }
    use = ToolUse(tools=(Tool(name="f", parameters=schema), NOTHING), choice="f")
    form = TOOL_FORMATS[name]
    text = walk(form, use, special_of(form)).draw(seed, most=300)
    if text is not None:
        found = message(name, text, use)
        assert found.content == ""
        assert found.tool_calls
        assert all(is_valid(use, *each) for each in pairs(found.tool_calls)), text


OTHER_SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object"},
    {"type": ["object"], "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
    {"anyOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}]},
    {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "null"}}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": ["x", 1, None]}}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
    {"type": "object", "properties": {"a": {"type": ["boolean", "integer"]}, "b": True}},
    {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "properties": {"k": {"type": "boolean"}, "l": {"type": "string"}},
                "required": ["l"],
                "additionalProperties": False,
            }
        },
        "required": ["a"],
    },
]


@pytest.mark.parametrize("schema", OTHER_SCHEMAS, ids=str)
def test_every_schema_of_an_object_will_do(schema: dict[str, Any]) -> None:
    use = ToolUse(tools=(Tool(name="f", parameters=schema),), choice="required", parallel=False)
    for name in ("hermes", "pythonic", "functiongemma", "mistral_named"):
        form = TOOL_FORMATS[name]
        found = [walk(form, use, special_of(form)).draw(seed) for seed in range(4)]
        texts = [text for text in found if text is not None]
        assert texts
        for text in texts:
            calls = pairs(message(name, text, use).tool_calls)
            assert len(calls) == 1, text
            assert is_valid(use, *calls[0])


def test_values_are_written_as_the_notation_has_them() -> None:
    python = walk(TOOL_FORMATS["pythonic"], REQUIRED)
    assert python.takes('[get_weather(city="x", unit="C", days=[1, 2], wind=True)]')
    for arguments in ('city="x"', 'city="x", wind=False', 'city="x", unit="F", days=[]'):
        assert walk(TOOL_FORMATS["pythonic"], REQUIRED).takes(f"[get_weather({arguments})]")
    for arguments in ("", 'unit="F"', 'wind=True, city="x"', 'city="x",', 'city="x", city="x"'):
        assert not walk(TOOL_FORMATS["pythonic"], REQUIRED).takes(f"[get_weather({arguments})]")
    gemma = walk(TOOL_FORMATS["functiongemma"], REQUIRED)
    assert gemma.takes(
        "<start_function_call>call:get_weather{city:<escape>x<escape>,unit:<escape>C<escape>,"
        "days:[1,2],wind:true}<end_function_call>"
    )


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("special", [(), ("<think>", "</think>")], ids=["spelt", "special"])
@pytest.mark.parametrize("name", ["hermes", "llama3_json", "functiongemma", "pythonic"])
def test_calls_come_behind_reasoning(name: str, special: tuple[str, ...], choice: str) -> None:
    form = TOOL_FORMATS[name]
    use = ToolUse(tools=USE.tools, choice=choice)
    calls = write_calls(form, [PARIS])
    thoughts = f'\nI could {form.marker}, or {{"name": "now" [now(\n</think>\n\n{calls}'
    for inside, text in ((True, thoughts), (False, f"<think>{thoughts}"), (False, calls)):
        assert walk(form, use, special, reasoning=THINK, inside=inside).takes(text)
        found = read(ReasoningParser(THINK, parser(form), inside=inside), text)
        assert pairs(found.tool_calls) == pairs([PARIS])
    assert not walk(form, use, special, reasoning=THINK, inside=True).takes(calls)
    wrong = thoughts.replace("city", "town")
    assert not walk(form, use, special, reasoning=THINK, inside=True).takes(wrong)


CONTENTS: list[tuple[dict[str, Any], list[str], str]] = [
    (
        {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
        ['{"name": "now"}', '{"age": 1}'],
        "{} Hi",
    ),
    ({"type": "array", "items": {"type": "integer"}}, ["[1, 2]", "[]"], '["x"]'),
    ({"type": "string"}, ['"[now("'], "Hi"),
]


@pytest.mark.parametrize(("schema", "answers", "other"), CONTENTS, ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_an_answer_calls_or_has_the_format_of_content(
    name: str, schema: dict[str, Any], answers: list[str], other: str
) -> None:
    form = TOOL_FORMATS[name]
    calls = write_calls(form, [PARIS, NOW])
    for answer in (*answers, calls):
        assert walk(form, USE, content=schema).takes(answer)
        thoughts = f"Hm </think>\n\n{answer}"
        assert walk(form, USE, content=schema, reasoning=THINK, inside=True).takes(thoughts)
        assert walk(form, REQUIRED, content=schema).takes(answer) is (answer == calls)
    for answer in answers:
        assert walk(form, ToolUse(), content=schema).takes(answer)
        assert message(name, answer).content == answer
    assert not walk(form, USE, content=schema).takes(other)
    assert not walk(form, USE, content=schema).takes(calls.replace("city", "town"))


def test_nothing_is_constrained_where_nothing_can_be_called() -> None:
    form = TOOL_FORMATS["hermes"]
    assert tool_grammar(form, ToolUse()) is None
    assert tool_grammar(form, ToolUse(tools=(WEATHER,), choice="none")) is None


def test_a_choice_of_no_tool_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no tool named other"):
        tool_grammar(TOOL_FORMATS["hermes"], ToolUse(tools=(WEATHER,), choice="other"))
    with pytest.raises(InvalidRequest, match='of f must have the type "object"'):
        Tool(name="f", parameters={"type": "string"}).schema()


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("name", FORMS)
def test_a_grammar_of_many_tools_is_as_deep_and_little_larger(name: str, choice: str) -> None:
    def grammar(count: int) -> str:
        tools = tuple(Tool(name=f"f{n:04}", parameters=WEATHER.parameters) for n in range(count))
        found = tool_grammar(TOOL_FORMATS[name], ToolUse(tools=tools, choice=choice))
        assert found is not None
        return found

    assert len(grammar(128)) < 20 * len(grammar(8))
    assert nesting(grammar(128)) == nesting(grammar(1)) < 16
    Walk(grammar(128))
