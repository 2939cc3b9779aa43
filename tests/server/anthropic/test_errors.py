"""Everything that is refused on Anthropic's paths is refused in Anthropic's form."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from headway.config import ServerConfig
from headway.errors import Overloaded
from headway.types import TokenEvent
from tests.server.anthropic.conftest import ASKED, HELLO, client_of, events_in
from tests.server.conftest import MODEL, Running, serving

CALL = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}


def turns(*contents: Any) -> dict[str, Any]:
    """A user and an assistant in turns."""
    roles = ("user", "assistant") * len(contents)
    return {"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]}


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    found = answer.json()
    assert set(found) == {"type", "error", "request_id"}
    assert found["type"] == "error"
    assert found["request_id"] == answer.headers["request-id"]
    assert set(found["error"]) == {"type", "message"}
    return answer.status_code, found["error"]["type"], found["error"]["message"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"max_tokens": None}, "max_tokens: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"max_tokens": 1000}, "max_tokens: 1000 tokens do not fit"),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: "),
        ({"messages": [{"role": "user"}]}, "messages.0.content is required"),
        (turns("x", [{"type": "text"}]), "messages.1.content.0.text is required"),
        (turns("x", "y", [IMAGE]), "messages.2.content.0.type: 'image' is not supported here"),
        (turns([{"type": "document"}]), "messages.0.content.0.type: 'document' is not supported"),
        (turns([CALL]), "messages.0.content.0.type: 'tool_use' is not supported here"),
        (
            turns([{"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}]),
            "messages.0.content.0.content.0.type: 'image' is not supported here",
        ),
        (turns("x", [CALL]), "messages.1.content.0: the answer goes on with"),
        (
            turns("x", [{"type": "thinking", "thinking": "hm", "signature": "s"}]),
            "messages.1.content.0: the answer goes on with",
        ),
        ({"system": [IMAGE]}, "system.0.type: "),
        ({"stop_sequences": ["a", ""]}, "stop_sequences.1: "),
        ({"temperature": -1}, "temperature: "),
        ({"top_p": 0}, "top_p: "),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0.type: 'bash_20250124'"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema is required"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name is required"),
        ({"metadata": {"user_id": "u" * 513}}, "metadata.user_id: "),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens is required"),
        ({"container": "c"}, "container is not supported"),
        ({"speed": "fast"}, "speed: "),
        ({"priority": 3}, "priority is not taken here"),
        ({"chat_template_kwargs": {"colour": 1}}, "the chat template does not read 'colour'"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type: "),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": 3}}}},
            "output_config.format",
        ),
        ({"nonsense": 1}, "unknown field: nonsense"),
    ],
)
def test_a_mistake_is_named_as_the_client_wrote_it(
    http: httpx.Client, changed: dict[str, Any], named: str
) -> None:
    body = {name: value for name, value in (ASKED | changed).items() if value is not None}
    if "max_tokens" in changed and changed["max_tokens"] is None:
        named = "max_tokens is required"
    status, kind, message = error_of(http.post("/v1/messages", json=body))
    assert (status, kind) == (400, "invalid_request_error")
    assert message.startswith(named)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"tools": [TOOL | {"name": "a b"}]}, "tools.0.name: "),
        ({"tools": [TOOL, TOOL]}, "tools.1.name: f is there already"),
        ({"tools": [TOOL | {"input_schema": {"type": "array"}}]}, "tools.0.input_schema.type "),
    ],
)
def test_tools_that_cannot_be_are_named(
    http: httpx.Client, path: str, changed: dict[str, Any], named: str
) -> None:
    body = {"messages": HELLO} | changed | ({"max_tokens": 3} if path == "/v1/messages" else {})
    status, _, message = error_of(http.post(path, json=body))
    assert status == 400
    assert message.startswith(named)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"tool_choice": {"type": "any"}}, "tool_choice needs tools"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
            "tool_choice.name: g is none of the tools",
        ),
        (
            {
                "tools": [TOOL | {"input_schema": {"type": "object", "required": 3}}],
                "tool_choice": {"type": "any"},
            },
            "tools",
        ),
    ],
)
def test_choices_that_cannot_be_are_named(
    http: httpx.Client, changed: dict[str, Any], named: str
) -> None:
    status, _, message = error_of(http.post("/v1/messages", json=ASKED | changed))
    assert status == 400
    assert message.startswith(named)


def test_counting_names_mistakes_too(http: httpx.Client) -> None:
    answer = http.post("/v1/messages/count_tokens", json=turns([IMAGE]))
    assert error_of(answer)[2].startswith("messages.0.content.0.type: ")
    answer = http.post("/v1/messages/count_tokens", json=ASKED)
    assert error_of(answer)[2] == "unknown field: max_tokens"
    answer = http.post("/v1/messages/count_tokens", json={"messages": HELLO, "model": "other"})
    assert error_of(answer)[:2] == (404, "not_found_error")


def test_what_is_not_there_is_said_in_the_same_form(http: httpx.Client) -> None:
    other = http.post("/v1/messages", json=ASKED | {"model": "other"})
    assert error_of(other)[:2] == (404, "not_found_error")
    assert error_of(http.get("/v1/messages"))[:2] == (405, "invalid_request_error")
    assert error_of(http.post("/v1/messages/batches", json={}))[:2] == (404, "not_found_error")
    text = http.post("/v1/messages", content=b"{}", headers={"content-type": "text/plain"})
    assert error_of(text)[:2] == (415, "invalid_request_error")
    assert set(http.get("/v1/nothing").json()["error"]) == {"message", "type", "param", "code"}


def test_the_client_raises_what_it_knows(server: Running, claude: Any) -> None:
    anthropic = pytest.importorskip("anthropic")
    with pytest.raises(anthropic.BadRequestError, match="stop_sequences"):
        claude.messages.create(model=MODEL, stop_sequences=[""], **ASKED)
    with pytest.raises(anthropic.NotFoundError) as raised:
        claude.messages.create(model="claude-opus", **ASKED)
    assert raised.value.request_id == raised.value.body["request_id"]


def test_keys_come_in_either_header() -> None:
    anthropic = pytest.importorskip("anthropic")
    with serving(config=ServerConfig(port=0, api_key=("secret",))) as server:
        asked = ASKED | {"model": MODEL}
        with client_of(server, api_key="secret") as client:
            assert client.messages.create(**asked).content[0].text == "abc"
        with client_of(server, api_key=None, auth_token="secret") as client:
            assert client.messages.create(**asked).content[0].text == "abc"
        with (
            client_of(server, api_key="wrong") as client,
            pytest.raises(anthropic.AuthenticationError),
        ):
            client.messages.create(**asked)
        with server.http() as http:
            answer = http.post("/v1/messages/count_tokens", json={})
            assert error_of(answer)[:2] == (401, "authentication_error")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_server_that_drains_says_so_and_a_body_may_be_too_large() -> None:
    config = ServerConfig(port=0, max_body_bytes=1000)
    with serving(config=config) as server, server.http() as http:
        long = http.post("/v1/messages", json=ASKED | {"system": "x" * 1000})
        assert error_of(long)[:2] == (413, "request_too_large")
        server.call(server.state.drain)
        refused = http.post("/v1/messages", json=ASKED)
        assert error_of(refused)[:2] == (503, "overloaded_error")
        assert int(refused.headers["retry-after"]) >= 1


def test_too_many_requests_are_429(server: Running, http: httpx.Client) -> None:
    server.llm.bug = Overloaded("later", retry_after=2.5)
    try:
        refused = http.post("/v1/messages", json=ASKED)
    finally:
        server.llm.bug = None
    assert error_of(refused) == (429, "rate_limit_error", "later")
    assert refused.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/messages", ASKED), ("/v1/messages/count_tokens", {"messages": HELLO})],
)
def test_a_server_that_starts_says_so(path: str, body: dict[str, Any]) -> None:
    with serving(ready=False) as server, server.http() as http:
        answer = http.post(path, json=body)
        assert error_of(answer)[:2] == (503, "overloaded_error")
        assert "retry-after" in answer.headers


def test_a_fault_of_ours_is_one_in_this_form_too(server: Running, http: httpx.Client) -> None:
    server.llm.bug = ValueError("secret")
    try:
        answer = http.post("/v1/messages", json=ASKED)
    finally:
        server.llm.bug = None
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert "secret" not in answer.text


def test_a_stream_that_breaks_off_says_why(
    server: Running, claude: Any, http: httpx.Client
) -> None:
    anthropic = pytest.importorskip("anthropic")
    server.engine.fault = (2, TokenEvent(id="", finish="error", error="it broke"))
    try:
        text = http.post("/v1/messages", json=ASKED | {"stream": True}).text
        with claude.messages.stream(model=MODEL, **ASKED) as stream:
            pieces = iter(stream.text_stream)
            assert next(pieces) + next(pieces) == "ab"
            with pytest.raises(anthropic.APIStatusError, match="it broke"):
                next(pieces)
    finally:
        server.engine.fault = None
    last = events_in(text)[-1]
    assert (last["type"], last["error"]) == ("error", {"type": "api_error", "message": "it broke"})
