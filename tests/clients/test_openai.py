"""The official client of OpenAI."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from tests.clients.features import QUESTION, REAL, Place, library, shows
from tests.server.serving import MODEL

openai = library("openai")

pytestmark = REAL

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": WEATHER},
}
OTHER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
RESPONSES_TOOL: dict[str, Any] = {"type": "function", "strict": True} | TOOL["function"]
SHORT: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
CALLING: dict[str, Any] = SHORT | {"tools": [TOOL, OTHER_TOOL], "max_tokens": 150}


@pytest.fixture
def client(v1: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=v1, api_key="none", max_retries=0) as client:
        yield client


def checked(call: Any) -> None:
    """A call of one of the two tools, with arguments that its schema allows."""
    tools = {each["function"]["name"]: each["function"] for each in (TOOL, OTHER_TOOL)}
    jsonschema.validate(json.loads(call.arguments), tools[call.name]["parameters"])


@shows("chat")
def test_chat_completions(client: Any) -> None:
    """Chat completions with `n`, `logprobs`, `stop` and `seed`."""
    answer = client.chat.completions.create(
        **SHORT | {"n": 2, "temperature": 1}, logprobs=True, top_logprobs=2, stop=["\n"], seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].logprobs.content[0].top_logprobs[1].logprob <= 0
    assert answer.usage.completion_tokens > 0


@shows("chat")
def test_completions(client: Any) -> None:
    """Completions, of which one shows its prompt with `echo`."""
    answer = client.completions.create(model=MODEL, prompt="The capital", max_tokens=3, echo=True)
    assert answer.choices[0].text.startswith("The capital")


@shows("chat")
def test_fields_that_ask_for_nothing(client: Any) -> None:
    """`metadata`, `store`, `service_tier`, `verbosity`, `modalities`, `prompt_cache_key`, ..."""
    answer = client.chat.completions.create(
        **SHORT,
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        verbosity="low",
        modalities=["text"],
        prompt_cache_key="k",
        safety_identifier="s",
        parallel_tool_calls=True,
        user="u",
    )
    assert answer.choices[0].message.content


@shows("chat")
def test_models_and_errors(client: Any) -> None:
    """Models, and errors as exceptions of the library's own."""
    assert MODEL in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**SHORT | {"model": "no-such-model"})
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**SHORT | {"temperature": -1})
    assert caught.value.param == "temperature"


@shows("chat")
def test_the_asynchronous_client(v1: str, run: Callable[..., Any]) -> None:
    """`AsyncOpenAI`."""

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=v1, api_key="none") as client:
            return await client.chat.completions.create(**SHORT)

    assert run(ask()).choices[0].message.content


@shows("stream")
def test_streams(client: Any) -> None:
    """Streams, with `stream_options`, and the library's `stream` helper."""
    whole = client.chat.completions.create(**SHORT).choices[0].message.content
    chunks = list(
        client.chat.completions.create(**SHORT, stream=True, stream_options={"include_usage": True})
    )
    assert whole == "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage.completion_tokens > 0
    # The helper takes no answer that was cut off.
    with client.chat.completions.stream(**SHORT | {"max_tokens": 200}) as stream:
        assert stream.get_final_completion().choices[0].message.content.startswith(whole)


@shows("tools")
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str
)
def test_tools_that_must_be_called(client: Any, choice: Any) -> None:
    """`tool_choice` required or named: a call with arguments that match its schema."""
    answer = client.chat.completions.create(**CALLING, tool_choice=choice).choices[0]
    assert answer.finish_reason in ("tool_calls", "stop")
    assert answer.message.tool_calls
    for call in answer.message.tool_calls:
        assert call.id
        checked(call.function)
    if choice != "required":
        assert [each.function.name for each in answer.message.tool_calls] == ["get_weather"]


@shows("tools")
@pytest.mark.parametrize("choice", ["none", "auto", None])
def test_tools_that_need_not_be_called(client: Any, choice: str | None) -> None:
    """`tool_choice` auto, none or absent, and `tools: []`."""
    given = {} if choice is None else {"tool_choice": choice}
    answer = client.chat.completions.create(**CALLING, **given).choices[0].message
    if choice == "none":
        assert not answer.tool_calls
        answer = client.chat.completions.create(**SHORT, tools=[]).choices[0].message
    assert answer.content or answer.tool_calls


@shows("tools", "stream")
def test_calls_as_a_stream(client: Any) -> None:
    """Arguments of calls as they come, and the library's `stream` helper."""
    asked = CALLING | {"tool_choice": "required", "parallel_tool_calls": False}
    name, arguments, pieces = "", "", 0
    for chunk in client.chat.completions.create(**asked, stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.index == 0
            name = name or call.function.name
            arguments += call.function.arguments or ""
            pieces += bool(call.function.arguments)
    (whole,) = client.chat.completions.create(**asked).choices[0].message.tool_calls
    assert (name, arguments) == (whole.function.name, whole.function.arguments)
    checked(whole.function)
    assert pieces > 1 or arguments == "{}"
    with client.chat.completions.stream(**asked) as stream:
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.arguments == arguments


@shows("tools")
def test_results_of_tools(client: Any) -> None:
    """A conversation that goes on after its calls: `tool_calls`, `role: tool`, `content: null`."""
    asked = CALLING | {"tool_choice": "required", "parallel_tool_calls": False}
    first = client.chat.completions.create(**asked).choices[0].message
    (call,) = first.tool_calls
    history = [
        *QUESTION,
        first,
        {"role": "tool", "tool_call_id": call.id, "content": "It is Paris."},
    ]
    answer = client.chat.completions.create(
        **CALLING | {"messages": history, "tool_choice": "none"}
    )
    assert answer.choices[0].message.content


@shows("tools", "structured output")
def test_tools_from_pydantic_models(client: Any) -> None:
    """`pydantic_function_tool` with `parse`: arguments come as the model."""
    answer = client.chat.completions.parse(
        **SHORT | {"max_tokens": 150},
        tools=[openai.pydantic_function_tool(Place)],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Place)


@shows("structured output")
@pytest.mark.parametrize("form", ["json_object", "json_schema"])
def test_response_formats(client: Any, empty_object: dict[str, Any], form: str) -> None:
    """`response_format` json_object and json_schema, whole and as a stream."""
    asked: dict[str, Any] = SHORT | {"max_tokens": 150, "response_format": {"type": form}}
    if form == "json_schema":
        asked["response_format"]["json_schema"] = {"name": "w", "strict": True, "schema": WEATHER}
    else:
        asked["extra_body"] = empty_object
    whole = client.chat.completions.create(**asked).choices[0].message.content
    pieces = client.chat.completions.create(**asked, stream=True)
    assert whole == "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    if form == "json_schema":
        jsonschema.validate(json.loads(whole), WEATHER)
    else:
        assert json.loads(whole) == {}


@shows("structured output")
def test_parse(client: Any) -> None:
    """`parse` and the `stream` helper with a pydantic model."""
    asked = SHORT | {"max_tokens": 150, "response_format": Place}
    assert isinstance(client.chat.completions.parse(**asked).choices[0].message.parsed, Place)
    with client.chat.completions.stream(**asked) as stream:
        last = stream.get_final_completion().choices[0].message
    assert isinstance(last.parsed, Place)


@shows("responses")
def test_responses(client: Any) -> None:
    """`responses.create`, and one that follows another by `previous_response_id`."""
    asked: dict[str, Any] = {"model": MODEL, "max_output_tokens": 12, "temperature": 0}
    first = client.responses.create(**asked, input="Which city?", instructions="Be short.")
    assert first.output_text
    second = client.responses.create(
        **asked, input=[{"role": "user", "content": "And why?"}], previous_response_id=first.id
    )
    assert second.output_text
    assert second.usage.input_tokens > first.usage.input_tokens


@shows("responses", "stream")
def test_responses_as_a_stream(client: Any) -> None:
    """Responses as a stream of events, and the library's `stream` helper."""
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": "Which city?",
        "max_output_tokens": 12,
        "temperature": 0,
    }
    whole = client.responses.create(**asked).output_text
    events = list(client.responses.create(**asked, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert whole == "".join(e.delta for e in events if e.type == "response.output_text.delta")
    # The helper takes no response that was cut off.
    with client.responses.stream(**asked | {"max_output_tokens": 300}) as stream:
        assert stream.get_final_response().output_text.startswith(whole)


@shows("responses", "tools")
def test_responses_with_tools(client: Any) -> None:
    """Functions in responses, whole and as a stream, and their outputs as the next input."""
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_output_tokens": 150,
        "temperature": 0,
        "tools": [RESPONSES_TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    first = client.responses.create(**asked, input="The weather in Paris?")
    (call,) = [item for item in first.output if item.type == "function_call"]
    checked(call)
    events = client.responses.create(**asked, input="The weather in Paris?", stream=True)
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}
    answer = client.responses.create(
        **asked | {"tool_choice": "none"}, input=[result], previous_response_id=first.id
    )
    assert answer.output_text


@shows("responses", "structured output")
def test_responses_parsed(client: Any) -> None:
    """`responses.parse` with a pydantic model."""
    answer = client.responses.parse(
        model=MODEL, input="Tell me about Paris.", text_format=Place, max_output_tokens=150
    )
    assert isinstance(answer.output_parsed, Place)


@shows("responses")
def test_stored_responses(client: Any) -> None:
    """Responses that are kept: `retrieve` and `delete`."""
    first = client.responses.create(model=MODEL, input="Hi", max_output_tokens=3)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


@shows("embeddings", refused="there is no endpoint for them; serve an embedding model elsewhere")
def test_embeddings_are_refused(client: Any) -> None:
    """`embeddings.create`."""
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")
