"""The Responses API of a running server (`make serve`): pip install openai pydantic."""

import os

from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = "smollm2-135m-instruct"


class City(BaseModel):
    name: str = Field(max_length=40)
    inhabitants: int = Field(ge=0, le=50_000_000)


def main() -> None:
    url = os.environ.get("HEADWAY_URL", "http://127.0.0.1:8000")
    client = OpenAI(base_url=f"{url}/v1", api_key="none")

    first = client.responses.create(
        model=MODEL, input="What is the capital of France?", temperature=0, max_output_tokens=32
    )
    print(first.output_text)

    # The server keeps the conversation; only what is new is sent.
    with client.responses.stream(
        model=MODEL,
        input="Describe it, in JSON.",
        previous_response_id=first.id,
        text_format=City,
        temperature=0,
    ) as stream:
        final = stream.get_final_response()
    print(final.output_parsed)


if __name__ == "__main__":
    main()
