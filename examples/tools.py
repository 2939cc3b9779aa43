"""A tool that must be called, on a running server (`make serve`): pip install openai."""

import os

from openai import OpenAI
from openai.types.chat import ChatCompletionToolParam

MODEL = "smollm2-135m-instruct"
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Bern"]}, "days": {"enum": [1, 2, 3]}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def main() -> None:
    url = os.environ.get("HEADWAY_URL", "http://127.0.0.1:8000")
    answer = OpenAI(base_url=f"{url}/v1", api_key="none").chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How will the weather be in Paris tomorrow?"}],
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
    )
    for call in answer.choices[0].message.tool_calls or []:
        if call.type == "function":
            print(call.function.name, call.function.arguments)


if __name__ == "__main__":
    main()
