"""Whatever texts, templates and variables come, others are served meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from headway.llm import ChatRenderer
from headway.llm.render_process import RenderProcess
from headway.server.system import MAX_DETOKENIZED, TOKENS_PER_TURN
from headway.text import ChatTemplate, TextConfig
from headway.text.render_worker import RenderLimits
from tests.server.conftest import Running, serving

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "hi"}]
ENDLESS = (
    "{% if endless %}{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}{% endif %}"
    "{{ messages[0].content }}:"
)


@contextmanager
def serving_template(source: str) -> Iterator[Running]:
    """A server whose template is not known, and may take half a second."""
    text = TextConfig(eos_token_ids=())
    with serving() as running:
        process = RenderProcess(source, text, limits=RenderLimits(cpu_seconds=0.5))
        facts = ChatTemplate(source, text).facts
        running.llm.chat_template = ChatRenderer(facts, local=None, process=process)
        yield running


def test_others_are_served_while_a_template_takes_its_time() -> None:
    with (
        serving_template(ENDLESS) as running,
        running.http() as http,
        ThreadPoolExecutor(2) as pool,
    ):

        def chat(**variables: object) -> httpx.Response:
            body = {"messages": HELLO, "max_tokens": 2, "chat_template_kwargs": variables}
            return httpx.post(running.url + CHAT, json=body, timeout=60)

        assert chat().status_code == 200
        hostile = pool.submit(chat, endless=True)
        behind = pool.submit(chat)
        answered = 0
        while not hostile.done():
            assert http.get("/health").status_code == 200
            answered += not hostile.done()
        assert answered > 10
        refused = hostile.result()
        assert refused.status_code == 400
        assert "more than 0.5 s of processor time" in refused.json()["error"]["message"]
        assert refused.json()["error"]["param"] == "messages"
        assert behind.result().json()["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": "x"})],
)
def test_a_client_that_leaves_while_its_prompt_is_prepared(
    server: Running, path: str, body: dict[str, Any]
) -> None:
    server.call(server.llm.encoding.clear)
    try:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
            server.until(lambda: server.state.requests == 1)
        server.until_idle()
    finally:
        server.call(server.llm.encoding.set)


@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
@pytest.mark.parametrize("name", ["self", "context", "think", "messages", "__class__"])
def test_a_variable_that_the_template_does_not_read(
    http: httpx.Client, path: str, name: str
) -> None:
    answer = http.post(path, json={"messages": HELLO, "chat_template_kwargs": {name: 1}})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "chat_template_kwargs"
    assert name == "messages" or "it reads: thinking" in error["message"]


def test_a_large_conversation(http: httpx.Client) -> None:
    messages = HELLO * 5000
    answer = http.post("/tokenize", json={"messages": messages})
    assert answer.json()["count"] == 5000 * len("user:hi;") + len("assistant:")


def test_tokens_become_text_in_turns(server: Running, http: httpx.Client) -> None:
    sizes: list[int] = []
    tokenizer = server.llm.tokenizer
    original = tokenizer.bytes_of

    def noted(ids: Sequence[int]) -> bytes:
        sizes.append(len(ids))
        return original(ids)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tokenizer, "bytes_of", noted)
        count = 10 * TOKENS_PER_TURN + 1
        answer = http.post("/detokenize", json={"tokens": [97] * count})
    assert answer.json()["prompt"] == "a" * count
    assert sizes == [TOKENS_PER_TURN] * 10 + [1]


def test_tokens_at_once_are_bounded(http: httpx.Client) -> None:
    answer = http.post("/detokenize", json={"tokens": [97] * (MAX_DETOKENIZED + 1)})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tokens"
    assert f"at most {MAX_DETOKENIZED}" in answer.json()["error"]["message"]


def test_token_strings_in_turns(http: httpx.Client) -> None:
    count = 3 * TOKENS_PER_TURN + 1
    body = {"prompt": "a" * count, "add_special_tokens": False, "return_token_strs": True}
    answer = http.post("/tokenize", json=body).json()
    assert answer["token_strs"] == ["a"] * count
