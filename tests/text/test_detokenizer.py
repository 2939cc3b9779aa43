"""Streamed text is the whole text, for any tokens and any split of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.text import Detokenizer, Tokenizer
from tests.text.conftest import byte_level, sentencepiece

KINDS = (byte_level(), sentencepiece())
TOKENS = st.lists(st.integers(min_value=0, max_value=280), max_size=40)


class Counting(Tokenizer):
    """Notes which tokens' bytes were asked for."""

    def __init__(self, tokenizer: Tokenizer, asked: list[int]) -> None:
        super().__init__(tokenizer._backend, tokenizer.config)
        self._asked = asked

    def token_bytes(self, token: int) -> bytes:
        self._asked.append(token)
        return super().token_bytes(token)


@given(
    tokenizer=st.sampled_from(KINDS),
    tokens=TOKENS,
    cuts=st.lists(st.integers(min_value=0, max_value=40)),
    skip=st.booleans(),
)
def test_any_split_gives_the_text_of_the_whole(
    tokenizer: Tokenizer, tokens: list[int], cuts: list[int], skip: bool
) -> None:
    stream = Detokenizer(tokenizer, (), skip)
    places = [0, *sorted(cuts), len(tokens)]
    text = "".join(stream.push(tokens[start:stop]) for start, stop in itertools.pairwise(places))
    assert text + stream.flush() == tokenizer.decode(tokens, skip_special_tokens=skip)


@given(tokenizer=st.sampled_from(KINDS), text=st.text(max_size=40))
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    plain = text.replace("\u2581", " ") if tokenizer.config.add_space_prefix else text
    assert tokenizer.decode(ids, skip_special_tokens=False) == plain


@given(
    tokens=st.lists(st.integers(min_value=0, max_value=270), max_size=40),
    cut=st.integers(min_value=0, max_value=40),
    skip=st.booleans(),
)
def test_byte_level_text_is_what_the_library_decodes(
    tokens: list[int], cut: int, skip: bool
) -> None:
    """Ids beyond the vocabulary stand for nothing; a character that breaks off is one U+FFFD."""
    tokenizer = KINDS[0]
    stream = Detokenizer(tokenizer, (), skip)
    text = stream.push(tokens[:cut]) + stream.push(tokens[cut:]) + stream.flush()
    assert text == tokenizer._backend.decode(tokens, skip_special_tokens=skip)


@given(text=st.text(alphabet="helo é\u00df🙂", max_size=30))
def test_sentencepiece_text_is_what_the_library_decodes(text: str) -> None:
    tokenizer = KINDS[1]
    ids = tokenizer.encode(text, add_special_tokens=False)
    stream = Detokenizer(tokenizer)
    streamed = "".join(stream.push([token]) for token in ids) + stream.flush()
    assert streamed == tokenizer._backend.decode(ids)


@pytest.mark.parametrize("tokenizer", KINDS)
def test_a_token_is_looked_up_once_and_none_that_there_is_not_is_kept(
    tokenizer: Tokenizer,
) -> None:
    asked: list[int] = []
    known = Counting(tokenizer, asked)
    for _ in range(3):
        Detokenizer(known).push([72, 72, 90, 5_000_000, -1])
    assert asked == [72, 90, *[5_000_000, -1] * 3]
    assert set(known.known_bytes) == {72, 90}


def test_a_character_is_held_until_it_is_whole() -> None:
    tokenizer = KINDS[0]
    ids = tokenizer.encode("é🙂")
    stream = Detokenizer(tokenizer)
    assert [stream.push([token]) for token in ids] == ["", "é", "", "", "", "🙂"]
    assert stream.push(ids[:1]) == ""
    assert stream.flush() == "\ufffd"


def test_a_character_that_does_not_go_on_is_replaced_before_what_follows() -> None:
    tokenizer = KINDS[0]
    (first, _), (letter,) = tokenizer.encode("é"), tokenizer.encode("x")
    stream = Detokenizer(tokenizer)
    assert [stream.push([first]), stream.push([letter]), stream.flush()] == ["", "\ufffdx", ""]


def test_the_prompt_decides_about_the_first_space() -> None:
    tokenizer = KINDS[1]
    hello = tokenizer.encode("hello")
    assert Detokenizer(tokenizer).push(hello) == "hello"
    assert Detokenizer(tokenizer, [1]).push(hello) == "hello"  # after <s>, which shows nothing
    assert Detokenizer(tokenizer, hello).push(hello) == " hello"


def test_a_character_that_the_prompt_left_open_is_completed() -> None:
    tokenizer = KINDS[0]
    ids = tokenizer.encode("é")
    assert Detokenizer(tokenizer, ids[:1]).push(ids[1:]) == "é"
