"""`/completion`, with the bodies that llama.cpp's clients and web pages send."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from headway.server.llamacpp.translate import NEVER, SAMPLER_ORDER
from headway.types import SamplingParams
from tests.server.conftest import MODEL, Running

PATH = "/completion"


def events(text: str) -> list[dict[str, Any]]:
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def asked(server: Running, body: dict[str, Any]) -> tuple[tuple[int, ...], SamplingParams, str]:
    """What reaches the model of a body: its prompt, parameters and cache salt."""
    server.llm.asked.clear()
    with server.http() as http:
        answer = http.post(PATH, json={"prompt": "x", "n_predict": 1} | body)
    assert answer.status_code == 200, answer.text
    prompt, params, _, salt = server.llm.asked[0]
    return prompt, params, salt


def test_an_answer_says_all_that_llama_cpp_says(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"prompt": "hi", "n_predict": 3, "temperature": 0, "seed": 7})
    whole = answer.json()
    assert whole["content"] == "abc"
    assert whole["stop"] is True
    assert (whole["stop_type"], whole["stopping_word"]) == ("limit", "")
    assert (whole["tokens_predicted"], whole["tokens_evaluated"], whole["tokens_cached"]) == (
        3,
        3,
        2,
    )
    assert whole["model"] == MODEL
    assert whole["prompt"] == "hi"
    assert whole["tokens"] == []
    assert whole["truncated"] is whole["has_new_line"] is False
    assert "completion_probabilities" not in whole
    settings = whole["generation_settings"]
    assert (settings["n_predict"], settings["temperature"], settings["seed"]) == (3, 0.0, 7)
    assert settings["n_ctx"] == 1000


def test_timings_are_measured_and_consistent(http: httpx.Client) -> None:
    timings = http.post(PATH, json={"prompt": "hi", "n_predict": 5}).json()["timings"]
    assert (timings["cache_n"], timings["prompt_n"], timings["predicted_n"]) == (2, 1, 5)
    assert timings["predicted_ms"] > 0
    assert timings["prompt_ms"] >= 0
    rate = timings["predicted_per_second"]
    assert rate == pytest.approx(5 / timings["predicted_ms"] * 1e3)
    assert timings["predicted_per_token_ms"] == pytest.approx(timings["predicted_ms"] / 5)


def test_timings_count_drafts_where_there_were_some(server: Running, http: httpx.Client) -> None:
    body = {"prompt": "hi", "n_predict": 5}
    assert not {"draft_n", "draft_n_accepted"} & http.post(PATH, json=body).json()["timings"].keys()
    server.engine.drafts = (3, 1)
    try:
        timings = http.post(PATH, json=body).json()["timings"]
    finally:
        server.engine.drafts = (0, 0)
    assert (timings["draft_n"], timings["draft_n_accepted"]) == (12, 4)


def test_a_stream_is_the_answer_in_pieces_and_ends_with_a_stop(http: httpx.Client) -> None:
    body = {"prompt": "hi", "n_predict": 3, "stream": True}
    answer = http.post(PATH, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, last = events(answer.text)
    assert [piece["content"] for piece in pieces] == ["a", "b", "c"]
    assert [piece["tokens"] for piece in pieces] == [[97], [98], [99]]
    assert not any(piece["stop"] for piece in pieces)
    assert [piece["tokens_predicted"] for piece in pieces] == [1, 2, 3]
    assert "timings" not in pieces[0]
    whole = http.post(PATH, json=body | {"stream": False}).json()
    assert last.keys() == whole.keys()
    differing = {"content", "timings", "generation_settings"}
    assert {k: v for k, v in last.items() if k not in differing} == {
        k: v for k, v in whole.items() if k not in differing
    }
    assert last["content"] == ""


def test_timings_with_every_token_on_request(http: httpx.Client) -> None:
    body = {"prompt": "x", "n_predict": 2, "stream": True, "timings_per_token": True}
    pieces = events(http.post(PATH, json=body).text)
    assert [piece["timings"]["predicted_n"] for piece in pieces] == [1, 2, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_why_it_stopped(http: httpx.Client, stream: bool) -> None:
    body = {"prompt": "x", "n_predict": 9, "stop": ["", "cd"], "stream": stream}
    text = http.post(PATH, json=body).text
    last = events(text)[-1] if stream else json.loads(text)
    assert (last["stop_type"], last["stopping_word"]) == ("word", "cd")
    assert stream or last["content"] == "ab"


@pytest.mark.parametrize("n_predict", [None, -1, -2])
def test_as_much_as_fits_unless_bounded(server: Running, n_predict: int | None) -> None:
    with server.http() as http:
        body = {"prompt": "x" * 990, "n_predict": n_predict}
        whole = http.post(PATH, json=body).json()
    assert whole["tokens_predicted"] == 9
    assert whole["truncated"] is True
    assert whole["generation_settings"]["n_predict"] == (-1 if n_predict is None else n_predict)


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_generated_on_request(http: httpx.Client, stream: bool) -> None:
    body = {"prompt": "x", "n_predict": 0, "stream": stream, "n_probs": 1, "return_tokens": True}
    text = http.post(PATH, json=body).text
    whole = events(text)[0] if stream else json.loads(text)
    assert (whole["content"], whole["tokens"], whole["tokens_predicted"]) == ("", [], 0)
    assert whole["stop"] is True


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("hi", [[2, 104, 105]]),
        ([7, 8], [[7, 8]]),
        ([7, "hi", 8], [[7, 104, 105, 8]]),
        (["hi", 7], [[2, 104, 105, 7]]),
        ({"prompt_string": "hi"}, [[2, 104, 105]]),
        (["a", "b"], [[2, 97], [2, 98]]),
        ([[7, "a"], "b", {"prompt_string": "c"}, [8]], [[7, 97], [2, 98], [2, 99], [8]]),
    ],
)
def test_prompts_of_every_shape(server: Running, prompt: Any, tokens: list[list[int]]) -> None:
    server.llm.asked.clear()
    with server.http() as http:
        answer = http.post(PATH, json={"prompt": prompt, "n_predict": 2}).json()
    assert [list(each[0]) for each in server.llm.asked] == tokens
    answers = answer if len(tokens) > 1 else [answer]
    assert [each["index"] for each in answers] == list(range(len(tokens)))
    assert {each["content"] for each in answers} == {"ab"}


def test_several_continuations_are_a_list(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"prompt": ["x", "y"], "n_predict": 1, "n_cmpl": 2}).json()
    assert [each["index"] for each in answer] == [0, 1, 2, 3]


def test_fields_reach_the_model_under_our_names(server: Running) -> None:
    body = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.5,
        "min_p": 0.1,
        "repeat_penalty": 1.2,
        "repeat_last_n": -1,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.4,
        "seed": 9,
        "stop": "q",
        "n_probs": 2,
        "ignore_eos": True,
    }
    _, params, salt = asked(server, body)
    assert (params.temperature, params.top_k, params.top_p, params.min_p) == (0.5, 7, 0.5, 0.1)
    assert (params.repetition_penalty, params.presence_penalty) == (1.2, 0.3)
    assert (params.frequency_penalty, params.seed, params.stop) == (0.4, 9, ("q",))
    assert (params.logprobs, params.ignore_eos, params.max_tokens) == (2, True, 1)
    assert salt == ""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, -1),
        ({"repeat_penalty": 1.0, "presence_penalty": 0.0}, -1),
        ({"repeat_penalty": 1.1}, 64),
        ({"presence_penalty": 0.5}, 64),
        ({"frequency_penalty": 0.5}, 64),
        ({"repeat_penalty": 1.1, "repeat_last_n": 9}, 9),
        ({"repeat_penalty": 1.1, "repeat_last_n": 0}, 0),
        ({"repeat_last_n": 9}, 9),
        ({"repeat_penalty": 1.1, "repeat_last_n": -1}, -1),
    ],
)
def test_penalties_look_at_the_last_tokens(
    server: Running, body: dict[str, Any], expected: int
) -> None:
    _, params, _ = asked(server, body)
    assert params.repeat_last_n == expected


def test_what_is_left_open_is_as_for_chats(server: Running) -> None:
    _, params, _ = asked(server, {})
    assert params == SamplingParams(**server.llm.default_sampling.chat.given() | {"max_tokens": 1})


@pytest.mark.parametrize("seed", [-1, 2**32 - 1])
def test_a_seed_may_be_left_to_chance(server: Running, seed: int) -> None:
    assert asked(server, {"seed": seed})[1].seed is None


def test_below_zero_the_temperature_is_greedy(server: Running) -> None:
    assert asked(server, {"temperature": -1})[1].temperature == 0


def test_a_grammar_or_a_schema(server: Running) -> None:
    structured = asked(server, {"grammar": 'root ::= "a"'})[1].structured_outputs
    assert structured is not None
    assert structured.grammar == 'root ::= "a"'
    structured = asked(server, {"json_schema": {"type": "null"}})[1].structured_outputs
    assert structured is not None
    assert structured.json == '{"type":"null"}'
    assert asked(server, {"grammar": ""})[1].structured_outputs is None


def test_without_the_cache_nothing_is_shared(server: Running) -> None:
    first, second = (asked(server, {"cache_prompt": False})[2] for _ in range(2))
    assert first
    assert second
    assert first != second
    assert asked(server, {"cache_prompt": True})[2] == ""


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        ([[97, 1.5]], {97: 1.5}),
        ([[97, False]], {97: NEVER}),
        ([["ab", -0.5]], {97: -0.5, 98: -0.5}),
        ({"97": 2, "b": 1}, {97: 2.0, 98: 1.0}),
        ([["97", 2]], {57: 2.0, 55: 2.0}),
        ([], None),
    ],
)
def test_biases(server: Running, bias: Any, expected: dict[int, float] | None) -> None:
    assert asked(server, {"logit_bias": bias})[1].logit_bias == expected


def test_samplers_that_are_not_named_are_off(server: Running) -> None:
    given = {"top_k": 5, "top_p": 0.5, "min_p": 0.1, "temperature": 0.5, "repeat_penalty": 1.3}
    params = asked(server, given | {"samplers": ["top_k", "temperature"]})[1]
    assert (params.top_k, params.temperature) == (5, 0.5)
    assert (params.top_p, params.min_p, params.repetition_penalty) == (1.0, 0.0, 1.0)
    params = asked(server, given | {"samplers": ["penalties", "top_p", "min_p"]})[1]
    assert (params.top_k, params.temperature, params.top_p) == (0, 1.0, 0.5)
    assert (params.min_p, params.repetition_penalty) == (0.1, 1.3)
    assert asked(server, given | {"samplers": SAMPLER_ORDER})[1] == asked(server, given)[1]


def test_probabilities_of_tokens(http: httpx.Client) -> None:
    body = {"prompt": "x", "n_predict": 2, "n_probs": 2}
    first, second = http.post(PATH, json=body).json()["completion_probabilities"]
    assert (first["id"], first["token"], first["bytes"], first["logprob"]) == (97, "a", [97], -0.5)
    assert [each["token"] for each in first["top_logprobs"]] == ["b", "a"]
    assert second["token"] == "b"
    pieces = events(http.post(PATH, json=body | {"stream": True}).text)
    streamed = [piece["completion_probabilities"][0]["token"] for piece in pieces[:-1]]
    assert streamed == ["a", "b"]


def test_tokens_on_request(http: httpx.Client) -> None:
    body = {"prompt": [7], "n_predict": 2, "return_tokens": True}
    whole = http.post(PATH, json=body).json()
    assert whole["tokens"] == [97, 98]
    assert whole["prompt"] == "\x07"


@pytest.mark.parametrize("stream", [False, True])
def test_only_the_fields_that_are_asked_for(http: httpx.Client, stream: bool) -> None:
    names = ["content", "generation_settings/n_predict", "timings/no/deeper", "nothing"]
    body = {"prompt": "x", "n_predict": 1, "response_fields": names, "stream": stream}
    text = http.post(PATH, json=body).text
    last = events(text)[-1] if stream else json.loads(text)
    assert last == {"content": "" if stream else "a", "generation_settings/n_predict": 1}


# Refusals.


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"mirostat": 2}, "mirostat"),
        ({"typical_p": 0.5}, "typical_p"),
        ({"tfs_z": 0.5}, "tfs_z"),
        ({"top_n_sigma": 1.5}, "top_n_sigma"),
        ({"dynatemp_range": 0.5}, "dynatemp_range"),
        ({"xtc_probability": 0.5}, "xtc_probability"),
        ({"dry_multiplier": 0.8}, "dry_multiplier"),
        ({"adaptive_target": 0.5}, "adaptive_target"),
        ({"min_keep": 2}, "min_keep"),
        ({"n_indent": 4}, "n_indent"),
        ({"t_max_predict_ms": 100}, "t_max_predict_ms"),
        ({"sse_ping_interval": 5}, "sse_ping_interval"),
        ({"return_progress": True}, "return_progress"),
        ({"post_sampling_probs": True}, "post_sampling_probs"),
        ({"penalize_nl": False}, "penalize_nl"),
        ({"lora": [{"id": 0, "scale": 1.0}]}, "lora"),
        ({"repeat_last_n": -2}, "repeat_last_n"),
        ({"samplers": ["temperature", "top_k"]}, "samplers"),
        ({"samplers": ["top_k", "top_k"]}, "samplers"),
        ({"samplers": ["magic"]}, "samplers"),
        ({"logit_bias": [[97, True]]}, "logit_bias"),
        ({"n_predict": 2000}, "n_predict"),
        ({"n_probs": 21}, "n_probs"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"prompt": ""}, None),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[7], 8]}, "prompt"),
        ({"prompt": [0x110000]}, "prompt"),
        ({"prompt": {"prompt_string": "x", "multimodal_data": ["aGk="]}}, "prompt"),
        ({"grammar": 'root ::= "a"', "json_schema": {}}, "grammar"),
        ({"n_cmpl": 129}, "n_cmpl"),
        ({"odd": 1}, "odd"),
    ],
)
def test_what_is_refused_is_named(server: Running, more: dict[str, Any], field: str | None) -> None:
    with server.http() as http:
        answer = http.post(PATH, json={"prompt": "x", "n_predict": 1} | more)
    if field is None:  # one that the model's own special tokens make a prompt of
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == 400
    assert error["param"].startswith(field)
    assert field in error["message"]


IDLE: dict[str, Any] = {
    "typical_p": 1.0,
    "tfs_z": 1.0,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
    "dynatemp_range": 0,
    "dynatemp_exponent": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0,
    "xtc_threshold": 0.1,
    "dry_multiplier": 0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": -1,
    "dry_sequence_breakers": ["\n", ":"],
    "adaptive_target": -1.0,
    "adaptive_decay": 0.9,
    "min_keep": 0,
    "n_indent": 0,
    "t_max_predict_ms": 0,
    "sse_ping_interval": -1,
    "return_progress": False,
    "post_sampling_probs": False,
    "penalize_nl": True,
    "lora": [],
    "n_keep": 0,
    "n_discard": 0,
    "n_cache_reuse": 0,
    "id_slot": 0,
    "repeat_penalty": 1.0,
    "cache_prompt": True,
    "samplers": list(SAMPLER_ORDER),
    "speculative.n_max": 16,
    "speculative.n_min": 0,
    "speculative.p_min": 0.75,
}


def test_the_defaults_of_web_pages_ask_for_nothing(server: Running) -> None:
    plain = asked(server, {})
    assert asked(server, IDLE) == plain
    for name, value in IDLE.items():
        assert asked(server, {name: value}) == plain, name


def test_errors_are_in_llama_cpps_form(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"prompt": "x" * 2000})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, 400)
    assert error["type"] == "exceed_context_size_error"
    answer = http.post(PATH, json={"prompt": "x", "model": "other"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
    answer = http.get(PATH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, 405)


def test_a_stream_that_breaks_off_says_why(server: Running) -> None:
    from headway.types import TokenEvent

    fault = TokenEvent(id="", tokens=(), finish="error", error="broken")
    server.engine.fault = (2, fault)
    try:
        with server.http() as http:
            body = {"prompt": "x", "n_predict": 5, "stream": True}
            *_, last = events(http.post(PATH, json=body).text)
    finally:
        server.engine.fault = None
    assert last["error"]["code"] == 500
    assert "broken" in last["error"]["message"]


def test_gaps_are_not_filled(http: httpx.Client) -> None:
    answer = http.post("/infill", json={"input_prefix": "a", "input_suffix": "b"})
    assert answer.status_code == 400
    assert "prompt" in answer.json()["error"]["message"]
