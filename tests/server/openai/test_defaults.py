"""What requests get that leave sampling open: the served model's defaults, never over their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headway.types import SamplingParams
from headway.types.sampling_defaults import SAFE_CHAT, DefaultSampling, SamplingDefaults
from tests.server.conftest import Running, serving

COMPLETIONS = SamplingDefaults(temperature=0.3, max_tokens=7)


@pytest.fixture(scope="module", name="defaulting")
def _defaulting() -> Iterator[Running]:
    with serving() as running:
        chat = SamplingDefaults(max_tokens=5).over(SAFE_CHAT)
        running.llm.default_sampling = DefaultSampling(chat=chat, completions=COMPLETIONS)
        yield running


def params_of(server: Running, path: str, **body: Any) -> SamplingParams:
    server.llm.asked.clear()
    with server.http() as http:
        answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return server.llm.asked[0][1]


def chat(server: Running, **body: Any) -> SamplingParams:
    messages = [{"role": "user", "content": "x"}]
    return params_of(server, "/v1/chat/completions", messages=messages, **body)


def test_a_chat_that_leaves_it_open(defaulting: Running) -> None:
    assert chat(defaulting) == SamplingParams(
        temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, max_tokens=5
    )
    assert chat(defaulting, temperature=None, max_tokens=None).temperature == 0.8


def test_a_chats_own_values_count(defaulting: Running) -> None:
    own = chat(defaulting, temperature=0, top_k=0, top_p=1, min_p=0, max_completion_tokens=9)
    assert own == SamplingParams(temperature=0, max_tokens=9)
    assert chat(defaulting, min_tokens=6).max_tokens == 6


def test_a_completion_that_leaves_it_open(defaulting: Running) -> None:
    found = params_of(defaulting, "/v1/completions", prompt="x")
    assert found == SamplingParams(temperature=0.3, max_tokens=16)
    assert params_of(defaulting, "/v1/completions", prompt="x", temperature=1).temperature == 1


def test_models_tell_their_defaults(defaulting: Running) -> None:
    with defaulting.http() as http:
        (listed,) = http.get("/v1/models").json()["data"]
        assert http.get("/v1/models/alphabet").json() == listed
    assert listed["default_sampling_params"] == {
        "chat": {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "max_tokens": 5},
        "completions": {"temperature": 0.3, "max_tokens": 7},
    }


def test_without_defaults_nothing_is_added(server: Running) -> None:
    assert chat(server, max_tokens=3) == SamplingParams(max_tokens=3)


def test_a_search_of_beams_draws_nothing_whatever_the_model_says(defaulting: Running) -> None:
    asked = chat(defaulting, use_beam_search=True, n=2)
    assert asked == SamplingParams(use_beam_search=True, n=2, temperature=0.0, max_tokens=5)
