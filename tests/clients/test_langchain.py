"""LangChain's chat model for OpenAI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.features import REAL, Anything, Place, library, shows
from tests.server.serving import MODEL

langchain = library("langchain_openai")
messages = library("langchain_core.messages")
openai = library("openai")

pytestmark = REAL
Model = Callable[..., Any]


def get_weather(city: str, unit: str) -> str:
    """The weather in a city."""
    return f"20 degrees {unit} in {city}"


@pytest.fixture
def model(v1: str, run: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Makes chat models, with a limit on their answers and further settings."""
    # Its own are kept for good, and so are their connections.
    http, asynchronous = openai.DefaultHttpxClient(), openai.DefaultAsyncHttpxClient()

    def make(most: int = 12, **settings: Any) -> Any:
        return langchain.ChatOpenAI(
            model=MODEL,
            base_url=v1,
            api_key="none",
            temperature=0,
            max_tokens=most,
            max_retries=0,
            http_client=http,
            http_async_client=asynchronous,
            **settings,
        )

    yield make
    http.close()
    run(asynchronous.aclose())


@shows("chat")
def test_invoke_and_batch(model: Model, run: Callable[..., Any]) -> None:
    """`invoke`, `ainvoke` and `batch`."""
    chat = model()
    answer = chat.invoke("Which city is the capital of France?")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert len(chat.batch(["Hi", "Hello"])) == 2
    assert run(model().ainvoke("Hi")).content


@shows("stream")
def test_stream(model: Model, run: Callable[..., Any]) -> None:
    """`stream` and `astream`."""
    chat = model()
    assert "".join(chunk.content for chunk in chat.stream("Hi")) == chat.invoke("Hi").content

    async def read() -> list[Any]:
        return [chunk async for chunk in model().astream("Hi")]

    assert run(read())


@shows("tools")
@pytest.mark.parametrize("choice", ["any", "get_weather", "auto"])
def test_bind_tools(model: Model, choice: str) -> None:
    """`bind_tools` with any, a named and an automatic choice, and a result as the next message."""
    chat = model(200).bind_tools([bounded_tool()], tool_choice=choice)
    answer = chat.invoke("The weather in Paris?")
    assert not answer.invalid_tool_calls
    if choice == "auto":
        assert answer.content or answer.tool_calls
        return
    assert {call["name"] for call in answer.tool_calls} == {"get_weather"}
    assert set(answer.tool_calls[0]["args"]) == {"city", "unit"}
    results = [
        messages.ToolMessage("It rains.", tool_call_id=call["id"]) for call in answer.tool_calls
    ]
    assert model().invoke([("user", "The weather?"), answer, *results]).content


@shows("tools")
def test_a_function_as_a_tool(model: Model) -> None:
    """A Python function whose arguments have no bounds, cut off or complete."""
    answer = model(40).bind_tools([get_weather], tool_choice="any").invoke("Hi")
    assert answer.tool_calls or answer.invalid_tool_calls or answer.content is not None


@shows("tools", "stream")
def test_calls_as_a_stream(model: Model) -> None:
    """Calls as a stream: chunks that add up to the whole."""
    chat = model(200).bind_tools([bounded_tool()], tool_choice="any")
    whole = chat.invoke("The weather in Paris?")
    first, *others = chat.stream("The weather in Paris?")
    for chunk in others:
        first += chunk
    assert [call["args"] for call in first.tool_calls] == [c["args"] for c in whole.tool_calls]


@shows("structured output")
@pytest.mark.parametrize(
    "method",
    [
        "json_schema",
        "json_mode",
        pytest.param("function_calling", marks=shows("structured output", "tools")),
    ],
)
def test_with_structured_output(model: Model, empty_object: dict[str, Any], method: str) -> None:
    """`with_structured_output`, all three methods."""
    form: type = Anything if method == "json_mode" else Place
    extra = empty_object if method == "json_mode" else {}
    chat = model(200, extra_body=extra).with_structured_output(form, method=method)
    assert isinstance(chat.invoke("Tell me about Paris, in JSON."), form)


@shows("structured output", "stream")
def test_structured_output_as_a_stream(model: Model) -> None:
    """`stream` of `with_structured_output`."""
    chat = model(200).with_structured_output(Place)
    assert isinstance(list(chat.stream("Tell me about Paris."))[-1], Place)


@shows("responses")
def test_responses(model: Model) -> None:
    """`use_responses_api`: `invoke`, `stream` and `use_previous_response_id`."""
    chat = model(use_responses_api=True)
    first = chat.invoke("Hi")
    assert first.text
    assert "".join(chunk.text for chunk in chat.stream("Hi")) == first.text
    going_on = model(use_responses_api=True, use_previous_response_id=True)
    answer = going_on.invoke([("user", "Hi"), first, ("user", "And why?")])
    assert answer.text


@shows("responses", "tools")
def test_responses_with_tools(model: Model) -> None:
    """`use_responses_api` with `bind_tools`."""
    chat = model(200, use_responses_api=True)
    answer = chat.bind_tools([bounded_tool()], tool_choice="any").invoke("The weather in Paris?")
    assert {call["name"] for call in answer.tool_calls} == {"get_weather"}


@shows("responses", "structured output")
def test_responses_with_structured_output(model: Model) -> None:
    """`use_responses_api` with `with_structured_output`."""
    chat = model(200, use_responses_api=True).with_structured_output(Place)
    assert isinstance(chat.invoke("Tell me about Paris."), Place)


@shows("embeddings", refused="there is no endpoint for them; serve an embedding model elsewhere")
def test_embeddings_are_refused(v1: str) -> None:
    """`OpenAIEmbeddings`."""
    http = openai.DefaultHttpxClient()
    embeddings = langchain.OpenAIEmbeddings(
        model=MODEL,
        base_url=v1,
        api_key="none",
        check_embedding_ctx_length=False,
        http_client=http,
    )
    with pytest.raises(openai.NotFoundError), http:
        embeddings.embed_query("x")


def bounded_tool() -> dict[str, Any]:
    """`get_weather` with arguments that end."""
    return {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    }
