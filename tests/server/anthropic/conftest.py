"""The official client, where it is installed, and what its types say of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.conftest import Running

HELLO: Any = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {"messages": HELLO, "max_tokens": 3}


def client_of(server: Running, **settings: Any) -> Any:
    """An `anthropic.Anthropic` that does not try again."""
    anthropic = pytest.importorskip("anthropic")
    given = {"api_key": "none", "max_retries": 0} | settings
    return anthropic.Anthropic(base_url=server.url, **given)


@pytest.fixture(scope="module")
def shared_claude(shared: Running) -> Iterator[Any]:
    with client_of(shared) as client:
        yield client


@pytest.fixture
def claude(server: Running, shared_claude: Any) -> Any:
    return shared_claude


def events_of(http: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream, each with the name that its line gives it."""
    answer = http.post("/v1/messages", json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    return events_in(answer.text)


def events_in(text: str) -> list[dict[str, Any]]:
    events = []
    assert text.endswith("\n\n")
    for each in text[:-2].split("\n\n"):
        name, data = each.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def check_event(event: dict[str, Any]) -> None:
    """Raise unless the official client's type of this event has it, and nothing else."""
    types = pytest.importorskip("anthropic.types")
    words = event["type"].split("_")
    if words not in (["ping"], ["error"]):
        kind = getattr(types, f"Raw{''.join(word.title() for word in words)}Event")
        check_known(kind.model_validate(event))


def check_known(value: Any) -> None:
    """Raise for any field that the official client's types do not know."""
    if isinstance(value, list):
        for each in value:
            check_known(each)
    if hasattr(value, "model_extra"):
        assert value.model_extra == {}, f"{type(value).__name__} has no such field"
        for name in type(value).model_fields:
            check_known(getattr(value, name))
