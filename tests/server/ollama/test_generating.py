"""`/api/chat` and `/api/generate`, with the bodies that Ollama's clients send."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from headway.types import SamplingParams, TokenEvent
from tests.server.conftest import MODEL, Running, serving

CHAT, GENERATE = "/api/chat", "/api/generate"
HELLO = [{"role": "user", "content": "hi"}]
CHATTING: dict[str, Any] = {"model": MODEL, "messages": HELLO, "options": {"num_predict": 3}}
GENERATING: dict[str, Any] = {"model": MODEL, "prompt": "hi", "options": {"num_predict": 3}}
BODIES = {CHAT: CHATTING, GENERATE: GENERATING}
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def text_of(reply: dict[str, Any]) -> str:
    content: str = reply["response"] if "response" in reply else reply["message"]["content"]
    return content


def asked(server: Running, path: str, more: dict[str, Any]) -> tuple[str, SamplingParams]:
    """What reaches the model of a body: its prompt as text, and the parameters."""
    server.llm.asked.clear()
    with server.http() as http:
        answer = http.post(path, json={"stream": False} | BODIES[path] | more)
    assert answer.status_code == 200, answer.text
    prompt, params, _, _ = server.llm.asked[0]
    return "".join(map(chr, prompt)), params


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_unless_asked_otherwise(http: httpx.Client, path: str) -> None:
    *pieces, last = lines(http.post(path, json=BODIES[path]))
    assert [text_of(piece) for piece in pieces] == ["a", "b", "c"]
    assert not any(piece["done"] for piece in pieces)
    assert all(piece["model"] == MODEL for piece in [*pieces, last])
    assert pieces[0]["created_at"].endswith("Z")
    assert (last["done"], last["done_reason"], text_of(last)) == (True, "length", "")
    assert "done_reason" not in pieces[0]


@pytest.mark.parametrize("path", BODIES)
def test_a_whole_answer(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json=BODIES[path] | {"stream": False})
    assert answer.headers["content-type"] == "application/json"
    whole = answer.json()
    assert text_of(whole) == "abc"
    assert (whole["done"], whole["done_reason"]) == (True, "length")
    assert whole["prompt_eval_count"] == len("user:hi;assistant:")
    assert whole["eval_count"] == 3


@pytest.mark.parametrize("path", BODIES)
def test_durations_are_measured_in_nanoseconds(http: httpx.Client, path: str) -> None:
    body = BODIES[path] | {"options": {"num_predict": 50}}
    for stream in (False, True):
        answer = http.post(path, json=body | {"stream": stream})
        last = json.loads(answer.text.splitlines()[-1])
        total, load, prompt, generating = (last[name] for name in DURATIONS)
        assert all(type(last[name]) is int for name in DURATIONS)
        assert load == 0
        assert 0 < generating <= total < 30 * 10**9
        assert 0 <= prompt <= total


def test_the_roles_of_a_chat(http: httpx.Client) -> None:
    first, *_ = lines(http.post(CHAT, json=CHATTING))
    assert first["message"] == {"role": "assistant", "content": "a"}


def test_a_conversation_reaches_the_template(server: Running) -> None:
    messages = [
        {"role": "system", "content": "be"},
        {"role": "user", "content": "a", "images": []},
        {"role": "assistant", "content": "b", "thinking": "hm"},
        {"role": "user", "content": "c", "odd": 1},
    ]
    prompt, _ = asked(server, CHAT, {"messages": messages})
    assert prompt == "system:be;user:a;assistant:b;user:c;assistant:"


def test_a_prompt_is_a_turn_after_what_the_system_says(server: Running) -> None:
    prompt, _ = asked(server, GENERATE, {"system": "be"})
    assert prompt == "system:be;user:hi;assistant:"
    assert asked(server, GENERATE, {"system": ""})[0] == "user:hi;assistant:"


@pytest.mark.parametrize("stream", [False, True])
def test_a_raw_prompt_is_continued_as_it_is(server: Running, stream: bool) -> None:
    with server.http() as http:
        answer = http.post(GENERATE, json=GENERATING | {"raw": True, "stream": stream})
    assert "".join(text_of(json.loads(line)) for line in answer.text.splitlines()) == "abc"
    assert asked(server, GENERATE, {"raw": True})[0] == "\x02hi"


def test_without_a_template_a_prompt_is_raw() -> None:
    with serving(template=False) as server:
        assert asked(server, GENERATE, {})[0] == "\x02hi"


@pytest.mark.parametrize("path", BODIES)
def test_options_reach_the_model_under_our_names(server: Running, path: str) -> None:
    options = {
        "num_predict": 5,
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.5,
        "min_p": 0.1,
        "repeat_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.4,
        "seed": 9,
        "stop": ["q"],
        "num_ctx": 1000,
    }
    _, params = asked(server, path, {"options": options})
    assert (params.max_tokens, params.temperature, params.top_k) == (5, 0.5, 7)
    assert (params.top_p, params.min_p, params.repetition_penalty) == (0.5, 0.1, 1.2)
    assert (params.presence_penalty, params.frequency_penalty) == (0.3, 0.4)
    assert (params.seed, params.stop) == (9, ("q",))
    raw = {"raw": True} if path == GENERATE else {}
    assert asked(server, path, {"options": options} | raw)[1] == params


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("num_predict", [-1, -2, 0])
def test_as_much_as_fits_unless_bounded(server: Running, path: str, num_predict: int) -> None:
    options = {"num_predict": num_predict, "stop": ["c"], "seed": -1}
    _, params = asked(server, path, {"options": options})
    assert (params.max_tokens, params.seed) == (None, None)


IDLE_OPTIONS: dict[str, Any] = {
    "num_keep": 5,
    "typical_p": 1.0,
    "tfs_z": 1.0,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.1,
    "penalize_newline": True,
    "numa": False,
    "num_ctx": 512,
    "num_batch": 2,
    "num_gpu": 1,
    "main_gpu": 0,
    "low_vram": False,
    "f16_kv": True,
    "vocab_only": False,
    "logits_all": False,
    "embedding_only": False,
    "use_mmap": True,
    "use_mlock": False,
    "num_thread": 8,
}


@pytest.mark.parametrize("path", BODIES)
def test_what_loads_models_asks_for_nothing(server: Running, path: str) -> None:
    plain = asked(server, path, {})
    for name, value in IDLE_OPTIONS.items():
        assert asked(server, path, {"options": {"num_predict": 3, name: value}}) == plain, name
    idle = {"keep_alive": "5m", "truncate": False, "shift": False, "format": "", "think": False}
    for field, value in idle.items():
        assert asked(server, path, {field: value}) == plain, field
    assert asked(server, path, {"keep_alive": -1}) == plain
    assert asked(server, path, {"tools": []} if path == CHAT else {"suffix": ""}) == plain


@pytest.mark.parametrize("path", BODIES)
def test_formats(server: Running, path: str) -> None:
    structured = asked(server, path, {"format": "json"})[1].structured_outputs
    assert structured is not None
    assert structured.json_object is True
    structured = asked(server, path, {"format": {"type": "null"}})[1].structured_outputs
    assert structured is not None
    assert structured.json == '{"type":"null"}'


@pytest.mark.parametrize("path", [*BODIES, GENERATE + "?raw"])
def test_log_probabilities(http: httpx.Client, path: str) -> None:
    path, _, raw = path.partition("?")
    body = BODIES[path] | {"logprobs": True, "top_logprobs": 2} | ({"raw": True} if raw else {})
    whole = http.post(path, json=body | {"stream": False}).json()["logprobs"]
    assert [each["token"] for each in whole] == ["a", "b", "c"]
    assert whole[0]["logprob"] == -0.5
    assert [each["token"] for each in whole[0]["top_logprobs"]] == ["b", "a"]
    pieces = lines(http.post(path, json=body))
    assert [each for piece in pieces for each in piece.get("logprobs", [])] == whole


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [None, False])
def test_a_body_that_asks_nothing_looks_whether_the_model_is_there(
    http: httpx.Client, path: str, stream: bool | None
) -> None:
    for body in ({"model": MODEL}, {"model": MODEL, "keep_alive": 0}):
        answer = http.post(path, json=body if stream is None else body | {"stream": stream})
        (line,) = answer.text.splitlines()
        reply = json.loads(line)
        assert (reply["done"], reply["done_reason"], text_of(reply)) == (True, "load", "")


@pytest.mark.parametrize("path", BODIES)
def test_a_tag_may_follow_the_name(http: httpx.Client, path: str) -> None:
    body = BODIES[path] | {"stream": False, "model": MODEL + ":latest"}
    assert http.post(path, json=body).json()["model"] == MODEL + ":latest"
    for name in ("other", MODEL + ":7b", "other:latest"):
        answer = http.post(path, json=body | {"model": name})
        assert answer.status_code == 404
        assert "not served" in answer.json()["error"]


def test_a_stop_string_ends_an_answer(http: httpx.Client) -> None:
    body = CHATTING | {"options": {"stop": ["cd"]}, "stream": False}
    whole = http.post(CHAT, json=body).json()
    assert (whole["message"]["content"], whole["done_reason"]) == ("ab", "stop")


# Refusals.


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"options": {"mirostat": 1}}, "options.mirostat"),
        ({"options": {"typical_p": 0.7}}, "options.typical_p"),
        ({"options": {"repeat_last_n": -2, "repeat_penalty": 1.2}}, "options.repeat_last_n"),
        ({"options": {"penalize_newline": False}}, "options.penalize_newline"),
        ({"options": {"num_ctx": 1001}}, "options.num_ctx"),
        ({"options": {"num_predict": 2000}}, "options.num_predict"),
        ({"options": {"temperature": 200}}, "options.temperature"),
        ({"options": {"seed": 2**63}}, "options.seed"),
        ({"options": {"stop": ["x" * 2000]}}, "options.stop"),
        ({"options": {"vocab_only": True}}, "options.vocab_only"),
        ({"options": {"odd": 1}}, "options.odd"),
        ({"format": "yaml"}, "format"),
        ({"format": {"type": "nonsense"}}, "format"),
        ({"think": True}, "think"),
        ({"think": "high"}, "think"),
        ({"think": "enormous"}, "think"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"truncate": True}, "truncate"),
        ({"shift": True}, "shift"),
        ({"odd": 1}, "odd"),
        ({"model": ""}, "model"),
    ],
)
def test_what_is_refused_is_named(
    http: httpx.Client, path: str, more: dict[str, Any], named: str
) -> None:
    answer = http.post(path, json=BODIES[path] | more)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert named in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "more", "named"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
        (CHAT, {"messages": [{"content": "x"}]}, "messages[0].role"),
        (CHAT, {"tools": [{"type": "magic"}]}, "tools"),
        (GENERATE, {"images": ["aGk="]}, "images"),
        (GENERATE, {"suffix": "end"}, "suffix"),
        (GENERATE, {"template": "{{ .Prompt }}"}, "template"),
        (GENERATE, {"context": [1, 2]}, "context"),
        (GENERATE, {"raw": True, "system": "be"}, "raw"),
        (GENERATE, {"raw": True, "think": False}, "think"),
        (GENERATE, {"prompt": "x" * 2000}, "prompt"),
        (GENERATE, {"raw": True, "top_logprobs": 1}, "top_logprobs"),
    ],
)
def test_what_one_of_them_refuses(
    http: httpx.Client, path: str, more: dict[str, Any], named: str
) -> None:
    answer = http.post(path, json=BODIES[path] | more)
    assert answer.status_code == 400
    assert named in answer.json()["error"]


def test_a_body_need_not_name_its_type_unless_a_web_page_sends_it(http: httpx.Client) -> None:
    text = json.dumps(GENERATING)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert http.post(GENERATE, content=text, headers=form).status_code == 200
    assert http.post(GENERATE, content=text).status_code == 200
    page = {"origin": "https://a.example"}
    assert http.post(GENERATE, content=text, headers=form | page).status_code == 415
    assert http.post(GENERATE, json=GENERATING, headers=page).status_code == 200
    assert http.post("/v1/completions", content=text, headers=form).status_code == 415


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_breaks_off_says_why(server: Running, path: str) -> None:
    server.engine.fault = (2, TokenEvent(id="", tokens=(), finish="error", error="broken"))
    try:
        with server.http() as http:
            *pieces, last = lines(http.post(path, json=BODIES[path]))
            whole = http.post(path, json=BODIES[path] | {"stream": False})
    finally:
        server.engine.fault = None
    assert "".join(map(text_of, pieces)) == "ab"
    assert list(last) == ["error"]
    assert "broken" in last["error"]
    assert whole.status_code == 500
    assert "broken" in whole.json()["error"]
