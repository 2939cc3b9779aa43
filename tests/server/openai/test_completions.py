"""`/v1/completions`, asked by the official client."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from tests.server.conftest import MODEL, Running
from tests.server.fakes import LETTERS


def test_a_completion_has_text_finish_and_usage(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="12", max_tokens=5)
    assert answer.choices[0].text == "abcde"
    assert answer.choices[0].finish_reason == "length"
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.model == MODEL
    usage = answer.usage
    assert usage is not None
    # The fake adds one token of its own in front of every text.
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 5, 8)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 2


def test_sixteen_tokens_unless_asked_otherwise(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="x")
    assert answer.choices[0].text == LETTERS[:16]


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    stream = client.completions.create(model=MODEL, prompt="x", max_tokens=4, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "abcd"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["length"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_events_look_as_openai_sends_them(http: httpx.Client) -> None:
    body = {"prompt": "x", "max_tokens": 1, "stream": True}
    body["stream_options"] = {"include_usage": True}
    answer = http.post("/v1/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    text, finish, usage = (json.loads(event.removeprefix("data: ")) for event in events[:-2])
    assert text["usage"] is None
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 1


def test_counts_may_come_with_every_chunk(http: httpx.Client) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "x", "max_tokens": 2, "stream": True, "stream_options": options}
    events = http.post("/v1/completions", json=body).text.split("\n\n")[:-2]
    counts = [json.loads(event[6:])["usage"]["completion_tokens"] for event in events]
    assert counts == [1, 2, 2, 2]


def test_counts_come_with_no_chunk_unless_usage_is_asked_for(http: httpx.Client) -> None:
    options = {"include_usage": False, "continuous_usage_stats": True}
    body = {"prompt": "x", "max_tokens": 2, "stream": True, "stream_options": options}
    events = http.post("/v1/completions", json=body).text.split("\n\n")[:-2]
    assert events
    assert all("usage" not in json.loads(event[6:]) for event in events)


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [
        ("ab", [3]),
        (["ab", "c"], [3, 2]),
        ([7, 8, 9], [3]),
        ([[7], [8, 9]], [1, 2]),
    ],
)
def test_prompts_of_every_kind(server: Running, prompt: object, lengths: list[int]) -> None:
    server.llm.asked.clear()
    body = {"prompt": prompt, "max_tokens": 2}
    with server.http() as http:
        answer = http.post("/v1/completions", json=body).json()
    assert [len(asked[0]) for asked in server.llm.asked] == lengths
    assert [choice["text"] for choice in answer["choices"]] == ["ab"] * len(lengths)
    assert answer["usage"]["prompt_tokens"] == sum(lengths)


def test_n_continuations_of_each_prompt_in_order(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=["x", "y"], n=3, max_tokens=2)
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == 4
    # A prompt counts once, however many continuations it has.
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


def test_a_stream_of_several_prompts_numbers_its_choices(client: openai.OpenAI) -> None:
    texts = [""] * 4
    ends = set()
    for chunk in client.completions.create(
        model=MODEL, prompt=["x", "y"], n=2, max_tokens=3, stream=True
    ):
        choice = chunk.choices[0]
        texts[choice.index] += choice.text
        if choice.finish_reason is not None:
            ends.add(choice.index)
    assert texts == ["abc"] * 4
    assert ends == {0, 1, 2, 3}


def test_stop_strings_end_the_text_and_are_named(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="x", stop=["d"], max_tokens=9)
    choice = answer.choices[0]
    assert choice.text == "abc"
    assert choice.finish_reason == "stop"
    assert choice.model_extra is not None
    assert choice.model_extra["stop_reason"] == "d"


def test_logprobs_in_parallel_lists(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="x", logprobs=1, max_tokens=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["a", "b"]
    assert logprobs.token_logprobs == [-0.5, -0.5]
    assert logprobs.text_offset == [0, 1]
    # One alternative was asked for; the chosen token, which is second, comes on top.
    assert logprobs.top_logprobs == [{"b": -0.25, "a": -0.5}, {"c": -0.25, "b": -0.5}]


def test_minus_infinity_is_a_number(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="x", logprobs=3, max_tokens=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[0]["c"] == -9999.0


def test_streamed_logprobs_go_on_where_they_stopped(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model=MODEL, prompt="x", logprobs=0, max_tokens=3, stream=True
    )
    found = [chunk.choices[0].logprobs for chunk in stream]
    assert [logs.text_offset for logs in found if logs is not None] == [[0], [1], [2]]


def test_tokens_may_be_written_as_their_ids(http: httpx.Client) -> None:
    body = {"prompt": [120], "max_tokens": 2, "logprobs": 1, "echo": True}
    answer = http.post("/v1/completions", json=body | {"return_tokens_as_token_ids": True}).json()
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["token_id:120", "token_id:97", "token_id:98"]
    assert logprobs["top_logprobs"][1] == {"token_id:98": -0.25, "token_id:97": -0.5}
    assert logprobs["text_offset"] == [0, 1, 2]


def test_echo_shows_the_prompt_with_its_logprobs(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=[120, 121], echo=True, logprobs=0, max_tokens=1
    )
    choice = answer.choices[0]
    assert choice.text == "xya"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["x", "y", "a"]
    assert choice.logprobs.token_logprobs == [None, -0.5, -0.5]
    assert choice.logprobs.text_offset == [0, 1, 2]


def test_a_prompt_is_scored_without_generating(http: httpx.Client) -> None:
    body = {"prompt": "xy", "echo": True, "logprobs": 1, "max_tokens": 0}
    choice = http.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["text"] == "xy"
    assert choice["logprobs"]["tokens"] == ["\x02", "x", "y"]


def test_a_streamed_echo_comes_first(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model=MODEL, prompt="xy", echo=True, max_tokens=2, stream=True
    )
    assert [chunk.choices[0].text for chunk in stream] == ["xya", "b", ""]


def test_prompt_logprobs_map_ids(http: httpx.Client) -> None:
    body = {"prompt": [120, 121], "prompt_logprobs": 1, "max_tokens": 1}
    listed = http.post("/v1/completions", json=body).json()["choices"][0]["prompt_logprobs"]
    assert listed[0] is None
    assert listed[1]["121"] == {"logprob": -0.5, "rank": 2, "decoded_token": "y"}
    assert listed[1]["122"] == {"logprob": -0.25, "rank": 1, "decoded_token": "z"}


def test_token_ids_on_request(http: httpx.Client) -> None:
    body = {"prompt": [120], "max_tokens": 2, "return_token_ids": True}
    choice = http.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["prompt_token_ids"] == [120]
    assert choice["token_ids"] == [97, 98]
    events = http.post("/v1/completions", json=body | {"stream": True}).text.split("\n\n")
    choices = [json.loads(event[6:])["choices"][0] for event in events[:-2]]
    assert [choice.get("prompt_token_ids") for choice in choices] == [[120], None, None]
    assert [choice.get("token_ids") for choice in choices] == [[97], [98], None]


def test_token_ids_are_absent_otherwise(http: httpx.Client) -> None:
    choice = http.post("/v1/completions", json={"prompt": "x"}).json()["choices"][0]
    assert choice["token_ids"] is choice["prompt_token_ids"] is choice["prompt_logprobs"] is None


@pytest.mark.parametrize(("keep", "kept"), [(2, "yz"), (-1, "vwxyz"), (99, "vwxyz")])
def test_the_last_tokens_are_kept(server: Running, keep: int, kept: str) -> None:
    server.llm.asked.clear()
    body = {"prompt": "vwxyz", "truncate_prompt_tokens": keep, "add_special_tokens": False}
    with server.http() as http:
        assert http.post("/v1/completions", json=body).status_code == 200
        body["truncation_side"] = "right"
        assert http.post("/v1/completions", json=body).status_code == 200
    assert server.llm.asked[0][0] == tuple(map(ord, kept))
    assert server.llm.asked[1][0] == tuple(map(ord, "vwxyz"[: len(kept)]))


def test_every_parameter_reaches_the_engine(server: Running) -> None:
    server.llm.asked.clear()
    body = {
        "prompt": "x",
        "n": 2,
        "best_of": 2,
        "max_tokens": 7,
        "min_tokens": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "logit_bias": {"5": 1, "6": -1.5},
        "allowed_token_ids": [97, 98],
        "bad_words": ["no"],
        "seed": -4,
        "stop": ["q"],
        "stop_token_ids": [9],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "skip_special_tokens": False,
        "cache_salt": "mine",
    }
    with server.http() as http:
        assert http.post("/v1/completions", json=body).status_code == 200
    _, params, priority, salt = server.llm.asked[0]
    assert (priority, salt) == (0, "mine")
    expected = {k: v for k, v in body.items() if hasattr(params, k)}
    expected["logit_bias"] = {5: 1.0, 6: -1.5}
    found = {k: getattr(params, k) for k in expected}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()} == expected
    assert len(expected) == 19


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "temperature": -1}, "temperature"),
        ({"prompt": "x", "temperature": "hot"}, "temperature"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "best_of": 2}, "best_of"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "logprobs": -2}, "logprobs"),
        ({"prompt": "x", "prompt_logprobs": -2}, "prompt_logprobs"),
        ({"prompt": "x", "suffix": "end"}, "suffix"),
        ({"prompt": "x", "response_format": {"type": "yaml"}}, "response_format.type"),
        ({"prompt": "x", "logit_bias": {"a": 1}}, "logit_bias"),
        ({"prompt": "x", "logit_bias": {"1": 101}}, "logit_bias"),
        ({"prompt": "x", "guided_json": "{"}, "guided_json"),
        ({"prompt": "x", "no_such_thing": 1}, "no_such_thing"),
        ({"prompt": "x", "stream_options": {}}, "stream_options"),
        ({"prompt": "x", "stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"prompt": "x", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"prompt": ["x", 1]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": "x" * 2000}, "prompt"),
        ({}, "prompt"),
    ],
)
def test_errors_name_the_field(http: httpx.Client, body: dict[str, object], field: str) -> None:
    answer = http.post("/v1/completions", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"


def test_of_a_field_given_twice_the_last_counts(http: httpx.Client) -> None:
    body = b'{"prompt": "x", "max_tokens": 9, "max_tokens": 2}'
    answer = http.post(
        "/v1/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.json()["choices"][0]["text"] == "ab"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="other", prompt="x")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"best_of": 2}, "choose by logprobs"),
        ({"suffix": "y"}, "fill no gaps"),
        ({"logprobs": -1, "stream": True}, "whole vocabulary"),
        ({"documents": []}, "chat_template_kwargs"),
    ],
)
def test_what_is_not_supported_says_what_to_do(
    http: httpx.Client, body: dict[str, object], reason: str
) -> None:
    answer = http.post("/v1/completions", json={"prompt": "x"} | body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]
