"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

import httpx
import pytest

from headway.config import ServerConfig
from headway.text import TextConfig
from tests.server.conftest import Running, serving
from tests.server.fakes import TEMPLATE

MESSAGES = [{"role": "user", "content": "hi"}]


def test_a_text_to_tokens_and_back(http: httpx.Client) -> None:
    answer = http.post("/tokenize", json={"prompt": "ab"}).json()
    assert answer == {
        "count": 3,
        "max_model_len": 1000,
        "tokens": [2, 97, 98],
        "token_strs": None,
    }
    back = http.post("/detokenize", json={"tokens": [97, 98]}).json()
    assert back == {"prompt": "ab", "content": "ab"}


def test_without_special_tokens_and_with_strings(http: httpx.Client) -> None:
    body = {"prompt": "ab", "add_special_tokens": False, "return_token_strs": True}
    answer = http.post("/tokenize", json=body).json()
    assert answer["token_strs"] == ["a", "b"]


def test_messages_as_they_reach_the_model(http: httpx.Client) -> None:
    tokens = http.post("/tokenize", json={"messages": MESSAGES}).json()["tokens"]
    assert "".join(map(chr, tokens)) == "user:hi;assistant:"
    body = {"messages": MESSAGES, "add_generation_prompt": False}
    tokens = http.post("/tokenize", json=body).json()["tokens"]
    assert "".join(map(chr, tokens)) == "user:hi;"


def test_content_as_llama_cpp_has_it(http: httpx.Client) -> None:
    tokens = [
        http.post("/tokenize", json={"content": text}).json()["tokens"] for text in ("ab", "")
    ]
    assert tokens == [[97, 98], []]
    body = {"content": "ab", "add_special": True, "parse_special": True}
    assert http.post("/tokenize", json=body).json()["tokens"] == [2, 97, 98]
    pieces = http.post("/tokenize", json={"content": "ab", "with_pieces": True}).json()["tokens"]
    assert pieces == [{"id": 97, "piece": "a"}, {"id": 98, "piece": "b"}]


def test_a_piece_that_is_no_text_is_bytes(server: Running, http: httpx.Client) -> None:
    tokenizer = server.llm.tokenizer
    whole = tokenizer.token_bytes
    tokenizer.token_bytes = lambda token: whole(token)[:1]  # type: ignore[method-assign]
    try:
        body = {"content": "\u00e1", "with_pieces": True}
        pieces = http.post("/tokenize", json=body).json()["tokens"]
    finally:
        del tokenizer.token_bytes
    assert pieces == [{"id": 0xE1, "piece": [0xC3]}]


def test_many_tokens(http: httpx.Client) -> None:
    back = http.post("/detokenize", json={"tokens": [97] * 5000}).json()
    assert back["prompt"] == "a" * 5000


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"prompt": "x", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"prompt": 1}, "prompt"),
        ("/tokenize", {"prompt": "x", "content": "x"}, "prompt"),
        ("/tokenize", {"prompt": "x", "with_pieces": True}, "with_pieces"),
        ("/tokenize", {"messages": MESSAGES, "add_special": True}, "add_special"),
        ("/tokenize", {"content": "x", "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"content": "x", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"content": "x", "parse_special": False}, "parse_special"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [0x10FFFF]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1], "prompt": ""}, "prompt"),
    ],
)
def test_errors_name_the_field(
    http: httpx.Client, path: str, body: dict[str, object], field: str
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_another_model(http: httpx.Client) -> None:
    assert http.post("/tokenize", json={"prompt": "x", "model": "other"}).status_code == 404


def test_the_tokenizer_is_told_of_where_that_is_wanted(http: httpx.Client) -> None:
    refused = http.get("/tokenizer_info")
    assert refused.status_code == 404
    assert "--enable-tokenizer-info-endpoint" in refused.json()["error"]["message"]
    config = ServerConfig(port=0, enable_tokenizer_info_endpoint=True)
    with serving(config=config) as server:
        tokenizer = server.llm.tokenizer
        tokenizer.config = TextConfig(eos_token_ids=(7,), eos_token="<|end|>", add_bos=True)
        tokenizer._special = frozenset((65,))
        with server.http() as asking:
            told = asking.get("/tokenizer_info").json()
    assert told["tokenizer_class"]
    assert (told["eos_token"], told["bos_token"]) == ("<|end|>", None)
    assert (told["add_bos_token"], told["add_eos_token"]) == (True, False)
    assert told["model_max_length"] == 1000
    assert told["added_tokens_decoder"] == {"65": {"content": "A", "special": True}}
    assert told["additional_special_tokens"] == ["A"]
    assert told["chat_template"] == TEMPLATE


def test_the_tokenizer_is_told_to_those_with_a_key() -> None:
    config = ServerConfig(port=0, enable_tokenizer_info_endpoint=True, api_key=("k",))
    with serving(config=config) as server, server.http() as http:
        assert http.get("/tokenizer_info").status_code == 401
        assert http.get("/tokenizer_info", headers={"x-api-key": "k"}).status_code == 200
