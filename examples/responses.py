"""The Responses API of a running server (`make serve`): pip install openai pydantic."""

import json
import os
from typing import Any

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel, Field

MODEL = "smollm2-135m-instruct"


class Weather(BaseModel):
    city: str = Field(max_length=20)
    days: int = Field(ge=0, le=5)


def main() -> None:
    url = os.environ.get("HEADWAY_URL", "http://127.0.0.1:8000")
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    tool: Any = {"type": "function"} | dict(pydantic_function_tool(Weather)["function"])
    first = client.responses.create(
        model=MODEL,
        input="How will the weather be in Paris tomorrow?",
        tools=[tool],
        tool_choice={"type": "function", "name": "Weather"},
        temperature=0,
    )
    call: Any = first.output[0]
    print(call.name, json.loads(call.arguments))
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    # The server keeps the conversation: what is new is sent.
    last = client.responses.create(
        model=MODEL, input=[result], previous_response_id=first.id, max_output_tokens=32
    )
    print(last.output_text)


if __name__ == "__main__":
    main()
