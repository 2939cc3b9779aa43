"""The whole server over HTTP: the real command, the real default model, the official client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.server.serving import MODEL, headway_serve, until_idle

pytestmark = pytest.mark.model

FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with headway_serve() as (_, url):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_capital_of_france(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=FRANCE, temperature=0, max_tokens=12
    )
    assert answer.choices[0].message.content is not None
    assert "Paris" in answer.choices[0].message.content


def test_a_stream_says_what_the_whole_says(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": FRANCE, "seed": 7, "max_tokens": 8}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**asked, stream=True)
    ]
    assert "".join(pieces) == whole


def test_tokens_text_and_logprobs_agree(client: openai.OpenAI, url: str) -> None:
    answer = client.completions.create(
        model=MODEL,
        prompt="One, two, three,",
        temperature=0,
        max_tokens=8,
        logprobs=2,
        extra_body={"return_token_ids": True},
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.model_extra is not None
    tokens = choice.model_extra["token_ids"]
    assert len(tokens) == 8
    back = httpx.post(url + "/detokenize", json={"tokens": tokens}).json()
    assert back["prompt"] == choice.text


def test_a_prediction_that_comes_true_is_drafted_and_changes_nothing(
    client: openai.OpenAI,
) -> None:
    tale: Any = [{"role": "user", "content": "Tell me of a fox and a river."}]
    asked: dict[str, Any] = {"model": MODEL, "messages": tale, "seed": 7, "max_tokens": 64}
    for temperature in (0.0, 0.8):
        asked["temperature"] = temperature
        told = client.chat.completions.create(**asked).choices[0].message.content
        foreseen: Any = {"type": "content", "content": told}
        again = client.chat.completions.create(**asked, prediction=foreseen)
        assert again.choices[0].message.content == told
        assert again.usage is not None
        details = again.usage.completion_tokens_details
        assert details is not None
        assert details.accepted_prediction_tokens is not None
        assert details.accepted_prediction_tokens > 16


def test_who_leaves_frees_everything(client: openai.OpenAI, url: str) -> None:
    for _ in range(5):
        stream = client.completions.create(
            model=MODEL, prompt="Once upon", max_tokens=1000, stream=True, n=2
        )
        next(stream)
        stream.close()
    until_idle(url)


def test_both_processes_log_json() -> None:
    command = [sys.executable, "-m", "headway", "serve", "--port", "0", "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found: dict[str, dict[str, Any]] = {}
            for text in process.stderr:
                each = json.loads(text)
                found[each["event"]] = each
                if each["event"] == "ready":
                    process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert {"listening", "engine_ready", "ready", "stopped"} <= set(found)
    engine = found["engine_ready"]
    assert (engine["logger"], engine["level"]) == ("headway.engine.build", "info")
    assert isinstance(engine["threads"], int)
    assert isinstance(engine["seconds"], float)


def test_sigterm_under_load_cuts_nothing_off() -> None:
    with headway_serve() as (process, url), ThreadPoolExecutor(4) as pool:
        body = {"prompt": "Once", "max_tokens": 12, "ignore_eos": True, "temperature": 0}
        asked = [
            pool.submit(httpx.post, url + "/v1/completions", json=body, timeout=120)
            for _ in range(4)
        ]
        give_up = time.monotonic() + 60
        while httpx.get(url + "/load").json()["server_load"] < 4:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        counts = [answer.result().json()["usage"]["completion_tokens"] for answer in asked]
        assert counts == [12] * 4
        assert process.wait(60) == 0
