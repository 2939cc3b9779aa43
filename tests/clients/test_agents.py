"""OpenAI's Agents SDK, with its model of chat completions and its default, of responses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from tests.clients.features import REAL, Feature, Place, library, shows
from tests.server.serving import MODEL

agents = library("agents")
openai = library("openai")

pytestmark = REAL

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Agent = Callable[..., Any]
ASKED = "The weather in Paris?"
SOON_OVER = {"structured_outputs": {"regex": "[A-Z][a-z ]{1,20}"}}
"""The model of responses takes no answer that was cut off."""


def both(feature: Feature, *needs: Feature) -> Any:
    """A test with the model of chat completions, and with that of responses."""
    return pytest.mark.parametrize(
        "kind",
        [
            pytest.param("chat", marks=shows(feature, *needs)),
            pytest.param("responses", marks=shows("responses", feature, *needs)),
        ],
    )


@pytest.fixture
def agent(v1: str, kind: str, run: Run) -> Iterator[Agent]:
    """Makes agents with the kind of model that the test is given."""
    make = agents.OpenAIResponsesModel if kind == "responses" else agents.OpenAIChatCompletionsModel
    client = openai.AsyncOpenAI(base_url=v1, api_key="none", max_retries=0)

    def build(*, choice: str | None = None, **more: Any) -> Any:
        free = not more.keys() & {"tools", "handoffs", "output_type"}
        return agents.Agent(
            **{"name": "guide", "instructions": "Be short."} | more,
            model=make(MODEL, client),
            model_settings=agents.ModelSettings(
                temperature=0,
                max_tokens=400,
                tool_choice=choice,
                parallel_tool_calls=False if choice else None,
                extra_body=SOON_OVER if free else None,
            ),
        )

    agents.set_tracing_disabled(True)
    yield build
    run(client.close())


def turns(agent: Any) -> Coroutine[Any, Any, Any]:
    result: Coroutine[Any, Any, Any] = agents.Runner.run(agent, ASKED, max_turns=3)
    return result


async def streamed(agent: Any) -> tuple[list[Any], Any]:
    """All events, and the last answer."""
    result = agents.Runner.run_streamed(agent, ASKED, max_turns=3)
    events = [event async for event in result.stream_events()]
    return events, result.final_output


class Weather:
    """A tool, and what it was asked."""

    def __init__(self) -> None:
        self.cities: list[str] = []

        def get_weather(city: Annotated[str, Field(max_length=12)]) -> str:
            """The weather in a city."""
            self.cities.append(city)
            return "It rains."

        self.tool = agents.function_tool(get_weather)


@both("chat")
def test_run(agent: Agent, run: Run) -> None:
    """`Runner.run`."""
    assert run(turns(agent())).final_output


@both("stream")
def test_run_streamed(agent: Agent, run: Run) -> None:
    """`Runner.run_streamed`."""
    events, answer = run(streamed(agent()))
    assert len(events) > 3
    assert answer


@both("tools")
def test_tools(agent: Agent, run: Run) -> None:
    """A function as a tool that must be called, and the answer after its result."""
    weather = Weather()
    assert run(turns(agent(choice="required", tools=[weather.tool]))).final_output
    assert weather.cities


@both("tools", "stream")
def test_tools_as_a_stream(agent: Agent, run: Run) -> None:
    """A function as a tool, with `run_streamed`."""
    weather = Weather()
    _, answer = run(streamed(agent(choice="required", tools=[weather.tool])))
    assert weather.cities
    assert answer


@both("tools")
def test_handoffs(agent: Agent, run: Run) -> None:
    """A handoff that must be made: another agent answers."""
    other = agent(name="other")
    result = run(turns(agent(choice="required", handoffs=[other])))
    assert result.last_agent.name == "other"
    assert result.final_output


@both("structured output")
def test_output_type(agent: Agent, run: Run) -> None:
    """`output_type`, a pydantic model."""
    assert isinstance(run(turns(agent(output_type=Place))).final_output, Place)
