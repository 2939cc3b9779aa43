"""`/v1/responses`, asked by the official client."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from headway.config import ServerConfig
from headway.llm import MessageReader
from headway.server.openai.conversation import Conversation
from tests.server.conftest import MODEL, Running, serving
from tests.server.responses.checking import Lettered, checked, streamed

PATH = "/v1/responses"
SHORT = {"input": "hi", "max_output_tokens": 3}


def prompt(server: Running) -> str:
    """The last prompt that the engine got."""
    return "".join(map(chr, server.engine.submitted[-1].prompt))


def test_a_text_is_answered(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="hi", extra_body={"stop": "d"})
    assert answer.output_text == "abc"
    assert answer.status == "completed"
    assert answer.id.startswith("resp_")
    assert answer.completed_at is not None
    assert answer.usage is not None
    assert answer.usage.input_tokens == len("user:hi;assistant:")
    assert answer.usage.input_tokens_details.cached_tokens == 2
    assert (answer.usage.output_tokens, answer.usage.total_tokens) == (4, 4 + 18)


def test_what_is_cut_off_is_incomplete(http: httpx.Client) -> None:
    answer = checked(http.post(PATH, json=SHORT).json())
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["completed_at"] is None
    (item,) = answer["output"]
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "abc")


def test_what_was_asked_is_told(http: httpx.Client) -> None:
    asked: dict[str, Any] = {
        "instructions": "be",
        "max_output_tokens": 3,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "service_tier": "flex",
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tool_choice": "none",
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
        "store": False,
    }
    answer = checked(http.post(PATH, json=asked | {"input": "hi"}).json())
    assert {name: answer[name] for name in asked} == asked


def test_what_was_left_open_is_told_too(http: httpx.Client) -> None:
    answer = http.post(PATH, json=SHORT).json()
    told = {"temperature": 1, "top_p": 1, "truncation": "disabled", "tool_choice": "auto"}
    told |= {"parallel_tool_calls": True, "metadata": {}, "tools": [], "store": True}
    told |= {"text": {"format": {"type": "text"}}, "background": False, "top_logprobs": 0}
    assert {name: answer[name] for name in told} == told


def test_a_conversation_goes_on_without_its_instructions(
    server: Running, client: openai.OpenAI
) -> None:
    first = client.responses.create(
        model=MODEL, input="one", instructions="be", max_output_tokens=2
    )
    second = client.responses.create(
        model=MODEL, input="two", previous_response_id=first.id, max_output_tokens=1
    )
    client.responses.create(
        model=MODEL,
        input=[{"role": "user", "content": "three"}],
        instructions="act",
        previous_response_id=second.id,
        max_output_tokens=1,
    )
    assert second.previous_response_id == first.id
    assert prompt(server) == (
        "system:act;user:one;assistant:ab;user:two;assistant:a;user:three;assistant:"
    )


def test_a_long_conversation_is_read_off_the_loop(
    server: Running, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.server.responses.handlers.LARGE", 1)
    first = client.responses.create(model=MODEL, input="one", max_output_tokens=2)
    client.responses.create(
        model=MODEL, input="two", previous_response_id=first.id, max_output_tokens=1
    )
    assert prompt(server) == "user:one;assistant:ab;user:two;assistant:"


def test_output_comes_back_as_input(server: Running, client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="hi", max_output_tokens=2)
    items: list[Any] = [{"role": "user", "content": "hi"}, *answer.output]
    items.append({"role": "user", "content": "more"})
    client.responses.create(model=MODEL, input=items, max_output_tokens=1)
    assert prompt(server) == "user:hi;assistant:ab;user:more;assistant:"


@pytest.mark.parametrize("large", [True, False])
def test_output_is_referred_to(
    server: Running, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    if large:
        monkeypatch.setattr("headway.server.responses.handlers.LARGE", 1)
    monkeypatch.setattr(Conversation, "reader", lambda _: MessageReader(Lettered))
    first = client.responses.create(model=MODEL, input="hi", max_output_tokens=4)
    reasoning, message = first.output
    items: list[Any] = [
        {"role": "user", "content": "hi"},
        {"type": "item_reference", "id": reasoning.id},
        {"id": message.id},
        {"role": "user", "content": "more"},
    ]
    second = client.responses.create(model=MODEL, input=items, max_output_tokens=1)
    assert prompt(server) == "user:hi;assistant:cd;user:more;assistant:"
    listed = client.responses.input_items.list(second.id, order="asc").data
    assert [item.type for item in listed] == ["message", "reasoning", "message", "message"]
    with pytest.raises(openai.BadRequestError, match="already"):
        client.responses.create(model=MODEL, input=[*items, items[1]])
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError, match=reasoning.id):
        client.responses.create(model=MODEL, input=items)


def test_references_are_bounded_as_bodies_are() -> None:
    config = ServerConfig(port=0, max_body_bytes=1500)
    with serving(config=config) as server, server.http() as http:
        ids = [http.post(PATH, json=SHORT).json()["output"][0]["id"] for _ in range(2)]
        for count, status in ((1, 200), (2, 400)):
            items = [{"type": "item_reference", "id": name} for name in ids[:count]]
            answer = http.post(PATH, json=SHORT | {"input": items})
            assert answer.status_code == status, answer.text
        assert answer.json()["error"]["param"] == "input"


def test_a_conversation_of_too_many_items_is_refused(http: httpx.Client) -> None:
    items = [{"type": "reasoning", "summary": []}] * 600 + [{"role": "user", "content": "x"}]
    body = SHORT | {"input": items, "max_output_tokens": 1}
    for turn in range(3):
        answer = http.post(PATH, json=body)
        assert answer.status_code == (200 if turn < 2 else 400)
        body |= {"previous_response_id": answer.json().get("id")}
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "context_length_exceeded")


def test_a_kept_response_is_retrieved_and_deleted(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="hi", max_output_tokens=2)
    assert client.responses.retrieve(answer.id) == answer
    (item,) = client.responses.input_items.list(answer.id).data
    assert item.type == "message"
    assert item.model_dump()["content"][0]["text"] == "hi"
    client.responses.delete(answer.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=answer.id):
            ask(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list(answer.id)
    with pytest.raises(openai.BadRequestError, match="is not kept"):
        client.responses.create(model=MODEL, input="x", previous_response_id=answer.id)


def test_a_streamed_response_is_kept_as_it_was_told(http: httpx.Client) -> None:
    last = streamed(http, SHORT)[-1]
    assert http.get(f"{PATH}/{last['response']['id']}").json() == last["response"]


def test_what_is_not_to_be_stored_is_not(http: httpx.Client) -> None:
    answer = http.post(PATH, json=SHORT | {"store": False}).json()
    assert http.get(f"{PATH}/{answer['id']}").status_code == 404


def test_a_gap_in_a_conversation_is_told(http: httpx.Client) -> None:
    first = http.post(PATH, json=SHORT).json()["id"]
    second = http.post(PATH, json=SHORT | {"previous_response_id": first}).json()["id"]
    http.delete(f"{PATH}/{first}")
    error = http.post(PATH, json=SHORT | {"previous_response_id": second}).json()["error"]
    assert error["param"] == "previous_response_id"
    assert first in error["message"]
    assert second in error["message"]


def test_input_items_come_in_pages(http: httpx.Client) -> None:
    items = [{"role": "user", "content": text, "id": f"i{text}"} for text in "abcd"]
    answer = http.post(PATH, json=SHORT | {"input": items}).json()
    path = f"{PATH}/{answer['id']}/input_items"

    def page(**query: str | int) -> tuple[list[str], bool]:
        found = http.get(path, params=query).json()
        ids = [item["id"] for item in found["data"]]
        assert (found["first_id"], found["last_id"]) == (ids[0], ids[-1]) if ids else (None, None)
        return ids, found["has_more"]

    assert page() == (["id", "ic", "ib", "ia"], False)
    assert page(order="asc", limit=2) == (["ia", "ib"], True)
    assert page(order="asc", limit=2, after="ib") == (["ic", "id"], False)
    for query, field in (
        ({"limit": "0"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "no"}, "after"),
    ):
        refused = http.get(path, params=query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)


def test_items_are_listed_as_the_official_types_have_them(client: openai.OpenAI) -> None:
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"role": "assistant", "content": "b"},
    ]
    answer = client.responses.create(model=MODEL, input=items, max_output_tokens=1)
    listed = client.responses.input_items.list(answer.id, order="asc").data
    assert [item.type for item in listed] == ["message", "reasoning", "message"]
    for item in listed:
        type(item).model_validate_json(item.model_dump_json(exclude_none=True), strict=True)


def test_no_key_sees_what_another_keeps() -> None:
    config = ServerConfig(port=0, api_key=("one", "two"))
    with serving(config=config) as server:
        mine, theirs = server.openai(api_key="one"), server.openai(api_key="two")
        with mine, theirs:
            answer = mine.responses.create(model=MODEL, input="hi", max_output_tokens=1)
            assert mine.responses.retrieve(answer.id).id == answer.id
            for ask in (theirs.responses.retrieve, theirs.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    ask(answer.id)
            with pytest.raises(openai.NotFoundError):
                theirs.responses.input_items.list(answer.id)
            with pytest.raises(openai.BadRequestError):
                theirs.responses.create(model=MODEL, input="x", previous_response_id=answer.id)
            reference: Any = {"type": "item_reference", "id": answer.output[0].id}
            with pytest.raises(openai.BadRequestError):
                theirs.responses.create(model=MODEL, input=[reference])
            assert mine.responses.retrieve(answer.id).id == answer.id


def test_a_server_that_keeps_nothing_says_so() -> None:
    config = ServerConfig(port=0, max_stored_responses=0)
    with serving(config=config) as server, server.http() as http:
        answer = http.post(PATH, json=SHORT).json()
        assert answer["store"] is False
        assert http.get(f"{PATH}/{answer['id']}").status_code == 404
        refused = http.post(PATH, json=SHORT | {"background": True})
        assert refused.json()["error"]["param"] == "background"


def test_parts_of_a_message_are_items(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conversation, "reader", lambda _: MessageReader(Lettered))
    answer = checked(http.post(PATH, json=SHORT | {"max_output_tokens": 7}).json())
    assert [item["type"] for item in answer["output"]] == [
        *("reasoning", "message", "function_call", "function_call")
    ]
    reasoning, message, one, two = answer["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "ab"}]
    assert message["content"][0]["text"] == "cd"
    assert (one["call_id"], one["name"], one["arguments"]) == ("one", "f", "{}")
    assert (two["call_id"], two["name"], two["arguments"]) == ("two", "g", "{}")
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] == 2


def test_log_probabilities_are_those_of_the_message(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversation, "reader", lambda _: MessageReader(Lettered))
    body = SHORT | {"max_output_tokens": 5, "top_logprobs": 1}
    answer = checked(http.post(PATH, json=body).json())
    (message,) = [item for item in answer["output"] if item["type"] == "message"]
    scores = message["content"][0]["logprobs"]
    assert [score["token"] for score in scores] == ["c", "d"]
    assert scores[0]["top_logprobs"] == [{"token": "d", "logprob": -0.25, "bytes": [100]}]
    events = streamed(http, body)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [score for event in deltas for score in event["logprobs"]] == scores
    (done,) = [e["logprobs"] for e in events if e["type"] == "response.output_text.done"]
    assert done == scores


@pytest.mark.parametrize("asked", [{"include": ["message.output_text.logprobs"]}, {}])
def test_include_asks_for_log_probabilities(http: httpx.Client, asked: dict[str, Any]) -> None:
    answer = http.post(PATH, json=SHORT | asked).json()
    scores = answer["output"][0]["content"][0]["logprobs"]
    assert [score["token"] for score in scores] == (["a", "b", "c"] if asked else [])


def test_an_answer_has_a_form(server: Running, client: openai.OpenAI) -> None:
    class Answer(BaseModel):
        a: int

    with pytest.raises(ValueError, match="validation error"):  # The alphabet is no JSON.
        client.responses.parse(model=MODEL, input="hi", text_format=Answer, max_output_tokens=2)
    grammar = server.engine.submitted[-1].sampling.structured_outputs
    assert grammar is not None
    assert grammar.kind == "json"
    assert '"integer"' in grammar.text


def test_every_parameter_of_the_official_client_is_known() -> None:
    from openai.types.responses.response_create_params import ResponseCreateParamsBase

    from headway.server.responses.schema import ResponsesBody

    parameters = set(ResponseCreateParamsBase.__annotations__)
    assert parameters - set(ResponsesBody.__struct_fields__) == set()


def test_events_are_not_kept(http: httpx.Client) -> None:
    answer = http.post(PATH, json=SHORT).json()
    refused = http.get(f"{PATH}/{answer['id']}", params={"stream": "true"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")


@pytest.mark.parametrize("stop", ["</tool_call>", "ern"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_a_response_and_completes_no_call(
    server: Running, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, stop: str, stream: bool
) -> None:
    call = '<tool_call>{"name": "f", "arguments": {"city": "Bern"}}</tool_call>'
    monkeypatch.setattr(server.engine, "answer", call)
    tools = [{"type": "function", "name": "f"}]
    body = {"input": "x", "tools": tools, "stop": stop, "stream": stream}
    answer = http.post("/v1/responses", json=body)
    last = answer.text.rpartition("data: ")[2]
    response = json.loads(last)["response"] if stream else answer.json()
    assert response["status"] == "completed"
    (item,) = response["output"]
    complete = stop == "</tool_call>"
    assert item["arguments"] == ('{"city": "Bern"}' if complete else '{"city": "B')
    assert item["status"] == ("completed" if complete else "incomplete")
