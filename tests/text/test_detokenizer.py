"""Streamed text is the whole text, for any tokens and any split of them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from headway.text import Detokenizer, Tokenizer
from tests.text.conftest import byte_level, sentencepiece

KINDS = (byte_level(), sentencepiece())
TOKENS = st.lists(st.integers(min_value=0, max_value=280), max_size=40)


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


def test_a_character_is_held_until_it_is_whole() -> None:
    tokenizer = KINDS[0]
    ids = tokenizer.encode("é🙂")
    stream = Detokenizer(tokenizer)
    assert [stream.push([token]) for token in ids] == ["", "é", "", "", "", "🙂"]
    assert stream.push(ids[:1]) == ""
    assert stream.flush() == "\ufffd"


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
