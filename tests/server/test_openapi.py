"""The API's description: what it says is what the server does."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.server.endpoints import ENDPOINTS
from headway.server.middleware import is_protected
from headway.server.openapi import ModelBounds, describe, numbers_up_to
from tests.server.conftest import Running, serving

BOUNDS = ModelBounds(
    vocab_size=1000,
    max_model_len=64,
    template_variables=frozenset(("thinking",)),
    unread_fields=frozenset(("name",)),
)


def schemas(bounds: ModelBounds | None = BOUNDS) -> dict[str, Any]:
    found: dict[str, Any] = describe(ENDPOINTS, bounds=bounds)["components"]["schemas"]
    return found


def given(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a field that may be null, what it is otherwise."""
    found: dict[str, Any] = schema["anyOf"][0]
    return found


@pytest.mark.parametrize("last", [0, 7, 9, 10, 19, 20, 99, 100, 305, 999, 1000, 4911])
def test_a_pattern_for_numbers(last: int) -> None:
    pattern = re.compile(f"^({numbers_up_to(last)})$")
    matching = {number for number in range(12_000) if pattern.match(str(number))}
    assert matching == set(range(last + 1))
    assert not any(pattern.match(text) for text in ("", "-1", "00", "1a", "1.0"))


def test_the_model_bounds_what_it_bounds() -> None:
    body = schemas()["CompletionBody"]["properties"]
    assert given(body["max_tokens"])["maximum"] == 63
    assert given(body["stop_token_ids"])["items"]["maximum"] == 999
    names = re.compile(given(body["logit_bias"])["propertyNames"]["pattern"])
    assert names.match("999")
    assert not names.match("1000")
    chat = schemas()["ChatBody"]["properties"]
    assert given(chat["chat_template_kwargs"])["properties"] == {"thinking": True}
    assert schemas()["Message"]["properties"]["name"]["type"] == "null"
    assert "anyOf" in schemas()["Message"]["properties"]["tool_call_id"]
    assert schemas()["DetokenizeBody"]["properties"]["tokens"]["items"]["maximum"] == 999


@pytest.mark.parametrize("bounds", [None, BOUNDS])
def test_no_mark_of_ours_is_left(bounds: ModelBounds | None) -> None:
    # A field may be named so, but no schema has a format.
    assert '"format": "' not in str(describe(ENDPOINTS, bounds=bounds)).replace("'", '"')


def test_the_served_description_is_that_of_the_model(server: Running, http: httpx.Client) -> None:
    body = http.get("/openapi.json").json()["components"]["schemas"]["CompletionBody"]
    assert given(body["properties"]["max_tokens"])["maximum"] == server.llm.max_model_len - 1


@pytest.mark.parametrize(("policy", "most"), [("fcfs", 0), ("priority", 10)])
def test_priorities_are_described_as_they_are_taken(policy: Any, most: int) -> None:
    config = ServerConfig(port=0, scheduling_policy=policy)
    with serving(config=config) as server, server.http() as http:
        body = http.get("/openapi.json").json()["components"]["schemas"]["CompletionBody"]
        described = given(body["properties"]["priority"])
        assert (described["minimum"], described["maximum"]) == (-most, most)
        for asked in (-most, most, most + 1):
            sent = {"prompt": "x", "max_tokens": 1, "priority": asked}
            answer = http.post("/v1/completions", json=sent)
            assert answer.status_code == (200 if asked <= most else 400)


def test_keys_are_described_where_they_are_needed() -> None:
    config = ServerConfig(port=0, api_key=("secret",))
    with serving(config=config) as server, server.http() as http:
        paths = http.get("/openapi.json").json()["paths"]
        for path, operations in paths.items():
            for method, operation in operations.items():
                answer = http.request(method, path.replace("{model}", "alphabet"))
                assert (answer.status_code == 401) == is_protected(path)
                assert bool(operation.get("security")) == is_protected(path)
                assert str(answer.status_code) in operation["responses"]
    assert all(
        not operation.get("security")
        for operations in describe(ENDPOINTS)["paths"].values()
        for operation in operations.values()
    )


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/completions", {"prompt": ""}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": [[]]}, "prompt[0]"),
        ("/v1/completions", {"prompt": "x", "n": 0}, "n"),
        ("/v1/completions", {"prompt": "x", "n": 129}, "n"),
        ("/v1/completions", {"prompt": "x", "n": 1.5}, "n"),
        ("/v1/completions", {"prompt": "x", "top_p": 0}, "top_p"),
        ("/v1/completions", {"prompt": "x", "stop": [""]}, "stop[0]"),
        ("/v1/completions", {"prompt": "x", "allowed_token_ids": []}, "allowed_token_ids"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {}, "prompt"),
    ],
)
def test_least_values(http: httpx.Client, path: str, body: dict[str, Any], field: str) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_a_number_without_fraction_is_an_integer(http: httpx.Client) -> None:
    body = {"prompt": [120.0], "max_tokens": 2.0, "n": 1, "temperature": 0.5, "seed": 3.0}
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 2
    for odd in (1e300, 0.5, float(2**63)):
        answer = http.post("/v1/completions", json={"prompt": "x", "max_tokens": odd})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "max_tokens"
