"""Offsets of tokens in a choice's text, where tokens are no whole characters, or show nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.server.openai.logprobs import TextOffsets
from headway.text.detokenizer import Detokenizer
from tests.server.fakes import FakeTokenizer


class Bytes(FakeTokenizer):
    """A token is a byte, and 256 a special token."""

    def __init__(self) -> None:
        super().__init__()
        self._special = frozenset((256,))

    def token_bytes(self, token: int) -> bytes:
        return b"<s>" if token == 256 else bytes((token,))


def test_parts_of_characters_begin_where_the_character_does() -> None:
    offsets = TextOffsets(Bytes(), skip_special_tokens=True)
    text = "a\u00fcb\u20ac!".encode()
    assert [offsets.next(byte) for byte in text] == [0, 1, 1, 2, 3, 3, 3, 4]


def test_special_tokens_have_room_only_where_they_are_shown() -> None:
    for skipped, wanted in ((True, [0, 1, 1]), (False, [0, 1, 4])):
        offsets = TextOffsets(Bytes(), skip_special_tokens=skipped)
        assert [offsets.next(token) for token in (97, 256, 98)] == wanted


def test_a_prompt_that_is_not_shown_has_no_room() -> None:
    offsets = TextOffsets(Bytes(), "x\u00fc".encode()[:2], skip_special_tokens=True)
    assert [offsets.next(token) for token in (0xBC, 97, 98)] == [0, 1, 2]


@given(tokens=st.lists(st.integers(0, 256), max_size=40), skips=st.booleans())
def test_an_offset_is_the_length_of_the_text_before(tokens: list[int], skips: bool) -> None:
    offsets = TextOffsets(Bytes(), skip_special_tokens=skips)
    found = [offsets.next(token) for token in tokens]
    for count, offset in enumerate(found):
        assert offset == len(Detokenizer(Bytes(), (), skips).push(tokens[:count]))


LISTED = {"logprob_token_ids": [120, 97], "max_tokens": 1}


def test_listed_tokens_take_the_place_of_the_likeliest(http: httpx.Client) -> None:
    body = {"prompt": "x", "logprobs": 1} | LISTED
    [choice] = http.post("/v1/completions", json=body).json()["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{"x": -15.0, "a": -0.5}]
    chat = {"messages": [{"role": "user", "content": "x"}], "logprobs": True} | LISTED
    [choice] = http.post("/v1/chat/completions", json=chat).json()["choices"]
    [position] = choice["logprobs"]["content"]
    found = [(each["token"], each["logprob"]) for each in position["top_logprobs"]]
    assert found == [("x", -15.0), ("a", -12.125)]
    assert (position["token"], position["logprob"]) == ("a", -0.5)


def test_the_chosen_token_is_told_first_beside_those_that_are_listed(http: httpx.Client) -> None:
    """As in vLLM's answers; clients look it up as the first entry."""
    listed = {"logprob_token_ids": [120, 121], "max_tokens": 1}
    body = {"prompt": "x", "logprobs": 1} | listed
    [choice] = http.post("/v1/completions", json=body).json()["choices"]
    assert list(choice["logprobs"]["top_logprobs"][0]) == ["a", "x", "y"]
    chat = {"messages": [{"role": "user", "content": "x"}], "logprobs": True} | listed
    [choice] = http.post("/v1/chat/completions", json=chat).json()["choices"]
    [position] = choice["logprobs"]["content"]
    assert [each["token"] for each in position["top_logprobs"]] == ["a", "x", "y"]
    body = {"prompt": "x", "logprobs": 2, "max_tokens": 1}
    [choice] = http.post("/v1/completions", json=body).json()["choices"]
    assert list(choice["logprobs"]["top_logprobs"][0]) == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"logprobs": 1, "echo": True},
        {"logprobs": 1, "use_beam_search": True},
        {"logprobs": 1, "logprob_token_ids": []},
        {"logprobs": 1, "logprob_token_ids": list(range(129))},
        {"logprobs": 1, "logprob_token_ids": [0x110000]},
    ],
    ids=str,
)
def test_listed_tokens_that_cannot_be_scored_are_refused(
    http: httpx.Client, body: dict[str, Any]
) -> None:
    answer = http.post("/v1/completions", json={"prompt": "x"} | LISTED | body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "logprob_token_ids"
