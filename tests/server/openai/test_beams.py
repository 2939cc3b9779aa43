"""Beam search over HTTP: the best beams are the choices, and what it cannot do is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.server.conftest import Running

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
ASKED: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"prompt": "x"},
    CHAT: {"messages": [{"role": "user", "content": "x"}]},
}
BEAMS: dict[str, Any] = {"use_beam_search": True, "n": 2, "max_tokens": 2}


@pytest.mark.parametrize("path", ASKED)
def test_choices_are_the_best_beams(server: Running, http: httpx.Client, path: str) -> None:
    server.llm.asked.clear()
    answer = http.post(path, json=ASKED[path] | BEAMS | {"length_penalty": 0.5}).json()
    choices = answer["choices"]
    texts = [each.get("text") or each["message"]["content"] for each in choices]
    assert texts == ["bb", "ba"]
    assert [each["index"] for each in choices] == [0, 1]
    assert {each["finish_reason"] for each in choices} == {"length"}
    assert answer["usage"]["completion_tokens"] == 4
    params = server.llm.asked[0][1]
    assert (params.use_beam_search, params.length_penalty, params.temperature) == (True, 0.5, 0.0)


def test_log_probabilities_are_those_along_the_beams(http: httpx.Client) -> None:
    body = {"prompt": ["x", "y"], "logprobs": 1} | BEAMS
    choices = http.post(COMPLETIONS, json=body).json()["choices"]
    assert len(choices) == 4
    assert choices[3]["logprobs"]["token_logprobs"] == [-0.25, -0.5]
    assert choices[3]["logprobs"]["top_logprobs"][1] == {"b": -0.25, "a": -0.5}


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"stream": True}, "use_beam_search"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"temperature": 1.0}, "temperature"),
        ({"stop": "a"}, "stop"),
        ({"guided_regex": "a"}, "guided_regex"),
        ({"n": 40}, "n"),
        ({"slo": {"ttft_ms": 9}}, "slo"),
        ({"length_penalty": 11}, "length_penalty"),
        ({"use_beam_search": False, "length_penalty": 2}, "length_penalty"),
    ],
    ids=str,
)
def test_what_a_search_cannot_do_is_refused(
    http: httpx.Client, extra: dict[str, Any], field: str
) -> None:
    answer = http.post(COMPLETIONS, json={"prompt": "x"} | BEAMS | extra)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
    assert field in answer.json()["error"]["message"]
