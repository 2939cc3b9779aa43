"""Anthropic's client and a tool, on a running server (`make serve`): pip install anthropic."""

import os

from anthropic import Anthropic
from anthropic.types import ToolParam

MODEL = "smollm2-135m-instruct"
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Bern"]}, "days": {"enum": [1, 2, 3]}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


def main() -> None:
    url = os.environ.get("HEADWAY_URL", "http://127.0.0.1:8000")
    client = Anthropic(base_url=url, api_key="none")
    answer = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": "How will the weather be in Paris tomorrow?"}],
        tools=[WEATHER],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    for block in answer.content:
        if block.type == "tool_use":
            print(block.name, block.input)


if __name__ == "__main__":
    main()
