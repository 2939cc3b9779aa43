"""Answers of a given form, from a running server (`make serve`): pip install openai pydantic."""

import os

from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = "smollm2-135m-instruct"


class City(BaseModel):
    name: str = Field(max_length=40)
    country: str = Field(max_length=40)
    inhabitants: int = Field(ge=0, le=50_000_000)


def main() -> None:
    url = os.environ.get("HEADWAY_URL", "http://127.0.0.1:8000")
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe Paris, in JSON."}],
        response_format=City,
        temperature=0,
    )
    print(answer.choices[0].message.parsed)
    chosen = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Is Paris a city? Answer yes or no."}],
        extra_body={"structured_outputs": {"choice": ["yes", "no"]}},
        temperature=0,
    )
    print(chosen.choices[0].message.content)


if __name__ == "__main__":
    main()
