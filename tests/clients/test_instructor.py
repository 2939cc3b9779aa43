"""Instructor, in each of its modes that goes by OpenAI's or Anthropic's interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.clients.features import REAL, Anything, Feature, Place, library, shows
from tests.server.serving import MODEL

anthropic = library("anthropic")
instructor = library("instructor")
litellm = library("litellm")
openai = library("openai")

pytestmark = REAL
Client = Callable[[str], Any]

ASKED: Any = [{"role": "user", "content": "Tell me about Paris, in JSON."}]
BLOCK = (
    r"```json\n\{\"name\": \"[A-Z][a-z]{1,8}\", \"kind\": \"city\", \"inhabitants\": [1-9]\}\n```"
)


def mode(name: str, *needs: Feature) -> Any:
    return pytest.param(name, marks=shows("structured output", *needs))


@pytest.fixture
def client(v1: str) -> Iterator[Client]:
    """Makes clients of a mode."""
    with openai.OpenAI(base_url=v1, api_key="none", max_retries=0) as inner:
        yield lambda name: instructor.from_openai(inner, mode=instructor.Mode[name])


@pytest.mark.parametrize(
    "name",
    [
        mode("TOOLS", "tools"),
        mode("TOOLS_STRICT", "tools"),
        mode("FUNCTIONS", "tools"),
        mode("JSON_SCHEMA"),
    ],
)
def test_modes_with_a_schema(client: Client, name: str) -> None:
    """Modes that send the schema: TOOLS, TOOLS_STRICT, FUNCTIONS, JSON_SCHEMA."""
    place = client(name).create(
        model=MODEL, response_model=Place, messages=ASKED, max_tokens=200, max_retries=0
    )
    assert isinstance(place, Place)


@shows("structured output")
def test_json(client: Client, empty_object: dict[str, Any]) -> None:
    """JSON, which asks for any object."""
    found = client("JSON").create(
        model=MODEL,
        response_model=Anything,
        messages=ASKED,
        max_tokens=20,
        max_retries=0,
        extra_body=empty_object,
    )
    assert isinstance(found, Anything)
    assert found.model_dump() == {}


@shows("structured output")
def test_markdown(client: Client) -> None:
    """MD_JSON asks for a block of Markdown, which a grammar can hold the model to."""
    place = client("MD_JSON").create(
        model=MODEL,
        response_model=Place,
        messages=ASKED,
        max_tokens=60,
        max_retries=0,
        extra_body={"guided_regex": BLOCK},
    )
    assert isinstance(place, Place)


@shows("structured output", "stream")
@pytest.mark.parametrize(
    "name",
    ["JSON_SCHEMA", pytest.param("TOOLS", marks=shows("structured output", "stream", "tools"))],
)
def test_partial(client: Client, name: str) -> None:
    """`create_partial`, which reads a stream."""
    places = client(name).create_partial(
        model=MODEL, response_model=Place, messages=ASKED, max_tokens=200, max_retries=0
    )
    assert list(places)[-1].kind in ("city", "river")


@shows("structured output", "tools")
def test_parallel_tools(client: Client) -> None:
    """PARALLEL_TOOLS, which leaves it to the model whether it calls unless that is asked for."""
    found = client("PARALLEL_TOOLS").create(
        model=MODEL,
        response_model=Iterable[Place],
        messages=ASKED,
        max_tokens=200,
        max_retries=0,
        extra_body={"tool_choice": "required", "parallel_tool_calls": False},
    )
    assert [type(each) for each in found] == [Place]


@shows("responses", "tools", "structured output")
def test_responses(client: Client) -> None:
    """RESPONSES_TOOLS."""
    place = client("RESPONSES_TOOLS").create(
        model=MODEL, response_model=Place, messages=ASKED, max_retries=0
    )
    assert isinstance(place, Place)


@shows("messages", "tools", "structured output")
@pytest.mark.parametrize("name", ["ANTHROPIC_TOOLS"])
def test_anthropic(url: str, name: str) -> None:
    """ANTHROPIC_TOOLS, by Anthropic's client."""
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as inner:
        place = instructor.from_anthropic(inner, mode=instructor.Mode[name]).create(
            model=MODEL, response_model=Place, messages=ASKED, max_tokens=200, max_retries=0
        )
    assert isinstance(place, Place)


@shows("structured output")
def test_from_litellm(v1: str) -> None:
    """`from_litellm`, JSON_SCHEMA."""
    place = instructor.from_litellm(litellm.completion, mode=instructor.Mode.JSON_SCHEMA).create(
        model=f"openai/{MODEL}",
        api_base=v1,
        api_key="none",
        response_model=Place,
        messages=ASKED,
        max_tokens=200,
        max_retries=0,
    )
    assert isinstance(place, Place)
