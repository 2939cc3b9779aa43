"""Fields that nobody knows: refused by default, or told in a header and in the log."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.server.body import MOST_REREAD, MOST_WITHIN
from headway.server.ignored_fields import (
    MOST_CHARACTERS,
    MOST_REMEMBERED,
    MOST_SHOWN,
    QUIET_SECONDS,
    IgnoredFields,
    shown,
)
from tests.server.conftest import MODEL, Running, serving
from tests.server.openai.test_every_field import observe

BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
}


@pytest.fixture(scope="module", name="warning")
def _warning() -> Iterator[Running]:
    with serving(config=ServerConfig(port=0, unknown_fields="warn")) as running:
        yield running


@pytest.mark.parametrize("path", BODIES)
def test_refused_by_default(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json=BODIES[path] | {"temprature": 0})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temprature"
    assert "x-ignored-fields" not in http.post(path, json=BODIES[path]).headers


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_told_where_they_are_to_pass(
    warning: Running, caplog: pytest.LogCaptureFixture, path: str, stream: bool
) -> None:
    name = f"odd_{path.count('/')}_{stream}"
    body = BODIES[path] | {"stream": stream, name: {"a": [1]}, "mirostat": 2}
    with warning.http() as http:
        plain = http.post(path, json=BODIES[path] | {"stream": stream})
        for _ in range(2):
            answer = http.post(path, json=body)
            assert answer.status_code == 200
            assert answer.headers["x-ignored-fields"] == f"{name}, mirostat"
    assert "x-ignored-fields" not in plain.headers
    assert caplog.text.count(name) == 1
    assert [r.levelno for r in caplog.records if name in r.getMessage()] == [logging.WARNING]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"odd": 1, "temperature": "hot"}, "temperature"),
        ({"odd": 1, "prompt_embeds": "x"}, "prompt_embeds"),
        (
            {"odd": 1, "stream": True, "stream_options": {"odd": 1, "audio": 1}},
            "stream_options.audio",
        ),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"slo": {"odd": 1, "ttft_ms": -1}}, "slo.ttft_ms"),
        ({"slo": {"class.odd": 1, "class": "batch"}}, "slo.class.odd"),
        ({"odd": 1, "suffix": "x"}, "suffix"),
    ],
)
def test_what_is_known_is_as_strict_as_ever(
    warning: Running, more: dict[str, Any], field: str
) -> None:
    with warning.http() as http:
        answer = http.post("/v1/completions", json=BODIES["/v1/completions"] | more)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


HELLO = [{"role": "user", "content": "x"}]
SCHEMA = {"type": "object", "properties": {}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
JSON = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
WITHIN: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    (
        "/v1/completions",
        {"prompt": "x", "max_tokens": 1, "stream": True, "stream_options": {"include_usage": True}},
        ("stream_options.odd",),
    ),
    (
        "/v1/chat/completions",
        {"messages": HELLO, "max_tokens": 1, "tools": [TOOL, TOOL | {"function": {"name": "g"}}]},
        ("tools[0].odd", "tools[1].function.odd"),
    ),
    (
        "/v1/chat/completions",
        {"messages": HELLO, "max_tokens": 1, "response_format": JSON, "slo": {"ttft_ms": 900}},
        ("response_format.odd", "response_format.json_schema.odd", "slo.odd"),
    ),
    (
        "/v1/responses",
        {
            "input": "x",
            "max_output_tokens": 16,
            "store": False,
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
            "text": {"format": {"type": "text"}},
        },
        ("tools[0].odd", "text.odd", "text.format.odd"),
    ),
    (
        "/v1/messages",
        {"messages": HELLO, "max_tokens": 1, "output_config": {"effort": "low"}},
        ("output_config.odd",),
    ),
    (
        "/api/chat",
        {"model": MODEL, "messages": HELLO, "stream": False, "options": {"num_predict": 1}},
        ("options.odd",),
    ),
    (
        "/api/generate",
        {"model": MODEL, "prompt": "x", "stream": False, "options": {"num_predict": 1}},
        ("options.odd",),
    ),
    ("/completion", {"prompt": {"prompt_string": "x"}, "n_predict": 1}, ("prompt.odd",)),
    ("/tokenize", {"messages": HELLO, "tools": [TOOL]}, ("tools[0].odd",)),
    ("/apply-template", {"messages": HELLO, "tools": [TOOL]}, ("tools[0].function.odd",)),
]


def put_in(body: dict[str, Any], place: str, value: Any) -> None:
    """Give the object in the body that this names another field."""
    *steps, name = re.findall(r"[^.\[\]]+", place)
    holder: Any = body
    for step in steps:
        holder = holder[int(step) if step.isdigit() else step]
    holder[name] = value


@pytest.mark.parametrize(("path", "plain", "places"), WITHIN)
def test_those_within_others_pass_and_nothing_else_is_lost(
    warning: Running,
    caplog: pytest.LogCaptureFixture,
    path: str,
    plain: dict[str, Any],
    places: tuple[str, ...],
) -> None:
    body = copy.deepcopy(plain)
    for place in places:
        put_in(body, place, [{"a": 1}])
    expected = observe(warning, caplog, path, plain)
    found = observe(warning, caplog, path, body | {"odd_top": None})
    assert apart_from_ids(found) == apart_from_ids(expected)
    with warning.http() as http:
        answer = http.post(path, json=body | {"odd_top": None})
    assert answer.status_code == 200
    assert set(answer.headers["x-ignored-fields"].split(", ")) == {"odd_top", *places}


def apart_from_ids(seen: Any) -> list[str]:
    """What was seen, without what differs from request to request."""
    odd = r'"([a-z_]*(id|_at|duration|ms|second)|seed)": ?("[^"]*"|[\d.e+-]+)'
    return [re.sub(odd, "", str(part)) for part in seen]


@pytest.mark.parametrize(("path", "plain", "places"), WITHIN)
def test_those_within_others_are_refused_by_default(
    http: httpx.Client, path: str, plain: dict[str, Any], places: tuple[str, ...]
) -> None:
    for place in places:
        body = copy.deepcopy(plain)
        put_in(body, place, 1)
        answer = http.post(path, json=body)
        assert answer.status_code == 400
        assert "odd" in answer.text


def test_only_so_many_within_others_are_looked_for(warning: Running) -> None:
    tools = [
        {"type": "function", "odd": 1, "function": {"name": f"f{number}"}}
        for number in range(MOST_WITHIN + 1)
    ]
    body = {"messages": HELLO, "max_tokens": 1, "tool_choice": "none"}
    with warning.http() as http:
        passed = http.post("/v1/chat/completions", json=body | {"tools": tools[1:]})
        assert passed.status_code == 200, passed.text
        refused = http.post("/v1/chat/completions", json=body | {"tools": tools})
        assert refused.json()["error"]["param"] == f"tools[{MOST_WITHIN}].odd"
        large = body | {"tools": tools[:2], "metadata": {"a": "x" * (MOST_REREAD // 2 + 1)}}
        refused = http.post("/v1/chat/completions", json=large)
        assert refused.json()["error"]["param"] == "tools[1].odd"


@pytest.mark.parametrize("body", [b"[1]", b"{", b"[" * 5000, b'"x"'])
def test_what_is_no_object_is_refused_as_ever(warning: Running, body: bytes) -> None:
    with warning.http() as http:
        headers = {"content-type": "application/json"}
        answer = http.post("/v1/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["message"]


def test_names_are_made_harmless_and_few() -> None:
    assert shown(["a\r\nx: y", "\u00fc"]) == "a??x??y, ?"
    names = [f"{number}" + "n" * 10**5 for number in range(10**4)]
    assert len(shown(names)) < (MOST_SHOWN + 1) * (MOST_CHARACTERS + 2)
    assert shown(names).endswith(f"and {10**4 - MOST_SHOWN} more")


def test_a_name_is_logged_once_in_a_while_and_memory_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = [0.0, QUIET_SECONDS - 1, QUIET_SECONDS, 2 * QUIET_SECONDS - 1]
    clock = iter(times + [1e6] * 3 * MOST_REMEMBERED)
    fields = IgnoredFields(lambda: next(clock))
    for _ in times:
        fields.tell("/p", ["again"])
    assert caplog.text.count("again") == 2
    for number in range(3 * MOST_REMEMBERED):
        fields.tell("/p", [str(number)])
        assert len(fields._told) <= MOST_REMEMBERED
