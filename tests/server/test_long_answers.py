"""Long answers are written off the event loop, and what choices share is made once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from headway.llm import ChoiceCollector
from headway.server import generate
from headway.server.openai.completions import CompletionFormatter
from tests.server.conftest import Running


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "x", "max_tokens": 6, "n": 2}, 12),
        ({"prompt": [5] * 10, "max_tokens": 3, "prompt_logprobs": 1}, 12),
    ],
)
def test_from_so_many_tokens_on_a_thread_writes(
    server: Running, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], tokens: int
) -> None:
    threads: list[threading.Thread] = []
    write = CompletionFormatter.body

    def noting(self: CompletionFormatter, choices: Sequence[ChoiceCollector]) -> bytes:
        threads.append(threading.current_thread())
        return write(self, choices)

    monkeypatch.setattr(CompletionFormatter, "body", noting)
    loop = server.call(threading.current_thread)
    answers = []
    for most in (tokens + 1, tokens):
        monkeypatch.setattr(generate, "LONG_ANSWER", most)
        with server.http() as http:
            answers.append(http.post("/v1/completions", json=body | {"seed": 1}).json()["choices"])
    assert [thread is loop for thread in threads] == [True, False]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("stream", [True, False])
def test_an_echo_is_decoded_once_a_prompt(
    server: Running, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    decoded: list[tuple[int, ...]] = []
    decode = server.llm.tokenizer.decode

    def counting(ids: tuple[int, ...]) -> str:
        decoded.append(ids)
        return decode(ids)

    monkeypatch.setattr(server.llm.tokenizer, "decode", counting)
    body = {"prompt": [[120], [121]], "n": 3, "echo": True, "max_tokens": 1, "stream": stream}
    with server.http() as http:
        text = http.post("/v1/completions", json=body).text
    assert decoded == [(120,), (121,)]
    assert [text.count('"xa"'), text.count('"ya"')] == [3, 3]
