"""Tools over HTTP: the real command, the real default model, the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.grammar.schemas import SCHEMAS
from tests.server.serving import MODEL, headway_serve, until_idle

pytestmark = pytest.mark.model

ASKED: Any = [{"role": "user", "content": "How will the weather be in Paris tomorrow?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def tool(name: str, schema: dict[str, Any] | None = None) -> Any:
    function = {"name": name, "description": "The weather in a city."}
    return {"type": "function", "function": function | {"parameters": schema or SCHEMA}}


TOOLS = [tool("weather"), tool("clock", {"type": "object", "properties": {}})]
ASK: dict[str, Any] = {"model": MODEL, "messages": ASKED, "tools": TOOLS, "max_tokens": 400}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway_serve() as (_, url):
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def check(message: Any, tools: list[Any]) -> list[tuple[str, str]]:
    """The calls of a message, after a look at whether they are what their tools ask for."""
    schemas = {each["function"]["name"]: each["function"]["parameters"] for each in tools}
    calls = [(each.function.name, each.function.arguments) for each in message.tool_calls or ()]
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), schemas[name])
    return calls


def streamed(stream: Any) -> tuple[str, list[tuple[str, str]], str]:
    """What the chunks of one answer add up to: content, calls, why it ended."""
    calls: list[list[str]] = []
    content = finish = ""
    for chunk in stream:
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        finish = choice.finish_reason or finish
        for each in choice.delta.tool_calls or ():
            if each.index == len(calls):
                calls.append([each.function.name, ""])
            calls[each.index][1] += each.function.arguments or ""
    return content, [(name, arguments) for name, arguments in calls], finish


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("parallel", [True, False])
def test_required_calls_are_valid_whole_and_streamed(
    client: openai.OpenAI, temperature: float, parallel: bool
) -> None:
    asked = ASK | {
        "tool_choice": "required",
        "parallel_tool_calls": parallel,
        "temperature": temperature,
        "seed": 3,
        "max_tokens": 1500,
    }
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = check(choice.message, TOOLS)
    assert len(calls) == 1 or (parallel and calls)
    content, pieces, finish = streamed(client.chat.completions.create(**asked, stream=True))
    assert (content, pieces, finish) == ("", calls, "tool_calls")


def test_a_tool_by_name_is_called(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "clock"}}
    answer = client.chat.completions.create(**ASK, tool_choice=choice, temperature=1, seed=1)
    assert check(answer.choices[0].message, TOOLS) == [("clock", "{}")]
    assert answer.choices[0].finish_reason == "stop"


def test_a_conversation_with_tools_comes_to_an_answer(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(**ASK, tool_choice="required", temperature=0)
    message = first.choices[0].message
    assert message.tool_calls
    results = [
        {"role": "tool", "tool_call_id": each.id, "content": "Sun, 20 degrees."}
        for each in message.tool_calls
    ]
    history = [*ASKED, message, *results]
    last = client.chat.completions.create(
        **ASK | {"messages": history, "max_tokens": 30}, tool_choice="none", temperature=0
    )
    assert last.choices[0].message.content
    assert last.choices[0].message.tool_calls is None


def test_auto_is_text_or_valid_calls(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda seed: client.chat.completions.create(
                    **ASK | {"max_tokens": 120}, temperature=1, seed=seed
                ),
                range(8),
            )
        )
    for answer in answers:
        choice = answer.choices[0]
        if choice.finish_reason == "length":
            continue
        assert bool(check(choice.message, TOOLS)) == (choice.finish_reason == "tool_calls")


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.dictionaries(st.sampled_from("abc"), SCHEMAS, max_size=3), min_size=1, max_size=3
    ),
    temperature=st.sampled_from((0.0, 1.0)),
    seed=st.integers(0, 1000),
    stream=st.booleans(),
)
def test_any_tools_that_must_be_called_are_called_as_their_schemas_say(
    client: openai.OpenAI, parts: list[Any], temperature: float, seed: int, stream: bool
) -> None:
    tools = []
    for number, properties in enumerate(parts):
        schema: dict[str, Any] = {
            # What refers to its own beginning is no part of another schema.
            "properties": {n: each for n, each in properties.items() if "$defs" not in each},
            "type": "object",
            "additionalProperties": False,
        }
        tools.append(tool(f"f{number}", schema | {"required": list(schema["properties"])}))
    asked = ASK | {
        "tools": tools,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": temperature,
        "seed": seed,
    }
    answer = client.chat.completions.create(**asked).choices[0]
    if answer.finish_reason != "length":
        (call,) = check(answer.message, tools)
        if stream:
            _, calls, finish = streamed(client.chat.completions.create(**asked, stream=True))
            assert (calls, finish) == ([call], "tool_calls")


def test_answers_do_not_depend_on_the_batch(client: openai.OpenAI, url: str) -> None:
    """Calls that must be made, calls that may be, and plain answers at once and one by one."""
    kinds: list[dict[str, Any]] = [
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": TOOLS},
        {},
    ]

    def ask(number: int) -> tuple[Any, ...]:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            max_tokens=40,
            temperature=1,
            seed=number,
            **kinds[number % 3],
        )
        message = answer.choices[0].message
        calls = [each.function for each in message.tool_calls or () if each.type == "function"]
        return message.content, calls, answer.choices[0].finish_reason

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone
    until_idle(url)
